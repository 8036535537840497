"""Which test cases are flaky or broken, told from how they ended in the newest reports of their group.

What is looked at are the last WINDOW reports of the case's report group, in the order in which they were
read; a run is one in which the case passed, failed or ended in an error. It is

- **broken** if it failed in each of its last BROKEN_AFTER runs, or in the last one without being flaky;
- **flaky** if it both passed and failed on one commit, in attempts of one report or in several builds, or if
  its score is at least FLAKY_FROM: of the runs that could differ from the one before, how many did. Fewer
  than ENOUGH runs have no score;
- **healthy** otherwise.

A case is looked at when it fails, and from then on with every report of its group until it is healthy. So
only what is not healthy has a row, and a report in which everything passes costs next to nothing. A case that
has a row and does not run any more keeps its state until its last runs leave the window.

Builds of all branches count alike, so a branch on which a test is broken looks like a change back and forth.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from django.db import connection, transaction
from django.utils import timezone

from apps.builds.arrays import array_literal
from apps.builds.models import CaseState, Report, ReportGroup, ReportOutcomes, TestCase
from apps.builds.outcomes import FLAKY, SIZE

WINDOW = 50  # reports
ENOUGH = 10  # runs from which on there is a score
FLAKY_FROM = 300  # thousandths
BROKEN_AFTER = 5  # runs

State = CaseState.State

# Codes as in apps.builds.outcomes; whatever else there is was no run.
_PASSED, _FAILED = b"\x01\x81", b"\x02\x03\x82\x83"
_NO_RUN = bytes(set(range(256)) - set(_PASSED + _FAILED))
_AS_RUN = bytes.maketrans(_PASSED + _FAILED, b"PPFFFF")
# What makes a case worth looking at: it did not pass, or not in every attempt.
_TROUBLE = re.compile(rb"[\x02\x03\x80-\xff]")


class Judged(NamedTuple):
    """What the runs of a case in the window say."""

    state: State
    score: int | None
    runs: int
    failures: int
    transitions: int
    commits: int


def same_commit(commits: Sequence[str]) -> list[list[int]]:
    """Which reports of a window are of one commit, by their places; only commits that have several."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, commit in enumerate(commits):
        # A build of an unknown commit stands for itself.
        if commit:
            places[commit].append(place)
    return [each for each in places.values() if len(each) > 1]


def judge_case(codes: bytes, twins: Sequence[Sequence[int]]) -> Judged:
    """Judge a case by its codes in the reports of the window, oldest first; ``twins`` are of one commit."""
    runs = codes.translate(_AS_RUN, delete=_NO_RUN)
    transitions = runs.count(b"PF") + runs.count(b"FP")
    failures = runs.count(b"F")
    score = round(1000 * transitions / (len(runs) - 1)) if len(runs) >= ENOUGH else None
    both = _commits_with_both(codes, twins)
    if runs.endswith(b"F" * BROKEN_AFTER):
        state = State.BROKEN
    elif both or (score is not None and score >= FLAKY_FROM):
        state = State.FLAKY
    elif runs.endswith(b"F"):
        state = State.BROKEN
    else:
        state = State.HEALTHY
    return Judged(state, score, len(runs), failures, transitions, both)


def _commits_with_both(codes: bytes, twins: Sequence[Sequence[int]]) -> int:
    """On how many commits the case passed and failed, in attempts of one report or in several reports."""
    commits = _flaky(codes)
    for places in twins:
        its = bytes(codes[place] for place in places)
        alone = _flaky(its)
        runs = set(its.translate(_AS_RUN, delete=_NO_RUN))
        commits += (alone > 0 or len(runs) == 2) - alone
    return commits


def _flaky(codes: bytes) -> int:
    return 0 if codes.isascii() else sum(code >= FLAKY for code in codes)


def judge_cases(*, report: Report, outcomes: bytes | bytearray | memoryview) -> None:
    """Bring the states of a report's cases up to date, after its outcomes have been written.

    Call it in the transaction that wrote them and holds the lock on the row of the report's group.
    """
    failing = [found.start() for found in _TROUBLE.finditer(bytes(outcomes[::SIZE]))]
    cases = _cases(report, failing)
    if cases:
        _judge(report, cases)


def judge_one(*, case: TestCase) -> bool:
    """Judge a case whatever its last run was; a quarantined one has a row from then on.

    Call it with the lock on the row of its group. False where no outcome of its group is kept.
    """
    if case.position is None:
        return False
    reports = Report.objects.filter(group=case.report_group_id, outcomes__isnull=False)
    newest = reports.order_by("-pk").first()
    if newest is not None:
        _judge(newest, [(case.pk, case.position)])
    return newest is not None


def rebuild_states(*, group: ReportGroup) -> int:
    """Judge a group's cases anew from the outcomes of its newest reports; how many have a row then.

    For when the definition above has changed. What leads to a state lies within WINDOW reports, so going
    through these comes to the same rows as if they were read again, as long as outcomes are kept.
    """
    with transaction.atomic():
        ReportGroup.objects.select_for_update(no_key=True).get(pk=group.pk)
        states = CaseState.objects.filter(group=group)
        quarantined = list(TestCase.objects.filter(pk__in=states.quarantined().values("case")))
        states.delete()
        with_outcomes = Report.objects.filter(group=group, outcomes__isnull=False)
        for report in reversed(with_outcomes.order_by("-pk")[:WINDOW]):
            judge_cases(report=report, outcomes=ReportOutcomes.objects.get(report=report).data)
        for case in quarantined:
            judge_one(case=case)
    return states.count()


def _cases(report: Report, failing: list[int]) -> list[tuple[int, int]]:
    """Id and position of each case that is at these positions or has a row."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT found.* FROM unnest(%s::int[]) AS failing, LATERAL (
                SELECT id, position FROM builds_testcase
                WHERE report_group_id = %s AND position = failing LIMIT 1
            ) AS found
            UNION
            SELECT c.id, c.position FROM builds_casestate s JOIN builds_testcase c ON c.id = s.case_id
            WHERE s.group_id = %s
            """,
            [array_literal(failing), report.group_id, report.group_id],
        )
        return list(cursor.fetchall())


def _judge(report: Report, cases: Sequence[tuple[int, int]]) -> None:
    window = _window(report, [position for _, position in cases])
    twins = same_commit([commit for commit, _ in window])
    lives = [bytes(codes) for codes in zip(*(codes for _, codes in window), strict=True)]
    # Many cases have the same life, such as to have failed just now for the first time.
    judged = {life: judge_case(life, twins) for life in set(lives)}
    _write(report, ((case, judged[life]) for (case, _), life in zip(cases, lives, strict=True)))


def _window(report: Report, positions: list[int]) -> list[tuple[str, bytes]]:
    """The commit of each report of the window, oldest first, and its codes at these positions."""
    # Each report's bytes are fetched once (hence the concatenation, which makes a copy in memory) and only
    # the codes leave the database.
    with connection.cursor() as cursor:
        cursor.execute(
            r"""
            SELECT w.id, w.commit, (
                SELECT string_agg(
                    coalesce(nullif(substring(w.whole FROM p.at * 5 + 1 FOR 1), ''), '\x00'::bytea),
                    ''::bytea ORDER BY p.number
                )
                FROM unnest(%s::int[]) WITH ORDINALITY AS p(at, number)
            )
            FROM (
                SELECT r.id, b.commit, o.data || ''::bytea AS whole
                FROM builds_report r
                JOIN builds_build b ON b.id = r.build_id
                JOIN builds_reportoutcomes o ON o.report_id = r.id
                WHERE r.group_id = %s AND r.id <= %s
                ORDER BY r.id DESC LIMIT %s
            ) w
            """,
            [array_literal(positions), report.group_id, report.pk, WINDOW],
        )
        return [
            (commit, bytes(codes)) for _, commit, codes in sorted(cursor.fetchall(), key=lambda row: row[0])
        ]


def _write(report: Report, judged: Iterable[tuple[int, Judged]]) -> None:
    """Keep what is not healthy, and what is quarantined; the time of a state stays while the state does."""
    rows = [(case, str(what.state), *what[1:]) for case, what in judged]
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH judged AS (
                SELECT j.*, EXISTS (
                    SELECT FROM builds_quarantine q
                    WHERE q.case_id = j.case_id AND q.lifted_at IS NULL AND q.until > %s
                ) AS quarantined
                FROM unnest(%s::bigint[], %s::text[], %s::int[], %s::int[], %s::int[], %s::int[], %s::int[])
                    AS j(case_id, state, score, runs, failures, transitions, commits)
            ), gone AS (
                DELETE FROM builds_casestate s USING judged j
                WHERE s.case_id = j.case_id AND j.state = 'healthy' AND NOT j.quarantined
            )
            INSERT INTO builds_casestate AS s (
                service_id, group_id, report_id, since,
                case_id, state, score, runs, failures, transitions, commits
            )
            SELECT g.service_id, g.id, %s, %s,
                j.case_id, j.state, j.score, j.runs, j.failures, j.transitions, j.commits
            FROM judged j JOIN builds_reportgroup g ON g.id = %s
            WHERE j.state <> 'healthy' OR j.quarantined
            ORDER BY j.case_id
            ON CONFLICT (case_id) DO UPDATE SET
                report_id = EXCLUDED.report_id,
                since = CASE WHEN s.state = EXCLUDED.state THEN s.since ELSE EXCLUDED.since END,
                state = EXCLUDED.state, score = EXCLUDED.score, runs = EXCLUDED.runs,
                failures = EXCLUDED.failures, transitions = EXCLUDED.transitions, commits = EXCLUDED.commits
            """,
            [
                timezone.now(),
                *map(array_literal, zip(*rows, strict=True)),
                report.pk,
                report.created_at,
                report.group_id,
            ],
        )
