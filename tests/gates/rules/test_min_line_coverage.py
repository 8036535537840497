import pytest

from apps.gates.rules.min_line_coverage import Parameters, judge
from apps.gates.verdicts import Verdict
from tests.gates.make import (
    NOON,
    build_fact,
    coverage_fact,
    facts,
    report_fact,
    running_build,
    running_fact,
)


def find(*reports, running=None, build=None, **parameters):
    told = facts(reports=reports, running=running, build=build or build_fact())
    return judge(told, Parameters(**parameters), NOON)


def test_the_very_percentage_passes_and_a_line_fewer_blocks():
    finding = find(coverage_fact(800, 1_000))
    assert finding.verdict == Verdict.PASS
    assert finding.sentence == (
        "Tests ran 80.00 % of the lines (800 of 1,000); at least 80 % must be. "
        "Nothing runs in production to compare with."
    )
    finding = find(coverage_fact(799, 1_000))
    assert finding.verdict == Verdict.BLOCKED
    assert finding.sentence == "Tests ran 79.90 % of the lines (799 of 1,000), and at least 80 % must be."


def test_no_rounding_lets_a_line_through():
    finding = find(coverage_fact(999_999, 1_000_000), minimum=100)
    assert finding.verdict == Verdict.BLOCKED
    assert "99.99 %" in finding.sentence


@pytest.mark.parametrize("covered", [8_300, 8_250, 8_200])
def test_at_most_so_many_points_below_what_runs(covered):
    finding = find(
        coverage_fact(covered, 10_000), running=running_fact(coverage_fact(415, 500)), maximum_drop=1
    )
    assert finding.verdict == Verdict.PASS
    assert finding.sentence.endswith(
        "1.1.0, which runs in production, has 83.00 %; it may be 1 point below that."
    )
    assert finding.evidence["running"]["lines_covered"] == 415


def test_a_line_more_than_that_blocks():
    running = running_fact(coverage_fact(415, 500))
    finding = find(coverage_fact(8_199, 10_000), running=running, maximum_drop=1)
    assert finding.verdict == Verdict.BLOCKED
    assert "81.99 %" in finding.sentence
    assert find(coverage_fact(8_299, 10_000), running=running, maximum_drop=0).verdict == Verdict.BLOCKED
    finding = find(coverage_fact(8_000, 10_000), running=running, maximum_drop=100)
    assert finding.verdict == Verdict.PASS
    assert "1.1.0" not in finding.sentence


def test_coverage_that_rose_passes():
    assert (
        find(coverage_fact(9, 10), running=running_fact(coverage_fact(1, 10)), maximum_drop=0).verdict
        == Verdict.PASS
    )


def test_reports_are_taken_together_and_only_named_groups_of_coverage_count():
    reports = (coverage_fact(100, 100), coverage_fact(0, 100, "e2e"), report_fact("unit"))
    assert find(*reports, minimum=50).verdict == Verdict.PASS
    assert find(*reports, minimum=51).verdict == Verdict.BLOCKED
    assert find(*reports, groups=("coverage",), minimum=100).verdict == Verdict.PASS
    running = running_fact(coverage_fact(100, 100), coverage_fact(0, 900, "e2e"))
    assert find(coverage_fact(90, 100), running=running).verdict == Verdict.PASS
    assert find(coverage_fact(90, 100), running=running, groups=("coverage",)).verdict == Verdict.BLOCKED


def test_a_share_of_no_lines_means_nothing():
    assert find(coverage_fact(0, 0), minimum=0).verdict == Verdict.INCONCLUSIVE


def test_what_runs_without_coverage_is_nothing_to_drop_from():
    finding = find(coverage_fact(9, 10), running=running_fact(report_fact("unit")))
    assert finding.verdict == Verdict.PASS
    assert finding.sentence.endswith("1.1.0, which runs in production, has no such report to compare with.")


def test_an_incomplete_baseline_is_inconclusive_unless_nothing_is_compared():
    unread = coverage_fact(None, None, complete=False, problem="reports of type CODE_COVERAGE are not read")
    finding = find(coverage_fact(9, 10), running=running_fact(unread))
    assert finding.verdict == Verdict.INCONCLUSIVE
    assert finding.who.startswith("whoever manages shop: maximum_drop 100")
    assert find(coverage_fact(9, 10), running=running_fact(unread), maximum_drop=100).verdict == Verdict.PASS
    assert find(coverage_fact(1, 10), running=running_fact(unread)).verdict == Verdict.BLOCKED


def test_a_missing_or_incomplete_report_is_inconclusive():
    finding = find(report_fact("unit"))
    assert finding.verdict == Verdict.INCONCLUSIVE
    assert finding.sentence == "There is no coverage report, so lines cannot be counted."
    assert find(coverage_fact(9, 10), groups=("coverage", "e2e")).verdict == Verdict.INCONCLUSIVE
    differs = coverage_fact(9, 10, complete=False, problem="CodeBuild counted 8 of 10 lines")
    assert "CodeBuild counted 8 of 10 lines" in find(differs).sentence


def test_a_running_build_is_waited_for():
    assert find(build=running_build()).verdict == Verdict.WAITING_EVIDENCE
