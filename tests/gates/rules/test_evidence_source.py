from apps.gates.evaluate import judge
from apps.gates.outlook import look_ahead
from apps.gates.verdicts import Verdict
from tests.gates.make import NOON, coverage_fact, facts, failure_fact, report_fact

REQUIRED = {"rule": "required_reports", "parameters": {"groups": ["e2e"]}}
FAILURES = {"rule": "max_failures", "parameters": {}}
UNIT, E2E = report_fact("unit"), report_fact("e2e", asserted_by="jenkins")


def source(*callers: str) -> dict:
    return {"rule": "evidence_source", "parameters": {"callers": list(callers)}}


def find(*rules, reports=(UNIT, E2E), **fields):
    verdict, findings = judge(rules=rules, facts=facts(reports=reports, **fields), at=NOON)
    return verdict, {finding.rule: finding for finding in findings}


def test_what_a_caller_asserts_does_not_count_and_it_is_said_so():
    for rules in ([REQUIRED], [REQUIRED, source()], [REQUIRED, source("ann")]):
        verdict, found = find(*rules)
        assert verdict == Verdict.INCONCLUSIVE
        assert "e2e is there only by the word of jenkins" in found["required_reports"].sentence
    assert found["evidence_source"].sentence == "Only jenkins says so, and it does not count: e2e."
    assert found["evidence_source"].evidence["not_counted"][0]["name"] == "e2e"


def test_it_counts_where_the_policy_names_the_caller():
    verdict, found = find(REQUIRED, source("ann", "jenkins"))
    assert verdict == Verdict.PASS
    assert found["evidence_source"].sentence == "By the word of jenkins it counts: e2e."
    assert found["evidence_source"].evidence["counted"][0]["asserted_by"] == "jenkins"


def test_used_twice_both_have_to_name_the_caller():
    assert find(REQUIRED, source("jenkins"), source("ann"))[0] == Verdict.INCONCLUSIVE
    assert find(REQUIRED, source("jenkins"), source("jenkins", "ann"))[0] == Verdict.PASS


def test_failures_count_with_their_report_and_not_without():
    reports = (UNIT, report_fact("e2e", asserted_by="jenkins", passed=9, failed=1))
    failures = (failure_fact(report="e2e"),)
    assert find(FAILURES, source("jenkins"), reports=reports, failures=failures)[0] == Verdict.BLOCKED
    verdict, found = find(FAILURES, reports=reports, failures=failures)
    assert verdict == Verdict.PASS
    assert found["max_failures"].evidence["tests"] == []


def test_coverage_counts_by_a_callers_word_only_where_the_policy_names_them():
    lines = {"rule": "min_line_coverage", "parameters": {"minimum": 90}}
    sent = coverage_fact(9, 10, name="e2e-lines", asserted_by="jenkins")
    assert find(lines, source("jenkins"), reports=(UNIT, sent))[0] == Verdict.PASS
    verdict, found = find(lines, reports=(UNIT, sent))
    assert verdict == Verdict.INCONCLUSIVE
    assert found["min_line_coverage"].evidence["lines_total"] == 0
    # What it tells cannot make up for what Lockkeeper has read either.
    own = coverage_fact(8, 10)
    assert find(lines, reports=(UNIT, own, sent))[0] == Verdict.BLOCKED


def test_parameters_that_nobody_can_read_trust_nobody():
    verdict, found = find(REQUIRED, {"rule": "evidence_source", "parameters": {"callers": "jenkins"}})
    assert verdict == Verdict.INCONCLUSIVE
    assert found["evidence_source"].verdict == Verdict.INCONCLUSIVE


def test_the_outlook_hears_the_whole_policy():
    outlook = look_ahead(rules=[REQUIRED, source("jenkins")], facts=facts(reports=(UNIT, E2E)), at=NOON)
    assert outlook.earliest == NOON


def test_without_such_reports_there_is_nothing_to_say():
    assert find(source())[1]["evidence_source"].verdict == Verdict.PASS
    assert find(source(), reports=(UNIT,))[1]["evidence_source"].sentence == (
        "Lockkeeper has read all reports itself."
    )
