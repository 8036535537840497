import pytest
from django.test import TestCase

from apps.catalog.models import Environment, Membership, Service, Upstream
from apps.catalog.permissions import MOVERS, Role, require_role, roles_of
from apps.catalog.services import (
    get_environment,
    get_service,
    grant_role,
    keep_evidence,
    register_environment,
    register_service,
    revoke_role,
)
from apps.errors import Forbidden, Invalid, NotFound
from apps.ledger.models import Entry
from tests.factories import make_environment, make_member, make_service, make_user


def shop(**fields):
    return register_service(
        **{"slug": "shop", "name": "Shop", "bucket": "shop", "codebuild_project": "shop", **fields}
    )


def actions():
    return list(Entry.objects.order_by("sequence").values_list("action", flat=True))


class RegisterServiceTests(TestCase):
    def test_it_is_made_once_and_brought_up_to_date(self):
        first = shop()
        assert shop() == first
        assert shop(bucket="other") == first
        assert Service.objects.get().bucket == "other"
        # Nothing changed in between, so nothing was recorded.
        assert actions() == ["service.registered", "service.registered"]

    def test_it_says_how_long_its_evidence_is_kept(self):
        service = shop()
        assert service.evidence_days is None
        for _ in range(2):
            keep_evidence(service=service, days=30)
        assert Service.objects.get().evidence_days == 30
        # To register it again leaves that as it is.
        shop(bucket="other")
        assert Service.objects.get().evidence_days == 30
        keep_evidence(service=service, days=None)
        assert Service.objects.get().evidence_days is None
        assert actions().count("service.evidence_days") == 2
        for days in (0, -1, 40_000):
            with pytest.raises(Invalid, match="Service 'shop': evidence_days"):
                keep_evidence(service=service, days=days)

    def test_a_bad_slug_is_refused_with_its_field(self):
        with pytest.raises(Invalid, match=r"Service 'Shop!': slug: Use lower-case"):
            shop(slug="Shop!")
        assert not Service.objects.exists()

    def test_a_project_belongs_to_one_service(self):
        shop()
        with pytest.raises(Invalid, match="codebuild_project"):
            shop(slug="other")

    def test_unknown_names_list_the_known_ones(self):
        make_environment(shop(), "staging")
        with pytest.raises(NotFound, match=r"no service 'shp'. Known: shop"):
            get_service("shp")
        with pytest.raises(NotFound, match=r"shop has no environment 'prod'. Known: staging"):
            get_environment(service=get_service("shop"), slug="prod")


class RegisterEnvironmentTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.service = make_service("shop")

    def environment(self, slug, *upstreams, **fields):
        defaults = {"application": "shop", "deployment_group": slug, "upstreams": upstreams}
        return register_environment(service=self.service, slug=slug, **{**defaults, **fields})

    def test_upstreams_are_kept_and_replaced(self):
        test, staging = self.environment("test"), self.environment("staging")
        production = self.environment("production", test, staging, upstream_mode="any")
        assert set(production.upstreams.all()) == {test, staging}
        self.environment("production", staging, upstream_mode="any")
        assert list(production.upstreams.all()) == [staging]
        before = len(actions())
        self.environment("production", staging, upstream_mode="any")
        assert len(actions()) == before

    def test_a_cycle_is_refused_and_nothing_changes(self):
        one = self.environment("one")
        two = self.environment("two", one)
        three = self.environment("three", two)
        with pytest.raises(Invalid, match=r"one cannot be promoted from three: three is itself promoted"):
            self.environment("one", three)
        assert Upstream.objects.count() == 2

    def test_an_environment_is_not_its_own_upstream(self):
        one = self.environment("one")
        with pytest.raises(Invalid):
            self.environment("one", one)

    def test_an_upstream_of_another_service_is_refused(self):
        other = make_environment(make_service("other"), "staging")
        with pytest.raises(Invalid, match="belongs to another service"):
            self.environment("production", other)
        assert not Environment.objects.filter(service=self.service).exists()

    def test_one_group_is_one_environment(self):
        self.environment("one")
        with pytest.raises(Invalid, match="Environment 'two' of shop"):
            self.environment("two", deployment_group="one")


class RoleTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.service = make_service("shop")
        cls.ann = make_member(cls.service, "developer", username="ann")
        cls.eve = make_user("eve")

    def test_a_member_with_the_role_may(self):
        require_role(user=self.ann, service=self.service, roles=MOVERS)

    def test_a_member_without_it_is_told_what_it_takes(self):
        with pytest.raises(Forbidden, match="ann must be approver of shop"):
            require_role(user=self.ann, service=self.service, roles={Role.APPROVER})

    def test_a_stranger_learns_nothing(self):
        with pytest.raises(NotFound):
            require_role(user=self.eve, service=self.service, roles=MOVERS)

    def test_a_superuser_passes_and_holds_no_role(self):
        root = make_user("root", is_superuser=True)
        require_role(user=root, service=self.service, roles=MOVERS)
        assert roles_of(user=root, service=self.service) == set()

    def test_someone_inactive_holds_nothing(self):
        self.ann.is_active = False
        with pytest.raises(NotFound):
            require_role(user=self.ann, service=self.service, roles=MOVERS)

    def test_granting_and_revoking_twice_changes_nothing(self):
        grant_role(user=self.eve, service=self.service, role="approver", by=self.ann)
        grant_role(user=self.eve, service=self.service, role="approver", by=self.ann)
        assert Membership.objects.filter(user=self.eve).count() == 1
        assert revoke_role(user=self.eve, service=self.service, role="approver")
        assert not revoke_role(user=self.eve, service=self.service, role="approver")
        assert actions() == ["membership.granted", "membership.revoked"]

    def test_an_unknown_role_is_refused(self):
        with pytest.raises(Invalid, match="Unknown role 'boss'"):
            grant_role(user=self.eve, service=self.service, role="boss")
