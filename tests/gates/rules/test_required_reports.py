from apps.gates.rules.required_reports import Parameters, judge
from apps.gates.verdicts import Verdict
from tests.gates.make import NOON, facts, report_fact, running_build


def find(*reports, groups=("unit",), **fields):
    return judge(facts(reports=reports, **fields), Parameters(groups=groups), NOON)


def test_present_and_complete_passes():
    assert find(report_fact("unit"), report_fact("e2e", complete=False)).verdict == Verdict.PASS


def test_a_missing_report_is_inconclusive_and_named_with_those_there():
    finding = find(report_fact("unit"), groups=("unit", "e2e"))
    assert finding.verdict == Verdict.INCONCLUSIVE
    assert "e2e is missing" in finding.sentence
    assert finding.sentence.endswith("The build has: unit.")
    assert finding.evidence["missing"] == ["e2e"]


def test_an_incomplete_report_is_inconclusive_and_says_why():
    report = report_fact("unit", complete=False, problem="500 of 812 cases", declared=812, parsed=500)
    finding = find(report)
    assert finding.verdict == Verdict.INCONCLUSIVE
    assert "500 of 812 cases" in finding.sentence
    assert finding.evidence["reports"][0]["declared"] == 812


def test_a_running_build_is_waited_for():
    assert find(build=running_build()).verdict == Verdict.WAITING_EVIDENCE
