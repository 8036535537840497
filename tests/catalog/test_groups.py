"""Approver groups: who is in them, and what the ledger says of it."""

import pytest
from django.db.utils import IntegrityError
from django.test import TestCase

from apps.catalog.groups import add_to_group, get_group, register_group, remove_from_group
from apps.catalog.models import ApproverGroup
from apps.catalog.services import revoke_role
from apps.errors import Invalid, NotFound
from apps.ledger.models import Entry
from tests.factories import make_group, make_member, make_service, make_user


def recorded():
    return [(entry.action, entry.data) for entry in Entry.objects.order_by("sequence")]


class ApproverGroupTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.shop = make_service("shop")
        cls.ann = make_member(cls.shop, "operator", username="ann")
        cls.ben = make_member(cls.shop, "approver", "viewer", username="ben")

    def test_a_group_is_made_once(self):
        group = register_group(service=self.shop, name="release-managers", by=self.ann)
        assert register_group(service=self.shop, name="release-managers") == group
        assert get_group(service=self.shop, name="release-managers") == group
        assert recorded() == [("group.registered", {"group": "release-managers"})]

    def test_a_bad_name_is_refused(self):
        with pytest.raises(Invalid, match=r"Group 'QA!' of shop: Use lower-case"):
            register_group(service=self.shop, name="QA!")
        assert not ApproverGroup.objects.exists()

    def test_a_name_is_of_one_group_in_a_service_and_free_in_another(self):
        make_group(self.shop, "qa")
        make_group(make_service("blog"), "qa")
        with pytest.raises(IntegrityError):
            make_group(self.shop, "qa")

    def test_an_unknown_group_lists_the_known_ones(self):
        make_group(self.shop, "qa")
        with pytest.raises(NotFound, match=r"shop has no group 'aq'. Known: qa"):
            get_group(service=self.shop, name="aq")

    def test_adding_and_removing_twice_is_recorded_once(self):
        group = make_group(self.shop, "qa")
        assert add_to_group(group=group, user=self.ben, by=self.ann)
        assert not add_to_group(group=group, user=self.ben, by=self.ann)
        assert list(group.members.all()) == [self.ben]
        assert remove_from_group(group=group, user=self.ben, by=self.ann)
        assert not remove_from_group(group=group, user=self.ben, by=self.ann)
        assert not group.members.exists()
        who = {"group": "qa", "username": "ben"}
        assert recorded() == [("group.member_added", who), ("group.member_removed", who)]

    def test_only_active_approvers_of_the_service_can_be_in_it(self):
        group = make_group(self.shop, "qa")
        elsewhere = make_member(make_service("blog"), "approver", username="eve")
        gone = make_member(self.shop, "approver", username="gus", is_active=False)
        for user in (self.ann, elsewhere, gone, make_user("joe")):
            with pytest.raises(Invalid, match=f"{user.username} is no approver of shop"):
                add_to_group(group=group, user=user)
        assert not group.members.exists()

    def test_who_is_no_longer_approver_leaves_the_groups_of_this_service_only(self):
        blog = make_service("blog")
        make_member(blog, "approver", username="cleo")
        here, there = make_group(self.shop, "qa", self.ben), make_group(blog, "qa", self.ben)
        revoke_role(user=self.ben, service=self.shop, role="viewer", by=self.ann)
        assert here.members.exists()
        revoke_role(user=self.ben, service=self.shop, role="approver", by=self.ann)
        assert not here.members.exists()
        assert there.members.exists()
        actions = [action for action, _ in recorded()]
        assert actions == ["membership.revoked", "group.member_removed", "membership.revoked"]
