"""Quarantined test cases in the admin: made by a form, ended by a button, through the services."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from unfold.decorators import action, display

from apps.access.permissions import acting_user
from apps.admin_base import CommentForm, MemberAdmin, RefusalsAsMessages, back_to, dialog, only
from apps.builds.models import Quarantine
from apps.catalog.permissions import services_as
from apps.errors import DomainError, Invalid
from apps.promotions.quarantine import (
    KEEPERS,
    check_end,
    check_reason,
    lift_quarantine,
    quarantine_case,
)


class QuarantineForm(forms.ModelForm):
    """What the service would refuse is said beside the field, with nothing lost of what was typed."""

    class Meta:
        model = Quarantine
        fields = ("case", "reason", "until")

    def clean_reason(self) -> str:
        with _as_field_error():
            return check_reason(self.cleaned_data["reason"])

    def clean_until(self) -> datetime:
        until: datetime = self.cleaned_data["until"]
        with _as_field_error():
            check_end(until, timezone.now())
        return until


@contextmanager
def _as_field_error() -> Iterator[None]:
    try:
        yield
    except Invalid as error:
        raise forms.ValidationError(str(error)) from error


@admin.register(Quarantine)
class QuarantineAdmin(RefusalsAsMessages, MemberAdmin):
    """A person's word, which is not changed or deleted afterwards."""

    form = QuarantineForm
    service_path = "case__service"
    list_display = ("case", "show_service", "reason", "by", "created_at", "until", "in_force")
    list_filter = (only("case__service"),)
    list_select_related = ("case__service", "by")
    search_fields = ("case__name", "case__class_name", "by__username")
    autocomplete_fields = ("case",)
    ordering = ("-id",)
    actions_detail = ("lift",)

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        told = ("case", "reason", "until")
        return (*told, "by", "created_at", "lifted_at", "lifted_by") if obj else told

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        return self.get_fields(request, obj) if obj else ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Superusers, and whoever is approver or operator of some service; the service says of which."""
        if not self.has_module_permission(request):
            return False
        return request.user.is_superuser or bool(services_as(request, *KEEPERS))

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_lift_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """Approvers and operators, while it is in force."""
        mine = self.get_queryset(request).filter(pk=object_id)
        if not request.user.is_superuser:
            mine = mine.filter(case__service__in=services_as(request, *KEEPERS))
        return any(quarantine.in_force for quarantine in mine)

    def save_model(self, request: HttpRequest, obj: Quarantine, form: Any, change: bool) -> None:
        made = quarantine_case(case=obj.case, user=acting_user(request), reason=obj.reason, until=obj.until)
        obj.pk = made.pk

    @action(
        description="Lift",
        permissions=["lift"],
        icon="undo",
        dialog=dialog(
            "Lift this quarantine?", "The test's failures count again at once.", "Lift it", CommentForm
        ),
    )
    def lift(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        quarantine = self.get_object(request, object_id)
        try:
            if quarantine is not None:
                words = {"comment": form.cleaned_data["comment"]}
                lift_quarantine(quarantine=quarantine, user=acting_user(request), **words)
                self.message_user(request, f"Lifted: {quarantine}.", messages.SUCCESS)
        except DomainError as error:
            self.message_user(request, str(error), messages.ERROR)
        return back_to(self, object_id)

    @display(description="service")
    def show_service(self, quarantine: Quarantine) -> str:
        return quarantine.case.service.slug

    @display(description="in force", boolean=True)
    def in_force(self, quarantine: Quarantine) -> bool:
        return quarantine.in_force
