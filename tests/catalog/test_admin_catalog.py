"""Services, environments and memberships in the admin: what is written there is in the ledger."""

from django.test import TestCase
from django.urls import reverse

from apps.catalog.models import Environment, Membership, Service
from apps.ledger.models import Entry
from tests.clients import signed_in
from tests.factories import make_environment, make_service, make_user

PARTS = ("TOTAL", "INITIAL")


class CatalogAdminTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.root = make_user("root", is_superuser=True, is_staff=True)
        cls.service = make_service("web")
        cls.staging = make_environment(cls.service, "staging")
        cls.production = make_environment(cls.service, "production", upstreams=(cls.staging,))
        cls.user = make_user("ann")

    def setUp(self) -> None:
        self.client = signed_in(self.root)

    def environment_form(self, environment: Environment, **data: object) -> dict[str, object]:
        return {
            "position": 3,
            "auto_promote": "on",
            "application": environment.application,
            "deployment_group": environment.deployment_group,
            "upstream_mode": "all",
            "promoted_from": [],
            **data,
        }

    def acts(self) -> list[str]:
        return list(Entry.objects.filter(actor=self.root).order_by("id").values_list("action", flat=True))

    def test_a_service_is_added_and_changed(self) -> None:
        form = {"slug": "api", "name": "API", "bucket": "api-bundles", "codebuild_project": "api"}
        self.client.post(reverse("admin:catalog_service_add"), form)
        service = Service.objects.get(slug="api")
        page = reverse("admin:catalog_service_change", args=[service.pk])
        rows = {f"{name}-{part}_FORMS": 0 for name in ("environments", "memberships") for part in PARTS}
        self.client.post(page, form | rows | {"slug": "other", "name": "The API"})
        service.refresh_from_db()
        assert (service.slug, service.name) == ("api", "The API")
        assert self.acts() == ["service.registered"] * 2
        self.client.post(page, form | rows | {"slug": "api", "name": "The API", "evidence_days": 365})
        service.refresh_from_db()
        assert service.evidence_days == 365
        assert self.acts()[2:] == ["service.evidence_days"]

    def test_an_environment_gets_its_upstreams(self) -> None:
        page = reverse("admin:catalog_environment_change", args=[self.production.pk])
        self.client.post(page, self.environment_form(self.production))
        self.production.refresh_from_db()
        assert self.production.position == 3
        assert self.production.auto_promote
        assert not self.production.upstreams.exists()
        assert self.acts() == ["environment.registered"]

    def test_a_cycle_is_refused_by_a_message(self) -> None:
        page = reverse("admin:catalog_environment_change", args=[self.staging.pk])
        form = self.environment_form(self.staging, promoted_from=[self.production.pk])
        response = self.client.post(page, form, follow=True)
        self.assertContains(response, "cannot be promoted from production")
        self.staging.refresh_from_db()
        assert self.staging.position == 0, "a refused form writes nothing"
        assert self.acts() == []

    def test_an_environment_of_another_service_is_no_choice(self) -> None:
        other = make_environment(make_service("other"), "staging")
        page = reverse("admin:catalog_environment_change", args=[self.production.pk])
        form = self.environment_form(self.production, promoted_from=[other.pk])
        self.assertContains(self.client.post(page, form), "Select a valid choice")

    def test_roles_are_given_and_taken_away(self) -> None:
        form = {"user": self.user.pk, "service": self.service.pk, "role": "approver"}
        self.client.post(reverse("admin:catalog_membership_add"), form)
        membership = Membership.objects.get()
        assert (membership.user, membership.role) == (self.user, "approver")
        page = reverse("admin:catalog_membership_delete", args=[membership.pk])
        self.client.post(page, {"post": "yes"})
        assert not Membership.objects.exists()
        self.client.post(reverse("admin:catalog_membership_add"), form)
        chosen = {
            "action": "delete_selected",
            "_selected_action": [Membership.objects.get().pk],
            "post": "yes",
        }
        self.client.post(reverse("admin:catalog_membership_changelist"), chosen)
        assert not Membership.objects.exists()
        assert self.acts() == ["membership.granted", "membership.revoked"] * 2

    def test_an_operator_cannot_make_himself_an_approver(self) -> None:
        operator = make_user("olaf", is_staff=True)
        membership = Membership.objects.create(user=operator, service=self.service, role="operator")
        client = signed_in(operator)
        form = {"user": operator.pk, "service": self.service.pk, "role": "approver"}
        assert client.post(reverse("admin:catalog_membership_add"), form).status_code == 403
        page = reverse("admin:catalog_membership_change", args=[membership.pk])
        assert client.post(page, form).status_code == 403
        assert list(operator.memberships.values_list("role", flat=True)) == ["operator"]
