"""The release has been current and healthy for so long where this environment is promoted from.

Without a break: the time counts from when it became current there to the next deployment that may have
changed a host, and is kept when the release leaves. Two short stays do not add up to a long one.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from apps.gates.facts import Facts, StayFact, UpstreamFact
from apps.gates.parameters import names, wait_minutes, whole_number
from apps.gates.rules.base import Rule, moment
from apps.gates.verdicts import WORST_FIRST, Finding, Verdict, worst


@dataclass(frozen=True)
class Parameters:
    minutes: int = whole_number(
        default=60,
        minimum=1,
        maximum=60 * 24 * 90,
        help_text="Minutes for which it must have been current and healthy.",
    )
    upstreams: tuple[str, ...] = names(
        help_text="Upstream environments that it is about; without, all of them. Where each needs another "
        "time, use the rule once for each."
    )
    wait_minutes: int = wait_minutes(default=60 * 24)


def judge(facts: Facts, parameters: Parameters, at: datetime) -> Finding:
    """In all upstreams or in any of them, as the environment says; waits for a stay that goes on."""
    chosen = [
        each for each in facts.upstreams if not parameters.upstreams or each.slug in parameters.upstreams
    ]
    missing = sorted(set(parameters.upstreams) - {each.slug for each in chosen})
    if missing or not chosen:
        what = f"{', '.join(missing)}" if missing else "any environment"
        return Finding(
            Verdict.INCONCLUSIVE,
            f"{facts.environment} is not promoted from {what}, so nothing can soak there.",
            who=f"whoever sets up {facts.service}: name its upstreams in this rule, or drop it",
        )
    found = [_judge(facts, each, parameters, at) for each in chosen]
    evidence = {
        "minutes": parameters.minutes,
        "mode": facts.upstream_mode,
        "upstreams": [_evidence(each) for each in chosen],
    }
    if facts.upstream_mode == "any":
        # What is closest to passing speaks for all.
        verdict = max((each.verdict for each in found), key=WORST_FIRST.index)
    else:
        verdict = worst(each.verdict for each in found)
    speak = [each for each in found if each.verdict == verdict]
    times = [each.earliest for each in speak if each.earliest is not None]
    pick = min if facts.upstream_mode == "any" else max
    return Finding(
        verdict,
        " ".join(each.sentence for each in speak),
        evidence,
        who=" and ".join(dict.fromkeys(each.who for each in speak if each.who)),
        earliest=pick(times) if times else None,
        takes=pick(each.takes for each in speak),
    )


def _judge(facts: Facts, upstream: UpstreamFact, parameters: Parameters, at: datetime) -> Finding:
    needed = timedelta(minutes=parameters.minutes)
    length, release, place = _length(parameters.minutes), facts.release_version, upstream.slug
    longest = max((_lasted(each, at) for each in upstream.stays), default=timedelta(0))
    if upstream.stays and longest >= needed:
        return Finding(Verdict.PASS, f"{release} was healthy in {place} for at least {length}.")
    open_stay = next((each for each in upstream.stays if each.until is None), None)
    if open_stay is not None:
        over = open_stay.since + needed
        since = f"{release} is healthy in {place} since {moment(open_stay.since)}"
        return Finding(
            Verdict.WAITING_TIME, f"{since}, and must be for {length}: until {moment(over)}.", earliest=over
        )
    if upstream.promotion_at is not None:
        deadline = upstream.promotion_at + timedelta(minutes=parameters.wait_minutes)
        promotion = f"promotion {upstream.promotion_id} to {place}"
        late = f" after {_length(parameters.wait_minutes)}"
        return Finding(
            Verdict.WAITING_EVIDENCE if at < deadline else Verdict.INCONCLUSIVE,
            f"{release} must be healthy in {place} for {length}; {promotion} is not finished"
            f"{'' if at < deadline else late}.",
            who=f"whoever {promotion} waits for",
            takes=needed,
        )
    developer = f"a developer of {facts.service}"
    if upstream.since is None:
        never = f"{release} has never been deployed to {place} with success"
        sentence = f"{never}: promote it there first; it must be healthy there for {length}."
        return Finding(Verdict.BLOCKED, sentence, who=developer)
    if not upstream.stays or upstream.health is None:
        sentence = f"It is not known for how long {release} was healthy in {place}."
        return Finding(Verdict.INCONCLUSIVE, sentence, who=developer)
    health = upstream.health
    if health.state == "unknown":
        return Finding(
            Verdict.INCONCLUSIVE,
            f"It is not known whether {place} is healthy with {release}: {health.reason}",
            who=f"{developer}: deploy it to {place} again",
        )
    last = upstream.stays[-1].until
    short = f"{release} was healthy in {place} for less than {length}, until {moment(last or at)}"
    why = f" ({health.reason.rstrip('.')})" if health.state != "healthy" else ""
    return Finding(Verdict.BLOCKED, f"{short}{why}: deploy it there again.", who=developer)


def _lasted(stay: StayFact, at: datetime) -> timedelta:
    return (stay.until or at) - stay.since


def _length(minutes: int) -> str:
    units = ((60 * 24, "day"), (60, "hour"), (1, "minute"))
    size, unit = next((size, unit) for size, unit in units if minutes % size == 0)
    number = minutes // size
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def _evidence(upstream: UpstreamFact) -> dict[str, Any]:
    return {
        "environment": upstream.slug,
        "stays": [
            {
                "since": each.since.isoformat(),
                "until": each.until.isoformat() if each.until else None,
            }
            for each in upstream.stays
        ],
        "health": upstream.health.state if upstream.health else None,
        "deployment": upstream.health.deployment_id if upstream.health else None,
        "promotion": upstream.promotion_id,
    }


RULE = Rule("soak", Parameters, judge)
