"""Pins and vetoes in the admin, and what quarantines share with them.

They are set with a form and lifted with a question; never edited, never deleted.
"""

from collections.abc import Collection
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.decorators import action, display

from apps.access.permissions import acting_user
from apps.admin_base import CommentForm, MemberAdmin, RefusalsAsMessages, back_to, dialog, only
from apps.catalog.models import Environment
from apps.catalog.permissions import services_as
from apps.catalog.visibility import visible
from apps.errors import DomainError
from apps.promotions.holds import PINNERS, VETOERS, lift_pin, lift_veto, pin_environment, veto_release
from apps.promotions.models import Pin, Veto

STATES = {"stands": "danger", "expired": "", "lifted": ""}


class EnvironmentField(forms.ModelChoiceField):
    def label_from_instance(self, environment: Any) -> str:
        return f"{environment.service.slug} {environment.slug}"


class HoldAdmin(RefusalsAsMessages, MemberAdmin):
    """What somebody sets, and somebody lifts again."""

    # Who may set and lift it; the services have the last word.
    roles: Collection[str]
    form_fields: tuple[str, ...]
    actions_detail = ("lift",)
    ordering = ("-id",)

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        return (*self.form_fields, "by", "created_at", "lifted_at", "lifted_by") if obj else self.form_fields

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "environment":
            environments = Environment.objects.select_related("service")
            kwargs["queryset"] = visible(environments, request.user, "service")
            kwargs["form_class"] = EnvironmentField
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def has_add_permission(self, request: HttpRequest) -> bool:
        if not self.has_module_permission(request):
            return False
        return request.user.is_superuser or bool(services_as(request, *self.roles))

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_lift_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """Whoever may set such a one, while it stands; whether it may be lifted is for the service to say."""
        standing = self.not_lifted(self.get_queryset(request)).filter(pk=object_id)
        if not request.user.is_superuser:
            services = services_as(request, *self.roles)
            standing = standing.filter(**{f"{self.service_path}__in": services})
        return standing.exists()

    def not_lifted(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Those that there is something to lift of."""
        return rows.filter(lifted_at=None)

    def lift_one(self, request: HttpRequest, object_id: str, comment: str) -> str:
        """Lift it, as the user, by its service, whose checks hold here, too; return what to say of it."""
        # Pins, vetoes and the like each have a service of their own: no default could lift the right one.
        raise NotImplementedError

    @action(
        description="Lift",
        permissions=["lift"],
        icon="lock_open",
        dialog=dialog("Lift it?", "What waits for this is judged again at once.", "Lift it", CommentForm),
    )
    def lift(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        return self.lift_and_say(request, form, object_id)

    def lift_and_say(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        try:
            done = self.lift_one(request, object_id, form.cleaned_data["comment"])
        except DomainError as error:
            self.message_user(request, str(error), messages.ERROR)
        else:
            self.message_user(request, done, messages.SUCCESS)
        return back_to(self, object_id)


class ReleaseHoldAdmin(HoldAdmin):
    """What pins and vetoes have in common: they are about a release."""

    autocomplete_fields = ("release",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("release__manifest")

    @display(description="state", label=STATES)
    def show_state(self, hold: Pin | Veto) -> str:
        return "lifted" if hold.lifted_at else "stands" if hold.stands else "expired"


@admin.register(Pin)
class PinAdmin(ReleaseHoldAdmin):
    roles = PINNERS
    service_path = "environment__service"
    form_fields = ("environment", "release", "reason", "expires_at")
    list_display = ("show_where", "release", "show_state", "reason", "by", "created_at", "expires_at")
    list_filter = (only("environment__service"),)
    list_select_related = ("environment__service", "release", "by")
    search_fields = ("environment__slug", "release__version", "reason", "by__username")

    def save_model(self, request: HttpRequest, obj: Pin, form: Any, change: bool) -> None:
        saved = pin_environment(
            environment=obj.environment,
            # None where it was left out, whatever the model's type says.
            release=form.cleaned_data["release"],
            user=acting_user(request),
            reason=obj.reason,
            expires_at=obj.expires_at,
        )
        obj.__dict__.update(saved.__dict__)

    def lift_one(self, request: HttpRequest, object_id: str, comment: str) -> str:
        pin = self.get_queryset(request).select_related("environment__service").get(pk=object_id)
        lift_pin(pin=pin, user=acting_user(request), comment=comment)
        return "Lifted."

    @display(description="environment", ordering="environment__slug")
    def show_where(self, pin: Pin) -> str:
        return f"{pin.environment.service.slug} {pin.environment.slug}"


@admin.register(Veto)
class VetoAdmin(ReleaseHoldAdmin):
    roles = VETOERS
    service_path = "release__service"
    form_fields = ("release", "environment", "reason")
    list_display = ("release", "show_where", "show_state", "reason", "by", "created_at")
    list_filter = (only("release__service"),)
    list_select_related = ("release__service", "environment", "by")
    search_fields = ("environment__slug", "release__version", "reason", "by__username")

    def save_model(self, request: HttpRequest, obj: Veto, form: Any, change: bool) -> None:
        saved = veto_release(
            release=obj.release, environment=obj.environment, user=acting_user(request), reason=obj.reason
        )
        obj.__dict__.update(saved.__dict__)

    def lift_one(self, request: HttpRequest, object_id: str, comment: str) -> str:
        related = ("release__service", "environment")
        veto = self.get_queryset(request).select_related(*related).get(pk=object_id)
        lift_veto(veto=veto, user=acting_user(request), comment=comment)
        return "Lifted."

    @display(description="not to")
    def show_where(self, veto: Veto) -> str:
        where = veto.environment.slug if veto.environment else "(any environment)"
        return f"{veto.release.service.slug} {where}"
