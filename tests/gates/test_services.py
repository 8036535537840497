import pytest
from django.test import TestCase

from apps.errors import Invalid
from apps.gates.models import Policy
from apps.gates.services import clean_rules, save_policy
from apps.ledger.models import Entry
from tests.factories import make_environment, make_user


class SavePolicyTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.environment = make_environment()
        cls.user = make_user("ann")

    def save(self, rules):
        return save_policy(environment=self.environment, rules=rules, created_by=self.user)

    def test_it_writes_out_every_parameter(self):
        policy = self.save([{"rule": "max_failures"}])
        parameters = {"maximum": 0, "groups": [], "excuse_quarantined": 0, "wait_minutes": 60}
        assert policy.rules == [{"rule": "max_failures", "parameters": parameters}]
        assert policy.version == 1
        assert policy.created_by == self.user

    def test_a_change_is_a_new_version_and_no_change_is_none(self):
        first = self.save([{"rule": "approved"}])
        second = self.save([{"rule": "approved", "parameters": {"count": 2}}])
        assert self.save([{"rule": "approved", "parameters": {"count": 2}}]) == second
        assert (first.version, second.version) == (1, 2)
        assert list(Policy.objects.newest()) == [second]

    def test_it_is_recorded(self):
        policy = self.save([{"rule": "approved"}])
        entry = Entry.objects.get(action="policy.saved")
        assert entry.actor == self.user
        assert entry.data["version"] == policy.version
        assert entry.data["rules"] == policy.rules

    def test_what_is_refused_leaves_nothing_behind(self):
        with pytest.raises(Invalid):
            self.save([{"rule": "approved"}, {"rule": "nope"}])
        assert not Policy.objects.exists()
        assert not Entry.objects.exists()


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("approved", "a list of rules"),
        ({"rule": "approved"}, "a list of rules"),
        (["approved"], "Rule 1 is not of the form"),
        ([{"rule": "nope"}], "Unknown rule 'nope'. Known: built_as_defined"),
        ([{"rule": "approved", "parameter": {}}], "unknown key: parameter"),
        ([{"rule": "approved", "parameters": []}], "its parameters must be an object"),
        ([{"rule": "approved", "parameters": {"counts": 1}}], "has no parameter counts. It takes: count"),
        (
            [{"rule": "approved", "parameters": {"count": 0}}],
            "count must be a whole number from 1 to 20, not 0",
        ),
        ([{"rule": "approved", "parameters": {"count": True}}], "not True"),
        ([{"rule": "approved", "parameters": {"count": "1"}}], "not '1'"),
        ([{"rule": "max_failures", "parameters": {"maximum": 1.5}}], "not 1.5"),
        ([{"rule": "required_reports"}], "groups is missing"),
        ([{"rule": "required_reports", "parameters": {"groups": []}}], "must name at least one"),
        ([{"rule": "required_reports", "parameters": {"groups": "unit"}}], "a list of different names"),
        ([{"rule": "required_reports", "parameters": {"groups": ["a", "a"]}}], "a list of different names"),
        ([{"rule": "approved"}, {"rule": "approved", "parameters": {"count": 1}}], "twice"),
    ],
)
def test_unknown_rules_and_parameters_are_refused(rules, message):
    with pytest.raises(Invalid) as caught:
        clean_rules(rules)
    assert message in str(caught.value)


def test_a_rule_may_be_there_twice_with_other_parameters():
    rules = [
        {"rule": "max_failures", "parameters": {"groups": ["unit"]}},
        {"rule": "max_failures", "parameters": {"groups": ["e2e"], "maximum": 2}},
    ]
    assert [each["parameters"]["maximum"] for each in clean_rules(rules)] == [0, 2]
