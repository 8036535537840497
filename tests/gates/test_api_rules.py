"""GET /api/v1/rules/: what a policy may ask for, with a schema that tells the truth."""

from contextlib import suppress

import jsonschema
from django.test import TestCase

from apps.errors import Invalid
from apps.gates.parameters import read_parameters
from apps.gates.rules import RULES
from tests.clients import ApiClient
from tests.factories import make_user

VALUES = (0, 1, -1, 20, 10**7, 1.5, True, None, "", "unit", [], ["unit"], ["unit", "unit"], [""], [1], {})


class RuleApiTests(TestCase):
    def setUp(self) -> None:
        self.client = ApiClient(make_user(), "read")

    def test_every_rule_is_there_and_says_what_it_asks_for(self) -> None:
        rules = self.client.get("/api/v1/rules/").json()["results"]
        assert [rule["name"] for rule in rules] == list(RULES)
        for rule in rules:
            assert rule["description"].endswith("."), rule["name"]
            for name, parameter in rule["parameters"]["properties"].items():
                assert {"description", "type"} <= parameter.keys(), (rule["name"], name)

    def test_one_can_be_asked_for(self) -> None:
        rule = self.client.get("/api/v1/rules/approved/").json()
        assert rule["parameters"]["properties"]["count"] == {
            "type": "integer",
            "minimum": 1,
            "maximum": 20,
            "default": 1,
            "description": "How many people must agree.",
        }
        answer = self.client.get("/api/v1/rules/lucky/")
        assert answer.status_code == 404
        assert "Known: built_as_defined" in answer.json()["detail"]

    def test_it_needs_a_token_that_reads(self) -> None:
        assert self.client_class().get("/api/v1/rules/").status_code == 401
        assert ApiClient(make_user(), "ci").get("/api/v1/rules/").status_code == 403

    def test_the_schema_refuses_what_the_gates_refuse_and_nothing_else(self) -> None:
        for rule in self.client.get("/api/v1/rules/").json()["results"]:
            kind, schema = RULES[rule["name"]].parameters, rule["parameters"]
            jsonschema.Draft202012Validator.check_schema(schema)
            needed = {name: ["unit"] for name in schema["required"]}
            cases = [{**needed, name: value} for name in schema["properties"] for value in VALUES]
            for case in ({}, needed, {**needed, "colour": 1}, *cases):
                accepted = False
                with suppress(Invalid):
                    read_parameters(kind, case, rule=rule["name"])
                    accepted = True
                valid = jsonschema.Draft202012Validator(schema).is_valid(case)
                # JSON Schema takes 1.0 for an integer; JSON has but one kind of number.
                with self.subTest(rule["name"], case=case):
                    assert valid == accepted
