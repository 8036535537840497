from apps.gates.rules.evidence_complete import Parameters, judge
from apps.gates.verdicts import Verdict
from tests.gates.make import NOON, facts, report_fact, running_build


def find(*reports, **fields):
    return judge(facts(reports=reports, **fields), Parameters(), NOON)


def test_complete_reports_pass_with_their_number_of_cases():
    finding = find(report_fact("unit", parsed=1200), report_fact("e2e", parsed=34))
    assert finding.verdict == Verdict.PASS
    assert finding.sentence == "All 2 reports were read to the end, 1,234 cases."


def test_one_incomplete_report_is_inconclusive_and_the_others_are_not_named():
    finding = find(report_fact("unit"), report_fact("e2e", complete=False, problem="no file at reports/"))
    assert finding.verdict == Verdict.INCONCLUSIVE
    assert "e2e (no file at reports/)" in finding.sentence
    assert [report["name"] for report in finding.evidence["reports"]] == ["e2e"]


def test_no_report_at_all_is_inconclusive():
    assert find().verdict == Verdict.INCONCLUSIVE


def test_a_running_build_is_waited_for():
    assert find(build=running_build()).verdict == Verdict.WAITING_EVIDENCE
