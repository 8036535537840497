"""Approver groups in the admin: filled through the services, and seen by members only."""

from django.test import TestCase
from django.urls import reverse

from apps.catalog.models import ApproverGroup
from apps.ledger.models import Entry
from tests.clients import signed_in
from tests.factories import make_group, make_member, make_service, make_user


class ApproverGroupAdminTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.root = make_user("root", is_superuser=True, is_staff=True)
        cls.web = make_service("web")
        cls.ann = make_member(cls.web, "approver", username="ann")
        cls.ben = make_member(cls.web, "approver", username="ben")
        cls.cleo = make_member(cls.web, "developer", username="cleo", is_staff=True)

    def setUp(self) -> None:
        self.client = signed_in(self.root)

    def page(self, group: ApproverGroup) -> str:
        return reverse("admin:catalog_approvergroup_change", args=[group.pk])

    def acts(self) -> list[tuple[str, str]]:
        entries = Entry.objects.filter(actor=self.root).order_by("sequence")
        return [(entry.action, entry.data.get("username", "")) for entry in entries]

    def test_it_is_made_and_filled(self) -> None:
        form = {"service": self.web.pk, "name": "qa"}
        self.client.post(reverse("admin:catalog_approvergroup_add"), form)
        group = ApproverGroup.objects.get()
        self.client.post(self.page(group), {"approvers": [self.ann.pk, self.ben.pk]})
        assert set(group.members.all()) == {self.ann, self.ben}
        self.client.post(self.page(group), {"approvers": [self.ben.pk]})
        assert set(group.members.all()) == {self.ben}
        made, *added, removed = self.acts()
        assert made == ("group.registered", "")
        assert sorted(added) == [("group.member_added", "ann"), ("group.member_added", "ben")]
        assert removed == ("group.member_removed", "ann")

    def test_only_approvers_are_offered(self) -> None:
        group = make_group(self.web, "qa")
        response = self.client.post(self.page(group), {"approvers": [self.cleo.pk]})
        self.assertContains(response, "Select a valid choice")
        assert not group.members.exists()

    def test_a_member_sees_it_and_changes_nothing(self) -> None:
        group = make_group(self.web, "qa", self.ann)
        client = signed_in(self.cleo)
        self.assertContains(client.get(self.page(group)), "ann")
        assert client.post(self.page(group), {"approvers": []}).status_code == 403
        assert list(group.members.all()) == [self.ann]

    def test_it_is_not_deleted(self) -> None:
        group = make_group(self.web, "qa")
        page = reverse("admin:catalog_approvergroup_delete", args=[group.pk])
        assert self.client.post(page, {"post": "yes"}).status_code == 403
        assert ApproverGroup.objects.exists()
