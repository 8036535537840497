"""What a gate is told: one frozen value of plain data, which a Decision keeps and can be judged from again.

It holds timestamps and no ages; the time of evaluation stands beside it. It holds nothing that changes
without a meaning, since a changed value is a new Decision.
"""

from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import datetime
from types import NoneType, UnionType
from typing import Any, Self, Union, get_args, get_origin, get_type_hints

import orjson


@dataclass(frozen=True)
class PersonFact:
    """A user, as far as a gate cares."""

    id: int
    username: str
    # Of the approver groups of the service, by name, those that the person belongs to now.
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class BuildFact:
    """The build whose evidence counts for the release."""

    id: int
    codebuild_id: str
    # CodeBuild's word: IN_PROGRESS, SUCCEEDED, FAILED, FAULT, STOPPED, TIMED_OUT.
    status: str
    # How it differed from its project's definition; None while nobody has checked.
    deviations: tuple[str, ...] | None
    registered_at: datetime
    finished_at: datetime | None
    # When its reports had been read to the end, or given up on.
    collected_at: datetime | None
    problem: str
    log_url: str


@dataclass(frozen=True)
class ReportFact:
    """One report of the build with its counts; ``complete`` is Report.complete."""

    id: int
    name: str
    type: str
    status: str
    complete: bool
    problem: str
    declared: int | None
    returned: int | None
    parsed: int | None
    passed: int
    failed: int
    errors: int
    skipped: int
    unknown: int
    # Who sent it; empty where Lockkeeper read it from CodeBuild itself.
    asserted_by: str = ""
    # Of a coverage report; None where it is none, or could not be read.
    lines_covered: int | None = None
    lines_total: int | None = None
    # Since when its cases are gone and only its counts are left.
    pruned_at: datetime | None = None
    # What its tests took together; None in facts from before it was told.
    duration_ns: int | None = None


@dataclass(frozen=True)
class RunningFact:
    """What runs in the judged environment now, with the evidence that it stands on, to be compared with."""

    release_id: int
    version: str
    digest: str
    since: datetime
    reports: tuple[ReportFact, ...]


@dataclass(frozen=True)
class ComparisonFact:
    """The tests of a report group beside those that they are in what runs in the environment.

    A new failure failed or ended in an error, and did neither before; a vanished test is not there any more.
    Of both only the first few are named.
    """

    group: str
    new_failures: int
    vanished: int
    first_new_failures: tuple[str, ...]
    first_vanished: tuple[str, ...]
    # Why they cannot be compared; empty where they can.
    problem: str


@dataclass(frozen=True)
class BundleFact:
    """The bundle in S3 as the looks at it found it; ``problem`` says why it is not what was registered.

    ``checked_at`` is when the answer was first what it still is, and not the last look: that would be another
    decision every few minutes.
    """

    checked_at: datetime | None
    problem: str
    # Since when S3 gives no answer, and why.
    failing_since: datetime | None = None
    failure: str = ""


@dataclass(frozen=True)
class WayBackFact:
    """How open the way is between the release and what runs in the environment now, over their migrations.

    ``level`` is ``reversible``, ``forward_compatible`` or ``one_way``; ``unknown`` where the sources do not
    tell. ``migration`` and ``operation`` name what makes it so.
    """

    level: str
    migration: str
    operation: str
    # The version of what runs; empty where nothing does.
    running: str = ""


@dataclass(frozen=True)
class HealthFact:
    """An environment's health as it stands since ``since``, by what the last deployment left on its hosts."""

    # empty: nothing was ever deployed there. changing: a deployment is under way. mixed: several releases.
    state: str  # healthy | unhealthy | mixed | unknown | changing | empty
    since: datetime
    reason: str
    deployment_id: int | None


@dataclass(frozen=True)
class StayFact:
    """A time without a break in which a release was current and its environment healthy; open if it lasts."""

    since: datetime
    until: datetime | None


@dataclass(frozen=True)
class WindowFact:
    """When an environment may be deployed to (allow), or may not (deny).

    It opens at ``starts_at``, a local time of ``timezone``, and again as ``rrule`` (RFC 5545) says; without
    one, once. Each time it is open for ``minutes``.
    """

    id: int
    name: str
    kind: str  # allow | deny
    starts_at: str  # local, ISO 8601 without an offset
    minutes: int
    timezone: str  # IANA
    rrule: str


@dataclass(frozen=True)
class PinFact:
    """The environment is held at a release."""

    id: int
    release_id: int
    version: str
    reason: str
    by: PersonFact
    at: datetime
    expires_at: datetime | None


@dataclass(frozen=True)
class VetoFact:
    """The release may not go to ``environment``; to none of the service's where that is empty."""

    id: int
    environment: str
    reason: str
    by: PersonFact
    at: datetime


@dataclass(frozen=True)
class SupersededFact:
    """A newer release that runs in the environment, or waits for it in ``promotion_id``."""

    release_id: int
    version: str
    promotion_id: int | None


@dataclass(frozen=True)
class OverrideFact:
    """Operators let the release pass, against the findings of the rules named, until ``expires_at``."""

    id: int
    rules: tuple[str, ...]  # none named: all
    justification: str
    by: PersonFact
    at: datetime
    expires_at: datetime
    # The second person, where the policy asks for one.
    seconded_by: PersonFact | None
    # Whether each of them holds the operator role now and is active.
    counts: bool


@dataclass(frozen=True)
class FailureFact:
    """A test that failed or ended in an error; only the first few are told, the counts are the reports'."""

    report: str
    name: str  # class::name
    status: str
    message: str


@dataclass(frozen=True)
class QuarantineFact:
    """A test that failed or ended in an error, and that somebody has quarantined until ``until``."""

    id: int
    report: str
    name: str  # class::name
    by: PersonFact
    reason: str
    at: datetime
    until: datetime


@dataclass(frozen=True)
class UpstreamFact:
    """An environment that the judged one is promoted from, and this release's time in it."""

    id: int
    slug: str
    # The last time this release was deployed there with success; None if it never was.
    deployment_id: int | None
    since: datetime | None
    until: datetime | None
    # A promotion of this release that is pending or under way there.
    promotion_id: int | None
    promotion_at: datetime | None
    # Of this release there, oldest first.
    stays: tuple[StayFact, ...] = ()
    health: HealthFact | None = None


@dataclass(frozen=True)
class ApprovalFact:
    """A person's word on this promotion."""

    user: PersonFact
    approved: bool
    at: datetime
    # Whether the person holds the approver role now and is active.
    counts: bool


@dataclass(frozen=True)
class PromotionFact:
    """The wish that is judged."""

    id: int
    requested_by: PersonFact
    requested_at: datetime
    # Whether it brings an older release back, which other rules may be for.
    rollback: bool = False
    # Contract migrations of which the requester of a rollback says that they have not been applied.
    not_applied: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """Everything that the rules may ask about one release at the gate of one environment."""

    service: str
    environment: str
    release_id: int
    release_version: str
    release_digest: str
    build: BuildFact | None
    reports: tuple[ReportFact, ...]
    failures: tuple[FailureFact, ...]
    upstreams: tuple[UpstreamFact, ...]
    upstream_mode: str  # all | any
    # None when a release is judged that nobody has asked to promote.
    promotion: PromotionFact | None
    approvals: tuple[ApprovalFact, ...]
    # Active users who hold the approver role now.
    approvers: tuple[PersonFact, ...]
    # What came later has a default, so that decisions made before can still be read.
    running: RunningFact | None = None
    # The release's tests beside those of what runs, by report group; None where they were not compared.
    comparisons: tuple[ComparisonFact, ...] | None = None
    bundle: BundleFact | None = None
    # From this release back to what runs now.
    way_back: WayBackFact | None = None
    # From what runs now to this release: whether it can run on the database as that has left it.
    schema: WayBackFact | None = None
    health: HealthFact | None = None
    windows: tuple[WindowFact, ...] = ()
    pin: PinFact | None = None
    vetoes: tuple[VetoFact, ...] = ()
    superseded_by: SupersededFact | None = None
    overrides: tuple[OverrideFact, ...] = ()
    # The longest in force first.
    quarantines: tuple[QuarantineFact, ...] = ()
    # Reports that the policy does not count; evaluate.counting moves them here.
    set_aside: tuple[ReportFact, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; timestamps as ISO 8601 with their offset."""
        # In C: there are hundreds of values, and a thousand promotions may be judged at once.
        plain: dict[str, Any] = orjson.loads(orjson.dumps(self))
        return plain

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The very value that to_json wrote; ValueError when a part is missing or of another type.

        A key that this version does not know is left out: a later version may have been told more.
        """
        facts: Self = _read(cls, data, "facts")
        return facts


def _read(kind: Any, value: Any, where: str) -> Any:
    if get_origin(kind) in (Union, UnionType):
        if value is None:
            return None
        (kind,) = (option for option in get_args(kind) if option is not NoneType)
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{where}: a list is expected, not {value!r}")
        item = get_args(kind)[0]
        return tuple(_read(item, each, f"{where}[{index}]") for index, each in enumerate(value))
    if isinstance(kind, type) and is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError(f"{where}: an object is expected, not {value!r}")
        kinds = get_type_hints(kind)
        missing = [
            field.name for field in fields(kind) if field.name not in value and field.default is MISSING
        ]
        if missing:
            raise ValueError(f"{where}: {', '.join(missing)} is missing")
        return kind(
            **{
                field.name: _read(kinds[field.name], value[field.name], f"{where}.{field.name}")
                for field in fields(kind)
                if field.name in value
            }
        )
    if kind is datetime and isinstance(value, str):
        return datetime.fromisoformat(value)
    # bool is an int to Python, and not to us.
    if type(value) is not kind:
        raise ValueError(f"{where}: {getattr(kind, '__name__', kind)} is expected, not {value!r}")
    return value
