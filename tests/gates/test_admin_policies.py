"""Policies in the admin: editing one writes the next version."""

import json

from django.test import TestCase
from django.urls import reverse

from apps.gates.models import Policy
from apps.gates.services import save_policy
from apps.ledger.models import Entry
from tests.clients import signed_in
from tests.factories import make_environment, make_member, make_user

RULES = [{"rule": "max_failures", "parameters": {"maximum": 2}}]


class PolicyAdminTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.environment = make_environment()
        cls.root = make_user("root", is_superuser=True, is_staff=True)
        cls.first = save_policy(environment=cls.environment, rules=[], created_by=cls.root)
        cls.page = reverse("admin:gates_policy_change", args=[cls.first.pk])

    def setUp(self) -> None:
        self.client = signed_in(self.root)

    def test_editing_writes_the_next_version(self) -> None:
        response = self.client.post(self.page, {"rules": json.dumps(RULES)}, follow=True)
        self.assertContains(response, "stays as it was")
        second = Policy.objects.get(version=2)
        assert second.rules[0]["parameters"]["maximum"] == 2
        assert second.created_by == self.root
        self.first.refresh_from_db()
        assert (self.first.version, self.first.rules) == (1, [])
        assert Entry.objects.filter(subject=f"policy:{second.pk}", actor=self.root).exists()

    def test_saving_what_is_in_force_writes_nothing(self) -> None:
        response = self.client.post(self.page, {"rules": "[]"}, follow=True)
        self.assertContains(response, "Nothing changed")
        assert Policy.objects.count() == 1

    def test_an_older_version_cannot_be_edited(self) -> None:
        save_policy(environment=self.environment, rules=RULES, created_by=None)
        assert self.client.post(self.page, {"rules": json.dumps(RULES)}).status_code == 403
        self.assertContains(self.client.get(self.page), "Rules")

    def test_the_first_policy_of_an_environment_can_be_added(self) -> None:
        bare = make_environment(self.environment.service, "production")
        data = {"environment": bare.pk, "rules": json.dumps(RULES)}
        self.client.post(reverse("admin:gates_policy_add"), data)
        assert bare.policies.get().version == 1

    def test_what_the_gates_do_not_know_is_refused_at_the_field(self) -> None:
        for rules, words in (
            ("[", "valid JSON"),
            ('[{"rule": "lucky"}]', "Unknown rule"),
            ('[{"rule": "max_failures", "parameters": {"most": 1}}]', "no parameter most"),
            ("{}", "list of rules"),
        ):
            with self.subTest(rules):
                response = self.client.post(self.page, {"rules": rules})
                self.assertContains(response, words)
        assert Policy.objects.count() == 1

    def test_each_version_shows_what_it_changed(self) -> None:
        self.assertContains(self.client.get(self.page), "The first version.")
        second = save_policy(environment=self.environment, rules=RULES, created_by=None)
        third = save_policy(
            environment=self.environment,
            rules=[{"rule": "max_failures", "parameters": {"maximum": 5}}],
            created_by=None,
        )
        self.assertContains(
            self.client.get(reverse("admin:gates_policy_change", args=[second.pk])), "+  - rule: max_failures"
        )
        page = self.client.get(reverse("admin:gates_policy_change", args=[third.pk]))
        self.assertContains(page, "-      maximum: 2")
        self.assertContains(page, "+      maximum: 5")

    def test_the_form_tells_what_rules_there_are(self) -> None:
        self.assertContains(self.client.get(self.page), "Failures and errors that are accepted, in all.")

    def test_an_operator_reads_it_only(self) -> None:
        operator = make_member(self.environment.service, "operator", is_staff=True)
        client = signed_in(operator)
        assert client.get(self.page).status_code == 200
        assert client.post(self.page, {"rules": json.dumps(RULES)}).status_code == 403
