"""Overrides in the admin: given on a promotion's page, seconded and withdrawn on their own, kept for ever."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminTextareaWidget,
)

from apps.access.permissions import acting_user
from apps.admin_base import CommentForm, ReadOnlyAdmin, ReadOnlyInline, back_to, dialog, only
from apps.catalog.permissions import Role, services_as
from apps.errors import DomainError
from apps.gates.rules import RULES
from apps.gates.rules.override import BY_NAME_ONLY, NAME
from apps.gates.verdicts import OPENS
from apps.promotions.models import Override, Promotion
from apps.promotions.overrides import second_override, withdraw_override


class OverrideForm(BaseDialogForm):
    """What an override says. It offers the rules that stand against the promotion, as it was last judged."""

    justification = forms.CharField(max_length=2000, widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}))
    minutes = forms.IntegerField(
        min_value=1,
        initial=60,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="How long it counts; the policy says how much may be asked for.",
    )
    rules = forms.MultipleChoiceField(
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text=f"Against which rules; without any, all but {' and '.join(sorted(BY_NAME_ONLY))}.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        promotion = Promotion.objects.filter(pk=self.object_id).select_related("decision").first()
        findings = promotion.decision.findings if promotion and promotion.decision else []
        unmet = {finding["rule"] for finding in findings if finding["verdict"] not in OPENS}
        field = self.fields["rules"]
        if isinstance(field, forms.MultipleChoiceField):
            field.choices = [(name, name.replace("_", " ")) for name in RULES if name in unmet - {NAME}]


def to_second(request: HttpRequest) -> QuerySet[Override]:
    """What waits for a second operator, who may be this user. Whether they may is for the service to say."""
    waiting = Override.objects.filter(
        promotion__environment__service__in=services_as(request, Role.OPERATOR),
        promotion__status=Promotion.Status.PENDING,
        seconded_by=None,
        withdrawn_at=None,
        expires_at__gt=timezone.now(),
    )
    related = ("promotion__environment__service", "promotion__release", "promotion__decision")
    return waiting.exclude(by=request.user.pk).select_related(*related)


class OverrideInline(ReadOnlyInline):
    model = Override
    fields = ("by", "rules", "justification", "created_at", "expires_at", "seconded_by", "withdrawn_at")
    show_change_link = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Override]:
        return super().get_queryset(request).select_related("by", "seconded_by")


@admin.register(Override)
class OverrideAdmin(ReadOnlyAdmin):
    service_path = "promotion__environment__service"
    list_display = (
        "promotion",
        "show_service",
        "by",
        "seconded_by",
        "show_rules",
        "justification",
        "created_at",
        "expires_at",
        "withdrawn_at",
    )
    list_filter = (only("promotion__environment__service"),)
    list_select_related = ("promotion__environment__service", "promotion__release", "by", "seconded_by")
    search_fields = ("promotion__release__version", "justification", "by__username")
    fields = (
        "promotion",
        "show_rules",
        "justification",
        "by",
        "created_at",
        "expires_at",
        "seconded_by",
        "seconded_at",
        "withdrawn_by",
        "withdrawn_at",
    )
    ordering = ("-id",)
    actions_detail = ("second", "withdraw")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Override]:
        return super().get_queryset(request).defer("promotion__release__manifest")

    # Who sees which button; whether it may be used is for the services to say.

    def has_second_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """Operators other than who gave it, while it is open and its promotion waits."""
        return object_id is not None and to_second(request).filter(pk=object_id).exists()

    def has_withdraw_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """Operators, until it is withdrawn."""
        return object_id is not None and self.operated(request, object_id).exists()

    def operated(self, request: HttpRequest, object_id: str) -> QuerySet[Override]:
        """The one that is shown, if it is not withdrawn and the user is operator there."""
        services = {f"{self.service_path}__in": services_as(request, Role.OPERATOR)}
        return self.get_queryset(request).filter(pk=object_id, withdrawn_at=None, **services)

    @action(
        description="Second it",
        permissions=["second"],
        icon="done_all",
        variant=ActionVariant.SUCCESS,
        dialog=dialog(
            "Second this override?",
            "The promotion may pass against its gate then, with your name beside the other.",
            "Second it",
        ),
    )
    def second(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        return self.change(request, object_id, second_override, "Seconded.")

    @action(
        description="Withdraw",
        permissions=["withdraw"],
        icon="undo",
        dialog=dialog(
            "Withdraw this override?",
            "It no longer counts. A deployment that has begun goes on.",
            "Withdraw it",
            CommentForm,
        ),
    )
    def withdraw(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        comment = form.cleaned_data["comment"]
        return self.change(request, object_id, withdraw_override, "Withdrawn.", comment=comment)

    def change(
        self, request: HttpRequest, object_id: str, service: Any, done: str, **words: str
    ) -> HttpResponse:
        """Do it; what the service refuses becomes a message."""
        related = ("promotion__environment__service", "promotion__release", "promotion__decision")
        override = Override.objects.select_related(*related).get(pk=object_id)
        try:
            service(override=override, user=acting_user(request), **words)
        except DomainError as error:
            self.message_user(request, str(error), messages.ERROR)
        else:
            self.message_user(request, done, messages.SUCCESS)
        return back_to(self, object_id)

    @display(description="service")
    def show_service(self, override: Override) -> str:
        return override.promotion.environment.service.slug

    @display(description="rules")
    def show_rules(self, override: Override) -> str:
        return ", ".join(override.rules) or "all but those that have to be named"
