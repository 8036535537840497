"""Windows in the admin: when environments may be deployed to, changed by the operators of their service."""

from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html_join
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from apps.access.permissions import acting_user
from apps.admin_base import LABELS, MemberAdmin, RefusalsAsMessages, by_slug, only
from apps.catalog.models import Environment
from apps.catalog.permissions import Role, services_as
from apps.errors import Invalid
from apps.gates.rules.base import moment
from apps.gates.windows import check_window, clean_rrule, is_open, next_openings, zones
from apps.promotions.models import Window
from apps.promotions.windows import FIELDS, add_window, change_window, remove_window

PREVIEWED = 5


class EnvironmentField(forms.ModelChoiceField):
    def label_from_instance(self, environment: Any) -> str:
        return f"{environment.service.slug}: {environment.slug}"


class WindowForm(forms.ModelForm):
    environment = EnvironmentField(Environment.objects.none(), widget=UnfoldAdminSelectWidget)
    starts_at = forms.CharField(
        widget=UnfoldAdminTextInputWidget(attrs={"type": "datetime-local"}),
        help_text="When it first opens, in its time zone.",
    )
    timezone = forms.ChoiceField(
        choices=lambda: [(name, name) for name in sorted(zones())], widget=UnfoldAdminSelectWidget
    )

    class Meta:
        model = Window
        fields = ("environment", *FIELDS)

    def clean(self) -> dict[str, Any]:
        """What the gate could not read is said beside the form, with nothing lost of what was typed."""
        values = super().clean() or {}
        if all(name in values for name in FIELDS):
            values["rrule"] = clean_rrule(values["rrule"])
            try:
                check_window(Window(**{name: values[name] for name in FIELDS}).fact())
            except Invalid as error:
                field = str(error).partition(":")[0].partition(" ")[0]
                raise ValidationError({field if field in FIELDS else "__all__": str(error)}) from error
        return values


@admin.register(Window)
class WindowAdmin(RefusalsAsMessages, MemberAdmin):
    form = WindowForm
    service_path = "environment__service"
    list_display = ("name", "show_service", "environment", "show_kind", "timezone", "show_open", "show_next")
    list_filter = (only("environment__service"), by_slug("environment"), "kind")
    list_select_related = ("environment__service",)
    search_fields = ("name", "environment__slug", "environment__service__slug")
    ordering = ("-id",)

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        return ("environment", "show_openings", *FIELDS) if obj else ("environment", *FIELDS)

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        return ("environment", "show_openings") if obj else ()

    def get_form(self, request: HttpRequest, obj: Model | None = None, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, **kwargs)
        if "environment" in form.base_fields:
            environments = Environment.objects.select_related("service")
            if not request.user.is_superuser:
                environments = environments.filter(service__in=services_as(request, Role.OPERATOR))
            form.base_fields["environment"].queryset = environments
        return form

    def may_write(self, request: HttpRequest, obj: Model | None) -> bool:
        """Operators of the service, and superusers; before a window is known, operators of any."""
        if not self.has_module_permission(request):
            return False
        if request.user.is_superuser:
            return True
        operated = services_as(request, Role.OPERATOR)
        return obj.environment.service_id in operated if isinstance(obj, Window) else bool(operated)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.may_write(request, None)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.may_write(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.may_write(request, obj)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        # One at a time: each is a decision, and those of one list may be of several services.
        return {
            name: each for name, each in super().get_actions(request).items() if name != "delete_selected"
        }

    def save_model(self, request: HttpRequest, obj: Window, form: Any, change: bool) -> None:
        values = {name: form.cleaned_data[name] for name in FIELDS}
        by = acting_user(request)
        if change:
            before = Window.objects.select_related("environment__service").get(pk=obj.pk)
            saved = change_window(window=before, by=by, **values)
        else:
            saved = add_window(environment=obj.environment, by=by, **values)
        obj.__dict__.update(saved.__dict__)
        opens = next_openings(saved.fact(), timezone.now(), 1)
        when = f"opens next at {moment(opens[0][0])}" if opens else "does not open within a year"
        if opens and opens[0][0] <= timezone.now():
            when = f"is open until {moment(opens[0][1])}"
        self.message_user(request, f"{saved.name} {when}.")

    def delete_model(self, request: HttpRequest, obj: Window) -> None:
        remove_window(window=obj, by=acting_user(request))

    @display(description="service", ordering="environment__service__slug")
    def show_service(self, window: Window) -> str:
        return window.environment.service.slug

    @display(description="kind", label=LABELS, ordering="kind")
    def show_kind(self, window: Window) -> str:
        return window.kind

    @display(description="open", boolean=True)
    def show_open(self, window: Window) -> bool | None:
        try:
            return is_open(window.fact(), timezone.now())
        except Invalid:
            return None

    @display(description="opens next")
    def show_next(self, window: Window) -> str:
        now = timezone.now()
        try:
            coming = [opens for opens, _ in next_openings(window.fact(), now, 2) if opens > now]
        except Invalid as error:
            return str(error)
        return moment(coming[0]) if coming else "-"

    @display(description="next openings")
    def show_openings(self, window: Window) -> str:
        """In UTC and in the window's own time, so that a wrong zone or rule is seen."""
        try:
            openings = next_openings(window.fact(), timezone.now(), PREVIEWED)
        except Invalid as error:
            return str(error)
        if not openings:
            return "None within a year."
        zone = ZoneInfo(window.timezone)
        rows = [
            (
                f"{opens.astimezone(zone):%a %Y-%m-%d %H:%M}",
                f"{shuts.astimezone(zone):%a %Y-%m-%d %H:%M}",
                window.timezone,
                moment(opens),
            )
            for opens, shuts in openings
        ]
        return format_html_join("", "<div>{} to {} {} (from {})</div>", rows)
