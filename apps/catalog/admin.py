"""Services, their environments, and who may do what with them."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectMultipleWidget

from apps.access.permissions import acting_user
from apps.admin_base import MemberAdmin, ReadOnlyInline, RefusalsAsMessages, only
from apps.catalog import group_admin, token_admin  # noqa: F401  # they register themselves
from apps.catalog.models import Environment, Membership, Service
from apps.catalog.services import (
    grant_role,
    keep_evidence,
    register_environment,
    register_service,
    revoke_role,
)


class EnvironmentInline(ReadOnlyInline):
    model = Environment
    fields = ("slug", "position", "application", "deployment_group", "auto_promote")
    show_change_link = True


class MembershipInline(ReadOnlyInline):
    model = Membership
    fields = ("user", "role")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        return super().get_queryset(request).select_related("user")


@admin.register(Service)
class ServiceAdmin(RefusalsAsMessages, MemberAdmin):
    service_path = "pk"
    list_display = ("slug", "name", "codebuild_project", "bucket", "created_at")
    search_fields = ("slug", "name")
    fields = ("slug", "name", "repository", "bucket", "codebuild_project", "evidence_days")

    def get_inlines(self, request: HttpRequest, obj: Model | None) -> list[type[ReadOnlyInline]]:
        return [EnvironmentInline, MembershipInline] if obj else []

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        # The slug is in addresses, in S3 keys and in the ledger.
        return ("slug",) if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Service, form: Any, change: bool) -> None:
        saved = register_service(
            slug=obj.slug,
            name=obj.name,
            repository=obj.repository,
            bucket=obj.bucket,
            codebuild_project=obj.codebuild_project,
            by=acting_user(request),
        )
        keep_evidence(service=saved, days=obj.evidence_days, by=acting_user(request))
        obj.pk = saved.pk


ENVIRONMENT_FIELDS = (
    "service",
    "slug",
    "position",
    "application",
    "deployment_group",
    "auto_promote",
    "upstream_mode",
)


class EnvironmentsField(forms.ModelMultipleChoiceField):
    def label_from_instance(self, environment: Any) -> str:
        return f"{environment.service.slug}: {environment.slug}"


class EnvironmentForm(forms.ModelForm):
    # Django's admin edits no relation that has a model of its own in between (Upstream).
    promoted_from = EnvironmentsField(
        Environment.objects.select_related("service"),
        required=False,
        widget=UnfoldAdminSelectMultipleWidget,
        help_text="Environments of the same service where a release must have proved itself first.",
    )

    class Meta:
        model = Environment
        fields = ENVIRONMENT_FIELDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["promoted_from"]
        if self.instance.pk and isinstance(field, EnvironmentsField):
            siblings = Environment.objects.filter(service=self.instance.service_id)
            field.queryset = siblings.exclude(pk=self.instance.pk).select_related("service")
            field.initial = self.instance.upstreams.all()


@admin.register(Environment)
class EnvironmentAdmin(RefusalsAsMessages, MemberAdmin):
    form = EnvironmentForm
    list_display = (
        "slug",
        "service",
        "position",
        "show_upstreams",
        "auto_promote",
        "application",
        "deployment_group",
    )
    list_filter = (only("service"),)
    list_select_related = ("service",)
    search_fields = ("slug", "service__slug")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Environment]:
        return super().get_queryset(request).prefetch_related("upstreams")

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        return (
            *ENVIRONMENT_FIELDS,
            "promoted_from" if self.has_change_permission(request, obj) else "show_upstreams",
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        return ("service", "slug", "show_upstreams") if obj else ("show_upstreams",)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Environment, form: Any, change: bool) -> None:
        saved = register_environment(
            service=obj.service,
            slug=obj.slug,
            position=obj.position,
            application=obj.application,
            deployment_group=obj.deployment_group,
            upstream_mode=obj.upstream_mode,
            auto_promote=obj.auto_promote,
            upstreams=list(form.cleaned_data["promoted_from"]),
            by=acting_user(request),
        )
        obj.pk = saved.pk

    @display(description="promoted from")
    def show_upstreams(self, environment: Environment) -> str:
        return ", ".join(upstream.slug for upstream in environment.upstreams.all()) or "-"


@admin.register(Membership)
class MembershipAdmin(RefusalsAsMessages, MemberAdmin):
    """Roles are given and taken away; another role is another membership."""

    list_display = ("user", "service", "role")
    list_filter = (only("service"), "role")
    list_select_related = ("user", "service")
    search_fields = ("user__username", "service__slug")
    autocomplete_fields = ("user", "service")

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Membership, form: Any, change: bool) -> None:
        obj.pk = grant_role(user=obj.user, service=obj.service, role=obj.role, by=acting_user(request)).pk

    def delete_model(self, request: HttpRequest, obj: Membership) -> None:
        revoke_role(user=obj.user, service=obj.service, role=obj.role, by=acting_user(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Membership]) -> None:
        for membership in queryset:
            self.delete_model(request, membership)
