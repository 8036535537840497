"""manage.py policy: YAML out, YAML in, and what differs."""

import contextlib
import io

import pytest
import yaml
from django.core.management import CommandError, call_command
from django.test import TestCase

from apps.catalog.models import Environment, Service
from apps.gates.models import Policy
from apps.gates.policy_file import read_policies, write_policies
from apps.gates.rules import RULES
from apps.gates.services import save_policy
from apps.ledger.models import Entry
from tests.factories import make_environment, make_service, make_user


class PolicyCommandTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.shop, cls.api = make_service("shop"), make_service("api")
        cls.staging = make_environment(cls.shop, "staging")
        cls.production = make_environment(cls.shop, "production", position=1, upstreams=(cls.staging,))
        cls.other = make_environment(cls.api, "staging")
        cls.save(cls.staging, {"rule": "max_failures", "parameters": {"groups": ["unit", "ünï: #1"]}})
        cls.save(cls.production, {"rule": "verified_upstream"}, {"rule": "approved"})
        cls.save(cls.other)

    @classmethod
    def save(cls, environment, *rules):
        return save_policy(environment=environment, rules=list(rules), created_by=None)

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path):
        self.path = tmp_path / "policies.yaml"

    def policy(self, *arguments, text=None):
        out, code = io.StringIO(), 0
        if text is not None:
            self.path.write_text(text)
            arguments = (*arguments, str(self.path))
        try:
            call_command("policy", *arguments, stdout=out)
        except SystemExit as end:
            code = end.code
        return out.getvalue(), code

    def test_an_export_holds_what_is_in_force_with_what_it_means(self):
        self.save(self.production, {"rule": "approved", "parameters": {"count": 2}})
        out, _ = self.policy("export")
        assert list(yaml.safe_load(out)) == ["api/staging", "shop/staging", "shop/production"]
        assert "shop/production:  # version 2\n  - rule: approved\n    parameters:\n" in out
        assert "      # How many people must agree.\n      count: 2\n" in out
        assert yaml.safe_load(out)["api/staging"] == []
        assert yaml.safe_load(out)["shop/staging"][0]["parameters"]["groups"] == ["unit", "ünï: #1"]

    def test_it_can_be_of_some(self):
        assert list(yaml.safe_load(self.policy("export", "shop")[0])) == ["shop/staging", "shop/production"]
        assert list(yaml.safe_load(self.policy("export", "shop/production")[0])) == ["shop/production"]
        with pytest.raises(CommandError, match=r"no environment 'prod'. Known: staging"):
            self.policy("export", "shop/prod")

    def test_an_export_imported_changes_nothing(self):
        text, _ = self.policy("export")
        versions = set(Policy.objects.values_list("pk", flat=True))
        assert self.policy("diff", text=text) == ("", 0)
        out, code = self.policy("import", text=text)
        assert (out.count("unchanged"), code) == (3, 0)
        assert set(Policy.objects.values_list("pk", flat=True)) == versions

    def test_a_diff_shows_what_would_change_and_writes_nothing(self):
        text = "shop/production:\n- rule: verified_upstream\n- rule: approved\n  parameters: {count: 3}\n"
        out, code = self.policy("diff", text=text)
        assert code == 1
        lines = out.splitlines()
        assert lines[0] == "--- shop/production version 1"
        assert lines[1].startswith("+++ shop/production ")
        assert "-      count: 1" in lines
        assert "+      count: 3" in lines
        assert Policy.objects.count() == 3

    def test_an_import_is_a_new_version_by_the_one_who_did_it(self):
        ann = make_user("ann")
        out, code = self.policy("import", "--user", "ann", text="shop/production: [{rule: approved}]")
        assert (out, code) == ("shop/production: v2 is in force now\n", 0)
        policy = self.production.policies.get(version=2)
        assert [each["rule"] for each in policy.rules] == ["approved"]
        assert Entry.objects.get(subject=f"policy:{policy.pk}").actor == ann
        assert self.staging.policies.count() == 1

    def test_a_dry_run_writes_nothing(self):
        out, code = self.policy("import", "--dry-run", text="shop/production: []\napi/staging: []")
        assert code == 0
        assert "-  - rule: approved" in out
        assert "api/staging: unchanged" in out
        assert out.endswith("Nothing was written.\n")
        assert Policy.objects.count() == 3

    def test_what_is_wrong_is_refused_whole_with_its_place(self):
        good = "shop/staging: []\n"
        cases = {
            "shop/production:\n- rule: lucky\n": ":3: shop/production: Unknown rule 'lucky'. Known: ",
            "shop/production:\n- rule: approved\n  parameters:\n    count: 1\n    colour: red\n": (
                ":6: shop/production: Rule approved has no parameter colour. It takes: count"
            ),
            "shop/production:\n- rule: approved\n  parameters:\n    count: 0\n": (
                ":5: shop/production: Rule approved: count must be a whole number from 1 to 20, not 0."
            ),
            "shop/production:\n- rule: approved\n- rule: approved\n": ":4: shop/production: approved is ",
            "shop/production:\n- rule: approved\n  extra: 1\n": ":3: shop/production: The rule (approved)",
            "shop/production:\n- rule: required_reports\n": ":3: shop/production: Rule required",
            "shop/production:\n- approved\n": ":3: shop/production: The rule is not of the form",
            "shop/production: approved\n": ":2: a list of rules is expected for shop/production",
            "shop: []\n": ":2: 'shop' is not of the form SERVICE/ENVIRONMENT",
            "shop/prod: []\n": ":2: shop has no environment 'prod'. Known: staging, production",
            "shop/staging: []\n": ":2: shop/staging is there twice",
            "1: []\n": ":2: 1 is not of the form",
            "[1]: []\n": ":2: a key must be a word",
            "shop/production: [\n": "is not YAML: ",
            "shop/production:\n- !!python/object/apply:os.system [ls]\n": "is not YAML: ",
        }
        for text, words in cases.items():
            for verb, returncode in (("import", 1), ("diff", 2)):
                with self.subTest(text, verb=verb), pytest.raises(CommandError) as caught:
                    self.policy(verb, text=good + text)
                assert words in str(caught.value)
                assert str(self.path) in str(caught.value)
                assert caught.value.returncode == returncode
        assert Policy.objects.count() == 3

    def test_other_files_are_refused(self):
        for text, words in (
            ("", "holds no policy"),
            ("- a\n", "SERVICE/ENVIRONMENT: "),
            ("a: {", "is not YAML"),
        ):
            with self.subTest(text), pytest.raises(CommandError, match=words):
                self.policy("import", text=text)
        with pytest.raises(CommandError, match="No such file"):
            self.policy("import", "/nowhere/policies.yaml")

    def test_an_environment_without_a_policy_can_be_given_one(self):
        make_environment(self.api, "production")
        assert self.policy("diff", text="api/production: []")[1] == 1
        assert self.policy("import", text="api/production: []")[0] == "api/production: v1 is in force now\n"


def test_every_rule_comes_back_as_it_was_written():
    environment = Environment(slug="staging", service=Service(slug="x"))
    rules = []
    for rule in RULES.values():
        example = {"groups": ["unit"]} if rule.name == "required_reports" else {}
        rules.append({"rule": rule.name, "parameters": example})
    (entry,) = read_policies(yaml.safe_dump({"x/staging": rules}), name="first")
    text = write_policies([Policy(environment=environment, version=1, rules=entry.rules)])
    (again,) = read_policies(text, name="second")
    assert again.rules == entry.rules
    assert len(again.rules) == len(RULES)


class RollbackRulesTests(TestCase):
    """The second list of a policy, in the same file."""

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path):
        self.path = tmp_path / "policies.yaml"

    def policy(self, *arguments):
        out = io.StringIO()
        with contextlib.suppress(SystemExit):
            call_command("policy", *arguments, stdout=out)
        return out.getvalue()

    def test_they_go_out_and_come_back(self):
        staging = make_environment(make_service("shop"), "staging")
        rules, rollback = [{"rule": "approved"}], [{"rule": "built_as_defined"}, {"rule": "way_back"}]
        save_policy(environment=staging, rules=rules, rollback=rollback, created_by=None)
        text = self.policy("export")
        assert list(yaml.safe_load(text)) == ["shop/staging", "shop/staging/rollback"]
        self.path.write_text(text)
        assert self.policy("diff", str(self.path)) == ""
        assert "unchanged" in self.policy("import", str(self.path))
        assert Policy.objects.count() == 1

    def test_one_list_is_changed_and_the_other_stays(self):
        staging = make_environment(make_service("shop"), "staging")
        save_policy(environment=staging, rules=[{"rule": "approved"}], created_by=None)
        self.path.write_text("shop/staging/rollback: [{rule: way_back}]")
        assert "+  - rule: way_back" in self.policy("diff", str(self.path))
        assert self.policy("import", str(self.path)) == "shop/staging/rollback: v2 is in force now\n"
        policy = staging.policies.first()
        assert [each["rule"] for each in policy.rules] == ["approved"]
        assert [each["rule"] for each in policy.rollback] == ["way_back"]
        assert Entry.objects.get(subject=f"policy:{policy.pk}").data["rollback"] == policy.rollback
