"""Policies in the admin: editing one writes the next version."""

from dataclasses import fields
from html.parser import HTMLParser

from django.test import TestCase
from django.urls import reverse

from apps.gates.models import Policy
from apps.gates.rules import RULES as RULES_OF_ALL
from apps.gates.services import save_policy
from apps.ledger.models import Entry
from tests.clients import signed_in
from tests.factories import make_environment, make_member, make_user

RULES = [{"rule": "max_failures", "parameters": {"maximum": 2}}]


def form(rules, *, name="rules"):
    """What a browser sends of a list of rules."""
    data = {name: ""}
    for number, each in enumerate(rules):
        data[f"{name}-{number}-rule"] = each["rule"]
        for parameter, value in each.get("parameters", {}).items():
            if value is not False:  # as a box without its tick
                data[f"{name}-{number}-{parameter}"] = (
                    "\r\n".join(value) if isinstance(value, list) else value
                )
    return data


def other(kind):
    """Parameters of a rule that differ from their defaults."""
    values = {}
    for each in fields(kind):
        schema = each.metadata["schema"]
        if schema["type"] == "boolean":
            values[each.name] = not each.default
        elif schema["type"] == "array":
            values[each.name] = ["unit tests", "e2e"]
        else:
            values[each.name] = schema["minimum"] if each.default != schema["minimum"] else schema["maximum"]
    return values


class Filled(HTMLParser):
    """What a browser would send of the lists of rules on a page as it is: its inputs outside of templates."""

    def __init__(self, page):
        super().__init__()
        self.sent, self.templates, self.text = {}, 0, None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        name = attrs.get("name") or ""
        if tag == "template":
            self.templates += 1
        elif self.templates or not name.startswith("r"):
            return
        elif tag == "textarea":
            self.text, self.sent[name] = name, ""
        elif tag == "input" and (attrs["type"] != "checkbox" or "checked" in attrs):
            self.sent[name] = attrs.get("value", "on")

    def handle_endtag(self, tag):
        if tag == "template":
            self.templates -= 1
        self.text = None

    def handle_data(self, data):
        if self.text:
            self.sent[self.text] += data


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
        response = self.client.post(self.page, form(RULES), follow=True)
        self.assertContains(response, "stays as it was")
        second = Policy.objects.get(version=2)
        assert second.rules[0]["parameters"]["maximum"] == 2
        assert second.created_by == self.root
        self.first.refresh_from_db()
        assert (self.first.version, self.first.rules) == (1, [])
        assert Entry.objects.filter(subject=f"policy:{second.pk}", actor=self.root).exists()

    def test_saving_what_is_in_force_writes_nothing(self) -> None:
        response = self.client.post(self.page, form([]), follow=True)
        self.assertContains(response, "Nothing changed")
        assert Policy.objects.count() == 1

    def test_an_older_version_cannot_be_edited(self) -> None:
        save_policy(environment=self.environment, rules=RULES, created_by=None)
        assert self.client.post(self.page, form(RULES)).status_code == 403
        self.assertContains(self.client.get(self.page), "Rules")

    def test_the_first_policy_of_an_environment_can_be_added(self) -> None:
        bare = make_environment(self.environment.service, "production")
        data = {"environment": bare.pk, **form(RULES)}
        self.client.post(reverse("admin:gates_policy_add"), data)
        assert bare.policies.get().version == 1

    def test_what_the_gates_do_not_know_is_refused_at_the_field(self) -> None:
        for rules, words in (
            ([{"rule": "lucky"}], "Unknown rule"),
            ([{"rule": "max_failures", "parameters": {"maximum": "two"}}], "whole number from 0 to 1000000"),
            ([{"rule": "soak", "parameters": {"minutes": "-1"}}], "Rule soak: minutes must be"),
            ([{"rule": "required_reports", "parameters": {"groups": [" "]}}], "must name at least one"),
            (RULES * 2, "there twice"),
        ):
            with self.subTest(rules):
                response = self.client.post(self.page, form(rules))
                self.assertContains(response, words)
                self.assertContains(response, f'value="{rules[0]["rule"]}"')
        # What was typed is still there.
        rules = [{"rule": "max_failures", "parameters": {"maximum": "two"}}]
        self.assertContains(self.client.post(self.page, form(rules)), 'value="two"')
        assert Policy.objects.count() == 1

    def test_half_a_form_shuts_no_gate(self) -> None:
        save_policy(environment=self.environment, rules=RULES, rollback=RULES, created_by=None)
        page = reverse("admin:gates_policy_change", args=[Policy.objects.latest("version").pk])
        self.assertContains(self.client.post(page, {}), "was not sent, so nothing was changed")
        self.client.post(page, form([{"rule": "approved"}]))
        newest = Policy.objects.latest("version")
        assert ([each["rule"] for each in newest.rules], newest.rollback[0]["rule"]) == (
            ["approved"],
            "max_failures",
        )

    def test_whatever_a_policy_says_survives_its_form(self) -> None:
        """Each rule with other parameters than its defaults: the form shows them, and sends them back."""
        rules = [{"rule": name, "parameters": other(rule.parameters)} for name, rule in RULES_OF_ALL.items()]
        for rollback in (rules, [], None):
            policy = save_policy(
                environment=self.environment, rules=rules, rollback=rollback, created_by=None
            )
            page = reverse("admin:gates_policy_change", args=[policy.pk])
            sent = Filled(self.client.get(page).content.decode()).sent
            assert sent["rules-0-rule"] == rules[0]["rule"]
            self.assertContains(self.client.post(page, sent, follow=True), "Nothing changed")
            assert Policy.objects.latest("version") == policy

    def test_all_rules_for_rollbacks_can_be_taken_away(self) -> None:
        policy = save_policy(environment=self.environment, rules=RULES, rollback=RULES, created_by=None)
        page = reverse("admin:gates_policy_change", args=[policy.pk])
        self.client.post(page, {**form(RULES), **form([], name="rollback")})
        assert Policy.objects.latest("version").rollback is None

    def test_a_rule_of_another_version_is_shown_and_can_be_removed(self) -> None:
        policy = Policy.objects.create(
            environment=self.environment, version=2, rules=[*RULES, {"rule": "lucky", "parameters": {"x": 1}}]
        )
        page = reverse("admin:gates_policy_change", args=[policy.pk])
        self.assertContains(self.client.get(page), "This version does not know it.")
        self.client.post(page, form(RULES))
        assert [each["rule"] for each in Policy.objects.latest("version").rules] == ["max_failures"]

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
        assert client.post(self.page, form(RULES)).status_code == 403
