"""Builds as CodeBuild ran them, and the evidence that they left."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.expressions import RawSQL
from django.utils import timezone

from apps.catalog.models import Service
from apps.leases import Leasable


class BuildQuerySet(models.QuerySet["Build"]):
    def uncollected(self) -> "BuildQuerySet":
        """Builds whose evidence the server has not read to the end."""
        return self.filter(collected_at=None)


class Build(Leasable):
    """One CodeBuild run of one commit."""

    class Status(models.TextChoices):
        IN_PROGRESS = "IN_PROGRESS"
        SUCCEEDED = "SUCCEEDED"
        FAILED = "FAILED"
        FAULT = "FAULT"
        STOPPED = "STOPPED"
        TIMED_OUT = "TIMED_OUT"

    service = models.ForeignKey(Service, on_delete=models.PROTECT, related_name="builds")
    codebuild_id = models.CharField(max_length=300, unique=True, help_text="project:uuid")
    number = models.PositiveIntegerField(null=True, blank=True)
    commit = models.CharField(
        max_length=40, blank=True, help_text="Asserted by the caller for a source in S3."
    )
    source_version = models.CharField(max_length=1024, blank=True)
    status = models.CharField(max_length=12, choices=Status, default=Status.IN_PROGRESS)
    deviations = models.JSONField(
        null=True, blank=True, help_text="How it differed from its project's definition; [] when it did not."
    )
    exports = models.JSONField(default=dict, blank=True, help_text="Variables the build exported.")
    log_url = models.TextField(blank=True)
    pipeline_url = models.TextField(
        blank=True, default="", db_default="", help_text="The pipeline's run that asked for it, as that said."
    )
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    collected_at = models.DateTimeField(
        null=True, blank=True, help_text="When its reports had been read to the end, or given up on."
    )
    problem = models.TextField(blank=True, help_text="Why its evidence or its bundle could not be read.")

    objects = BuildQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    status__in=["IN_PROGRESS", "SUCCEEDED", "FAILED", "FAULT", "STOPPED", "TIMED_OUT"]
                ),
                name="build_status_known",
            ),
            models.CheckConstraint(
                condition=Q(collected_at=None) | ~Q(status="IN_PROGRESS"),
                name="build_collected_after_its_end",
            ),
        ]
        indexes = [
            # What reconcile still has to read.
            models.Index(fields=["id"], condition=Q(collected_at=None), name="build_uncollected"),
            # A service's newest builds.
            models.Index(fields=["service", "-id"], name="build_of_service"),
        ]

    def __str__(self) -> str:
        return self.codebuild_id


class ReportGroup(models.Model):
    """What a service's reports of one name have in common: the test cases, and their positions."""

    service = models.ForeignKey(Service, on_delete=models.CASCADE, related_name="report_groups")
    name = models.CharField(max_length=255)
    size = models.PositiveIntegerField(
        default=0, help_text="How many test cases it has had, which is the next one's position."
    )

    class Meta:
        ordering = ["service", "name"]
        constraints = [models.UniqueConstraint(fields=["service", "name"], name="report_group_once")]

    def __str__(self) -> str:
        return self.name


class Report(models.Model):
    """A report of a build: CodeBuild's own counts beside what the raw files hold."""

    class Source(models.TextChoices):
        CODEBUILD = "codebuild", "read from CodeBuild"
        ASSERTED = "asserted", "asserted by a caller"

    build = models.ForeignKey(Build, on_delete=models.CASCADE, related_name="reports")
    source = models.CharField(max_length=10, choices=Source, default=Source.CODEBUILD, db_default="codebuild")
    asserted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Who sent it; none where Lockkeeper read it from CodeBuild itself.",
    )
    group = models.ForeignKey(
        ReportGroup,
        null=True,
        on_delete=models.PROTECT,
        related_name="reports",
        db_index=False,
        help_text="Where its cases have their positions; none where no case was read.",
    )
    name = models.CharField(max_length=255, help_text="The report group's name.")
    arn = models.CharField(max_length=400, unique=True, null=True, help_text="CodeBuild's; none if asserted.")
    type = models.CharField(max_length=20, help_text="TEST or CODE_COVERAGE.")
    status = models.CharField(max_length=12, help_text="CodeBuild's: SUCCEEDED, FAILED, INCOMPLETE …")
    truncated = models.BooleanField(default=False, help_text="CodeBuild shows 500 cases of a report at most.")
    declared = models.PositiveIntegerField(null=True, help_text="Cases in CodeBuild's summary.")
    returned = models.PositiveIntegerField(null=True, help_text="Cases DescribeTestCases returned.")
    parsed = models.PositiveIntegerField(
        null=True,
        help_text="Cases read from the raw files; where there is a problem, perhaps not all of them.",
    )
    passed = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    errors = models.PositiveIntegerField(default=0)
    skipped = models.PositiveIntegerField(default=0)
    unknown = models.PositiveIntegerField(default=0)
    duration_ns = models.PositiveBigIntegerField(default=0)
    # Of a coverage report; by file they are in CoveredFiles.
    lines_covered = models.PositiveBigIntegerField(null=True, help_text="Lines that a test ran.")
    lines_total = models.PositiveBigIntegerField(null=True, help_text="Lines that a test could run.")
    branches_covered = models.PositiveBigIntegerField(null=True)
    branches_total = models.PositiveBigIntegerField(null=True, help_text="Unknown where it does not tell.")
    problem = models.TextField(blank=True, help_text="Why it is not complete; empty when it is.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    pruned_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="When its cases were removed; its counters stayed."
    )

    class Meta:
        ordering = ["build", "name"]
        constraints = [
            models.UniqueConstraint(fields=["build", "name"], name="report_once_per_build"),
            # Counters describe the parsed cases, so a complete report adds up.
            models.CheckConstraint(
                condition=Q(parsed=None)
                | Q(parsed=F("passed") + F("failed") + F("errors") + F("skipped") + F("unknown")),
                name="report_counters_add_up",
            ),
            models.CheckConstraint(
                # Where they are unknown, so is this, which PostgreSQL accepts.
                condition=Q(lines_covered__lte=F("lines_total"), branches_covered__lte=F("branches_total")),
                name="report_covers_no_more_than_there_is",
            ),
            models.CheckConstraint(
                condition=Q(source="codebuild", asserted_by=None, arn__isnull=False)
                | Q(source="asserted", asserted_by__isnull=False, arn=None),
                name="report_source_told",
            ),
        ]
        indexes = [
            # The newest reports of a group: what the history of a case is read from.
            models.Index(fields=["group", "-id"], name="report_of_group"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def complete(self) -> bool:
        """Whether a gate may rely on it."""
        told = {"type": self.type, "parsed": self.parsed, "lines_total": self.lines_total}
        return is_complete({**told, "problem": self.problem})


def is_complete(report: Mapping[str, Any]) -> bool:
    """Whether a gate may rely on a report of these columns: read to the end, and every count explained."""
    read = report["lines_total"] if report["type"] == "CODE_COVERAGE" else report["parsed"]
    return read is not None and not report["problem"]


# The same of a row in PostgreSQL.
COMPLETE = Q(problem="") & (
    Q(type="CODE_COVERAGE", lines_total__isnull=False) | Q(~Q(type="CODE_COVERAGE"), parsed__isnull=False)
)


class ReportOutcomes(models.Model):
    """How every case of a report ended, in the bytes that apps.builds.outcomes describes.

    A table of its own, so that nobody reads half a megabyte who only wants a report's counters. PostgreSQL
    stores the bytes uncompressed and can read a slice of them.
    """

    report = models.OneToOneField(Report, primary_key=True, on_delete=models.CASCADE, related_name="outcomes")
    data = models.BinaryField()

    class Meta:
        verbose_name_plural = "report outcomes"

    def __str__(self) -> str:
        return f"outcomes of {self.report}"


class ReportFile(models.Model):
    """A raw report file in S3, as it was read."""

    report = models.ForeignKey(Report, on_delete=models.CASCADE, related_name="files")
    bucket = models.CharField(max_length=63)
    key = models.CharField(max_length=1024)
    version = models.CharField(max_length=1024, blank=True)
    size = models.PositiveBigIntegerField()
    sha256 = models.CharField(max_length=64)

    class Meta:
        ordering = ["report", "key"]
        constraints = [models.UniqueConstraint(fields=["report", "key"], name="report_file_once")]

    def __str__(self) -> str:
        return self.key


class CoveredFiles(models.Model):
    """Coverage by file of a report. It is read as a whole, and far smaller so than as rows."""

    report = models.OneToOneField(
        Report, on_delete=models.CASCADE, primary_key=True, related_name="covered_files"
    )
    packed = models.BinaryField(help_text="apps.builds.coverage packs and unpacks it.")

    def __str__(self) -> str:
        return f"files of {self.report}"


class TestCase(models.Model):
    """A test's identity within a service.

    The database does not check what rows of cases, states and results refer to: they are written by the
    thousand, in the transaction that locked or made what they refer to, and a check costs as much as a row.
    """

    __test__ = False  # pytest would take it for a test

    id = models.BigIntegerField(primary_key=True, help_text="Signed 64-bit BLAKE2b of what identifies it.")
    service = models.ForeignKey(
        Service, on_delete=models.CASCADE, related_name="test_cases", db_constraint=False
    )
    # The name is what releases before positions read; later it can go.
    group = models.CharField(max_length=255, help_text="The report group's name.")
    report_group = models.ForeignKey(
        ReportGroup,
        null=True,
        on_delete=models.CASCADE,
        related_name="cases",
        db_index=False,
        db_constraint=False,
    )
    position = models.PositiveIntegerField(
        null=True, help_text="Where its outcomes are in the reports of its group; it never changes."
    )
    suite = models.TextField(blank=True)
    class_name = models.TextField(blank=True)
    name = models.TextField()
    ordinal = models.PositiveIntegerField(
        default=0, help_text="Tells cases of the same name in one report apart."
    )

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["report_group", "position"], name="test_case_has_its_position"),
        ]

    def __str__(self) -> str:
        return f"{self.class_name}::{self.name}" if self.class_name else self.name


class CaseIdentities(models.Model):
    """The ids of cases that came to their group one after the other: 8 bytes each, big-endian.

    Whoever reads a report needs those of all its group's cases; a hundred thousand rows take ten times as
    long. A group's rows are added to and never changed. A release before them adds cases alone; then they
    know fewer than the group's size says, until the next report that brings a case makes up for it.
    """

    group = models.ForeignKey(
        ReportGroup, on_delete=models.CASCADE, related_name="identities", db_index=False
    )
    position = models.PositiveIntegerField(help_text="Of the first of them.")
    identities = models.BinaryField()

    class Meta:
        ordering = ["group", "position"]
        constraints = [models.UniqueConstraint(fields=["group", "position"], name="case_identities_once")]
        verbose_name_plural = "case identities"

    def __str__(self) -> str:
        return f"cases of {self.group} from {self.position}"


LONGEST_QUARANTINE = timedelta(days=90)


class QuarantineQuerySet(models.QuerySet["Quarantine"]):
    def in_force(self) -> "QuarantineQuerySet":
        """Those that have neither been lifted nor run out."""
        return self.filter(lifted_at=None, until__gt=timezone.now())

    def ended(self) -> "QuarantineQuerySet":
        """Those that have been lifted or have run out."""
        return self.exclude(lifted_at=None, until__gt=timezone.now())


class Quarantine(models.Model):
    """A person's word that a test's failures are known, until when, and why. It always runs out."""

    case = models.ForeignKey(TestCase, on_delete=models.PROTECT, related_name="quarantines")
    reason = models.TextField()
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    until = models.DateTimeField(help_text="Its end, at most 90 days after its beginning.")
    lifted_at = models.DateTimeField(null=True, blank=True, help_text="When it was ended before its time.")
    lifted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )

    objects = QuarantineQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(until__gt=F("created_at")) & Q(until__lte=F("created_at") + LONGEST_QUARANTINE),
                name="quarantine_ends_within_90_days",
            ),
            models.CheckConstraint(condition=~Q(reason=""), name="quarantine_has_a_reason"),
            models.CheckConstraint(
                condition=Q(lifted_at=None, lifted_by=None) | Q(lifted_at__isnull=False),
                name="quarantine_lifted_by_somebody_at_some_time",
            ),
        ]
        indexes = [
            # Whether a case is quarantined now.
            models.Index(fields=["case", "until"], condition=Q(lifted_at=None), name="quarantine_not_lifted"),
        ]

    def __str__(self) -> str:
        return f"{self.case} until {self.until:%Y-%m-%d}"

    @property
    def in_force(self) -> bool:
        """Whether it has neither been lifted nor run out."""
        return self.lifted_at is None and self.until > timezone.now()


def cases_in_quarantine() -> RawSQL:
    """The ids of the cases that are quarantined now, to be looked up by ``__in``.

    To put such a subquery together takes Django longer than all else of a list of cases.
    """
    return RawSQL(
        "SELECT case_id FROM builds_quarantine WHERE lifted_at IS NULL AND until > %s", [timezone.now()]
    )


class CaseStateQuerySet(models.QuerySet["CaseState"]):
    def quarantined(self) -> "CaseStateQuerySet":
        """Those of cases that are quarantined now."""
        return self.filter(case__in=cases_in_quarantine())

    def not_healthy(self) -> "CaseStateQuerySet":
        """Flaky, broken and quarantined ones; not those that are healthy by the end of their quarantine."""
        return self.filter(~Q(state=CaseState.State.HEALTHY) | Q(case__in=cases_in_quarantine()))

    def shown_as(self, state: str) -> "CaseStateQuerySet":
        """Those in a state as people see it: quarantined, or else what the runs say."""
        if state == "quarantined":
            return self.quarantined()
        return self.filter(~Q(case__in=cases_in_quarantine()), state=state)


class CaseState(models.Model):
    """What the newest runs of a case say of it, as apps.builds.flaky judges them.

    Healthy cases have no row, unless they are quarantined.
    """

    class State(models.TextChoices):
        HEALTHY = "healthy"
        FLAKY = "flaky"
        BROKEN = "broken"

    case = models.OneToOneField(
        TestCase, on_delete=models.CASCADE, related_name="judged", db_constraint=False
    )
    # Of the case; kept here for the list of a service, and for the writer of a group.
    service = models.ForeignKey(
        Service, on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False
    )
    group = models.ForeignKey(ReportGroup, on_delete=models.CASCADE, related_name="+", db_constraint=False)
    state = models.CharField(max_length=7, choices=State)
    score = models.PositiveSmallIntegerField(
        null=True, help_text="Of 1,000 runs that could differ from the one before, how many did."
    )
    runs = models.PositiveSmallIntegerField(help_text="In the window, as all that follows.")
    failures = models.PositiveSmallIntegerField()
    transitions = models.PositiveSmallIntegerField(help_text="Runs that differ from the one before.")
    commits = models.PositiveSmallIntegerField(help_text="On which it both passed and failed.")
    since = models.DateTimeField(help_text="When the first report came after which it was in this state.")
    report = models.ForeignKey(
        Report,
        on_delete=models.CASCADE,
        related_name="+",
        db_index=False,
        db_constraint=False,
        help_text="The report after which it was judged.",
    )

    objects = CaseStateQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=["healthy", "flaky", "broken"]), name="case_state_known"
            ),
        ]
        indexes = [
            # The flaky, or broken, cases of a service.
            models.Index(fields=["service", "state", "-id"], name="case_state_of_service"),
        ]

    def __str__(self) -> str:
        return f"{self.case}: {self.state}"


class TestResult(models.Model):
    """What a case that did not pass said; how all of them ended is in the report's outcomes."""

    __test__ = False

    class Status(models.TextChoices):
        FAILED = "FAILED"
        ERROR = "ERROR"
        SKIPPED = "SKIPPED"
        UNKNOWN = "UNKNOWN"

    # Constraint and index below begin with the report; a case is only ever looked for in certain reports.
    report = models.ForeignKey(
        Report, on_delete=models.CASCADE, related_name="results", db_index=False, db_constraint=False
    )
    case = models.ForeignKey(
        TestCase, on_delete=models.PROTECT, related_name="results", db_index=False, db_constraint=False
    )
    status = models.CharField(max_length=7, choices=Status)
    duration_ns = models.PositiveBigIntegerField(default=0)
    message = models.TextField(blank=True, help_text="Message and details, cut at 2,000 characters.")

    class Meta:
        ordering = ["report", "id"]
        constraints = [
            models.UniqueConstraint(fields=["report", "case"], name="test_result_once_per_report"),
            models.CheckConstraint(
                condition=Q(status__in=["FAILED", "ERROR", "SKIPPED", "UNKNOWN"]),
                name="test_result_not_passed",
            ),
        ]
        indexes = [
            # The first of a report, in the order in which it has them.
            models.Index(fields=["report", "id"], name="test_result_in_order"),
        ]

    def __str__(self) -> str:
        return f"{self.case} {self.status}"
