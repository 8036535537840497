"""What a gate is told: one frozen value of plain data, which a Decision keeps and can be judged from again.

It holds timestamps and no ages; the time of evaluation stands beside it. It holds nothing that changes
without a meaning, since a changed value is a new Decision.
"""

from dataclasses import asdict, dataclass, fields, is_dataclass
from datetime import datetime
from types import NoneType, UnionType
from typing import Any, Self, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class PersonFact:
    """A user, as far as a gate cares."""

    id: int
    username: str


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


@dataclass(frozen=True)
class FailureFact:
    """A test that failed or ended in an error; only the first few are told, the counts are the reports'."""

    report: str
    name: str  # class::name
    status: str
    message: str


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

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; timestamps as ISO 8601 with their offset."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The very value that to_json wrote; ValueError when a part is missing or of another type.

        A key that this version does not know is left out: a later version may have been told more.
        """
        facts: Self = _read(cls, data, "facts")
        return facts


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


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
        missing = [field.name for field in fields(kind) if field.name not in value]
        if missing:
            raise ValueError(f"{where}: {', '.join(missing)} is missing")
        return kind(
            **{
                field.name: _read(kinds[field.name], value[field.name], f"{where}.{field.name}")
                for field in fields(kind)
            }
        )
    if kind is datetime and isinstance(value, str):
        return datetime.fromisoformat(value)
    # bool is an int to Python, and not to us.
    if type(value) is not kind:
        raise ValueError(f"{where}: {getattr(kind, '__name__', kind)} is expected, not {value!r}")
    return value
