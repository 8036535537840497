from datetime import timedelta

import pytest

from apps.gates.facts import BundleFact
from apps.gates.rules.bundle_intact import Parameters, judge
from apps.gates.verdicts import Verdict
from tests.gates.make import NOON, facts, hours


def bundle(**fields):
    """A bundle that has been found intact for an hour."""
    return BundleFact(**{"checked_at": NOON - hours(1), "problem": "", **fields})


def find(bundle, at=NOON, wait_minutes=15, **fields):
    return judge(facts(bundle=bundle, **fields), Parameters(wait_minutes=wait_minutes), at)


def test_an_intact_bundle_passes_and_says_since_when():
    finding = find(bundle())
    assert finding.verdict == Verdict.PASS
    assert finding.sentence == (
        "The bundle is in S3 as it was registered; found so since 2026-03-01 11:00 UTC."
    )


@pytest.mark.parametrize("failing_since", [None, NOON])
def test_a_bundle_that_is_gone_or_another_blocks_also_while_s3_says_nothing_more(failing_since):
    finding = find(bundle(problem="It is gone.", failing_since=failing_since))
    assert finding.verdict == Verdict.BLOCKED
    assert finding.sentence == "The bundle is not what was registered: It is gone."


@pytest.mark.parametrize(("minutes", "verdict"), [(14, Verdict.WAITING_EVIDENCE), (15, Verdict.INCONCLUSIVE)])
def test_s3_is_waited_for_a_while_and_then_it_is_inconclusive(minutes, verdict):
    fact = bundle(failing_since=NOON, failure="S3 HeadObject: no answer.")
    finding = find(fact, at=NOON + timedelta(minutes=minutes))
    assert finding.verdict == verdict
    assert finding.sentence.startswith("S3 does not tell of the bundle (S3 HeadObject: no answer)")
    assert finding.evidence["waits_until"] == "2026-03-01T12:15:00+00:00"


@pytest.mark.parametrize("fact", [None, bundle(checked_at=None)])
def test_a_look_is_waited_for_from_the_request_on(fact):
    # Asked for twelve minutes before noon.
    assert find(fact).verdict == Verdict.WAITING_EVIDENCE
    late = find(fact, wait_minutes=12)
    assert late.verdict == Verdict.INCONCLUSIVE
    assert late.sentence == (
        "Nobody has looked at the bundle in S3 yet; an answer was expected within 12 minutes."
    )
    assert late.who.startswith("whoever runs manage.py reconcile")


def test_without_a_promotion_nobody_will_look():
    assert find(None, promotion=None).verdict == Verdict.INCONCLUSIVE
