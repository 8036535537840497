"""Builds and their evidence: reading only."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import display

from apps.admin_base import LABELS, ReadOnlyAdmin, ReadOnlyInline, only, pretty
from apps.builds import (
    flaky_admin,  # noqa: F401  # it registers itself
    page,
)
from apps.builds.coverage import (
    COVERAGE,
    Comparison,
    compare_coverage,
    earlier_report,
    percent,
)
from apps.builds.history import search_cases
from apps.builds.links import build_links
from apps.builds.models import Build, Report, ReportFile, TestCase, TestResult
from apps.builds.parsers.file_coverage import FileCoverage
from apps.errors import DomainError

FILES_SHOWN = 50


def _share(report: Report) -> str:
    """A coverage report's share of lines; a dash for one of tests."""
    share = percent(FileCoverage("", report.lines_covered or 0, report.lines_total or 0))
    return "-" if share is None else f"{share:.2f} %"


def _files(comparison: Comparison) -> SafeString:
    """The files that lost most against the earlier report, or have most lines that no test ran."""
    against = comparison.against
    files = comparison.ordered("change" if against else "missed")
    head = "The files with most lines that no test ran:"
    if against:
        page = reverse("admin:builds_report_change", args=[against.pk])
        head = format_html(
            'Those that lost most against <a class="text-link" href="{}">{}</a> come first:',
            page,
            against.build,
        )
    rows = format_html_join(
        "",
        '<tr><td class="break-all pr-4">{}</td><td class="pr-4 text-right">{}</td>'
        '<td class="pr-4 text-right">{}</td><td class="text-right">{}</td></tr>',
        (
            (
                file.path,
                f"{file.now.lines_covered:,}/{file.now.lines_total:,}" if file.now else "gone",
                "" if percent(file.now) is None else f"{percent(file.now):.2f} %",
                f"{file.change:+.2f}" if file.change else "",
            )
            for file in files[:FILES_SHOWN]
        ),
    )
    more = f"and {len(files) - FILES_SHOWN:,} more" if len(files) > FILES_SHOWN else ""
    columns = (("file", ""), ("lines run", "text-right"), ("share", "text-right"), ("change", "text-right"))
    titles = format_html_join("", '<th class="pr-4 font-medium {1}">{0}</th>', columns)
    return format_html(
        '<p>{}</p><table class="text-xs"><tr class="text-left">{}</tr>{}</table><p>{}</p>',
        head,
        titles,
        rows,
        more,
    )


class ReportInline(ReadOnlyInline):
    model = Report
    fields = (
        "name",
        "source",
        "status",
        "passed",
        "failed",
        "errors",
        "skipped",
        "unknown",
        "lines",
        "problem",
    )
    show_change_link = True

    @display(description="lines covered")
    def lines(self, report: Report) -> str:
        return _share(report)


class TestResultInline(ReadOnlyInline):
    __test__ = False

    model = TestResult
    fields = ("case", "status", "message")
    verbose_name_plural = "test cases that did not pass"
    per_page = 50

    def get_queryset(self, request: HttpRequest) -> QuerySet[TestResult]:
        return super().get_queryset(request).select_related("case")


class ReportFileInline(ReadOnlyInline):
    model = ReportFile
    fields = ("key", "version", "size", "sha256")


@admin.register(Build)
class BuildAdmin(ReadOnlyAdmin):
    list_display = (
        "__str__",
        "service",
        "show_status",
        "show_commit",
        "started_at",
        "finished_at",
        "problem",
    )
    list_filter = (only("service"), "status")
    list_select_related = ("service",)
    search_fields = ("=codebuild_id", "commit__startswith")
    fields = (
        "service",
        "codebuild_id",
        "number",
        "status",
        "commit",
        "source_version",
        "problem",
        "show_deviations",
        "show_exports",
        "show_links",
        "requested_by",
        "started_at",
        "finished_at",
        "created_at",
        "collected_at",
    )
    inlines = (ReportInline,)
    change_form_outer_before_template = "builds/build_before.html"

    def page_context(self, request: HttpRequest, build: Build) -> dict[str, Any]:
        compared = page.comparison(request, build, self.get_queryset(request))
        return {"comparison": compared, "trend": page.trend(build)}

    @display(description="status", label=LABELS, ordering="status")
    def show_status(self, build: Build) -> str:
        return build.status

    @display(description="commit", ordering="commit")
    def show_commit(self, build: Build) -> str:
        return build.commit[:12]

    @display(description="deviations from its project")
    def show_deviations(self, build: Build) -> str:
        if build.deviations is None:
            return "not checked yet"
        return "\n".join(map(str, build.deviations)) or "none: it ran as its project defines it"

    @display(description="exported variables")
    def show_exports(self, build: Build) -> str:
        return pretty(build.exports)

    @display(description="elsewhere")
    def show_links(self, build: Build) -> str:
        links = build_links(build)
        if not links:
            return build.log_url or "-"
        row = '<a class="mr-4 text-link" href="{}" rel="noreferrer">{}</a>'
        return format_html_join("", row, ((url, name) for name, url in links.items()))


@admin.register(Report)
class ReportAdmin(ReadOnlyAdmin):
    service_path = "build__service"
    list_display = (
        "name",
        "build",
        "status",
        "passed",
        "failed",
        "errors",
        "skipped",
        "is_complete",
        "problem",
    )
    list_filter = (only("build__service"),)
    list_select_related = ("build",)
    ordering = ("-id",)
    search_fields = ("=name", "=status", "=build__codebuild_id")
    fields = (
        "build",
        "name",
        "source",
        "asserted_by",
        "type",
        "status",
        "is_complete",
        "problem",
        "show_outcomes",
        "show_coverage",
        "show_files",
        "pruned_at",
        "declared",
        "returned",
        "parsed",
        "truncated",
        "show_duration",
        "arn",
    )
    inlines = (TestResultInline, ReportFileInline)
    change_form_before_template = "builds/report_before.html"

    def page_context(self, request: HttpRequest, report: Report) -> dict[str, Any]:
        return page.report(report)

    def get_inlines(self, request: HttpRequest, obj: Report | None) -> Any:
        """Without test cases where there can be none."""
        covered = obj is not None and obj.type == COVERAGE
        return [each for each in self.inlines if not (covered and each is TestResultInline)]

    def get_fields(self, request: HttpRequest, obj: Report | None = None) -> Any:
        """Without what only the other kind of report has."""
        tests = ("show_outcomes", "declared", "returned", "parsed", "truncated", "show_duration")
        covered = obj is not None and obj.type == COVERAGE
        without = tests if covered else ("show_coverage", "show_files")
        return [name for name in super().get_fields(request, obj) if name not in without]

    @display(description="lines covered")
    def show_coverage(self, report: Report) -> str:
        if report.lines_total is None:
            return "unknown"
        branches = ""
        if report.branches_total:
            branches = f", {report.branches_covered:,} of {report.branches_total:,} branches"
        return f"{_share(report)}: {report.lines_covered:,} of {report.lines_total:,} lines{branches}"

    @display(description="files")
    def show_files(self, report: Report) -> str:
        try:
            comparison = compare_coverage(report, earlier_report(report))
        except DomainError as error:
            return str(error)
        return _files(comparison)

    @display(description="outcomes")
    def show_outcomes(self, report: Report) -> str:
        outcomes = ("passed", "failed", "errors", "skipped", "unknown")
        return ", ".join(f"{getattr(report, name)} {name}" for name in outcomes)

    @display(description="duration")
    def show_duration(self, report: Report) -> str:
        return f"{report.duration_ns / 1e9:.1f} s"

    @display(description="complete", boolean=True)
    def is_complete(self, report: Report) -> bool:
        return report.complete


@admin.register(ReportFile)
class ReportFileAdmin(ReadOnlyAdmin):
    service_path = "report__build__service"
    list_display = ("key", "report", "bucket", "size", "sha256")
    list_select_related = ("report",)
    ordering = ("-id",)


@admin.register(TestCase)
class TestCaseAdmin(ReadOnlyAdmin):
    __test__ = False

    list_display = ("__str__", "service", "group", "suite")
    list_filter = (only("service"),)
    list_select_related = ("service",)
    # What it means, search_cases says.
    search_fields = ("name", "class_name")
    search_help_text = "A part of class or name, or Class::name"
    fields = ("service", "group", "suite", "class_name", "name", "ordinal")
    change_form_outer_before_template = "builds/case_before.html"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[TestCase], search_term: str
    ) -> tuple[QuerySet[TestCase], bool]:
        return search_cases(queryset, search_term) if search_term else queryset, False

    def page_context(self, request: HttpRequest, case: TestCase) -> dict[str, Any]:
        return page.case(request, case)


@admin.register(TestResult)
class TestResultAdmin(ReadOnlyAdmin):
    __test__ = False

    service_path = "report__build__service"
    list_display = ("case", "show_status", "report", "show_build")
    list_filter = ("status", only("report__build__service"))
    list_select_related = ("case", "report__build")
    ordering = ("-id",)

    @display(description="status", label=LABELS | {"FAILED": "danger", "SKIPPED": "info"}, ordering="status")
    def show_status(self, result: TestResult) -> str:
        return result.status

    @display(description="build")
    def show_build(self, result: TestResult) -> str:
        return str(result.report.build)
