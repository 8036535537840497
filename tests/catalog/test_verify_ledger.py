"""verify_ledger on chains alone; with their heads in S3: test_heads.py."""

import io
import json

import pytest
from django.core.management import CommandError, call_command
from django.test import TestCase

from tests.ledger.tampering import make_chain, tamper


class VerifyLedgerTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.web = make_chain("web", 3)
        cls.api = make_chain("api", 1)

    def run_command(self, *arguments):
        """The lines that verify_ledger prints, and its exit code."""
        out = io.StringIO()
        try:
            call_command("verify_ledger", *arguments, "--offline", stdout=out)
        except SystemExit as end:
            return out.getvalue().splitlines(), end.code
        return out.getvalue().splitlines(), 0

    def test_one_line_for_each_chain(self):
        lines, code = self.run_command()
        assert code == 0
        assert lines == [
            f"api: whole, 1 entry, last hash {self.api[-1].hash}",
            f"web: whole, 3 entries, last hash {self.web[-1].hash}",
        ]

    def test_only_the_chains_that_are_named_and_each_once(self):
        lines, code = self.run_command("web", "web")
        assert (len(lines), code) == (1, 0)
        assert lines[0].startswith("web: whole, 3 entries")

    def test_a_broken_chain_exits_1_and_the_others_are_still_read(self):
        tamper("UPDATE ledger_entry SET action = 'x.y' WHERE chain = 'api'")
        lines, code = self.run_command()
        assert code == 1
        assert lines == [
            "api: BROKEN at 1, changed: Its hash is not that of its content. Whole before: 0 entries.",
            f"web: whole, 3 entries, last hash {self.web[-1].hash}",
        ]

    def test_a_broken_chain_that_is_not_named_does_not_count(self):
        tamper("UPDATE ledger_entry SET action = 'x.y' WHERE chain = 'api'")
        assert self.run_command("web")[1] == 0

    def test_json_has_one_object_for_each_chain(self):
        tamper("DELETE FROM ledger_entry WHERE chain = 'web' AND sequence = 2")
        lines, code = self.run_command("--json")
        assert code == 1
        assert [json.loads(line) for line in lines] == [
            {
                "service": "api",
                "whole": True,
                "entries": 1,
                "last_hash": self.api[0].hash,
                "heads": None,
                "newest_head": None,
                "broken_at": None,
                "kind": None,
                "detail": None,
            },
            {
                "service": "web",
                "whole": False,
                "entries": 1,
                "last_hash": self.web[0].hash,
                "heads": None,
                "newest_head": None,
                "broken_at": 2,
                "kind": "missing",
                "detail": "Entry 2 is not there; the next is 3.",
            },
        ]

    def test_an_unknown_service_is_named_and_nothing_is_read(self):
        out = io.StringIO()
        with pytest.raises(CommandError, match=r"no entries of nobody\. Known: api, web\.") as caught:
            call_command("verify_ledger", "web", "nobody", stdout=out)
        assert caught.value.returncode == 2
        assert out.getvalue() == ""

    def test_an_emptied_ledger_does_not_pass(self):
        tamper("DELETE FROM ledger_entry")
        with pytest.raises(CommandError, match="no entries at all") as caught:
            call_command("verify_ledger")
        assert caught.value.returncode == 2
