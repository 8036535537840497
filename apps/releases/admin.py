"""Releases: reading only."""

from datetime import UTC

from django.contrib import admin
from django.utils.html import format_html, format_html_join
from unfold.decorators import display

from apps.admin_base import ReadOnlyAdmin, only, pretty
from apps.releases.migration_source import Level
from apps.releases.models import BundleLook, Release
from apps.releases.way_back import read_json


@admin.register(Release)
class ReleaseAdmin(ReadOnlyAdmin):
    list_display = ("version", "service", "show_commit", "show_digest", "size", "created_at")
    list_filter = (only("service"),)
    list_select_related = ("service",)
    search_fields = ("version", "commit__startswith", "digest__startswith")
    # They name every file of the bundle, and every migration.
    list_defer = ("manifest", "steps")
    fields = (
        "service",
        "version",
        "commit",
        "digest",
        "build",
        "size",
        "bucket",
        "key",
        "object_version",
        "etag",
        "show_look",
        "created_at",
        "show_steps",
        "show_manifest",
    )

    @display(description="commit", ordering="commit")
    def show_commit(self, release: Release) -> str:
        return release.commit[:12]

    @display(description="digest")
    def show_digest(self, release: Release) -> str:
        return release.digest[:12]

    @display(description="bundle in S3")
    def show_look(self, release: Release) -> str:
        look = BundleLook.objects.filter(release=release).first()
        if look is None or look.asked_at is None:
            return "nobody has looked since it was registered"
        at = f"{look.asked_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        if look.failing_since is not None:
            return f"S3 gave no answer at {at}: {look.failure}"
        return look.problem or f"as it was registered, at {at}"

    @display(description="way back over its migrations")
    def show_steps(self, release: Release) -> str:
        steps = read_json(release.steps)
        if steps is None:
            return "Nobody has read them: it is from before that was done."
        told = [step for step in steps if step.level != Level.REVERSIBLE]
        rows = [(step.label, step.level.replace("_", " "), step.operation) for step in told]
        others = f"{len(steps) - len(told)} of {len(steps)} migrations are reversible."
        return format_html(
            "{}{}", format_html_join("", "<b>{}</b>: {}, {}<br>", rows), others if steps else "No migration."
        )

    @display(description="manifest")
    def show_manifest(self, release: Release) -> str:
        return pretty(release.manifest)
