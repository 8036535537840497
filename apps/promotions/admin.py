"""Promotions: to be read, approved, rejected and cancelled, the latter through the services."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminTextInputWidget

from apps.access.models import User
from apps.access.permissions import acting_user
from apps.admin_base import LABELS, CommentForm, ReadOnlyAdmin, ReadOnlyInline, back_to, by_slug, dialog, only
from apps.catalog.models import Environment
from apps.catalog.permissions import MOVERS, Role, services_as
from apps.errors import DomainError
from apps.gates.admin import GatedEnvironmentAdmin, as_shown, for_people
from apps.promotions import (  # noqa: F401  # they register themselves
    describe,
    hold_admin,
    quarantine_admin,
    window_admin,
)
from apps.promotions.explanation import explain_promotion
from apps.promotions.models import Approval, Promotion
from apps.promotions.override_admin import OverrideForm, OverrideInline, to_second
from apps.promotions.overrides import override_promotion, second_override
from apps.promotions.rollbacks import request_rollback
from apps.promotions.services import (
    approve_promotion,
    cancel_promotion,
    reject_promotion,
    withdraw_approval,
)
from apps.releases.services import find_release

Act = Callable[[Promotion, User, str], None]


def _approve(promotion: Promotion, user: User, comment: str) -> None:
    approve_promotion(promotion=promotion, user=user, comment=comment)


def _reject(promotion: Promotion, user: User, comment: str) -> None:
    reject_promotion(promotion=promotion, user=user, comment=comment)


def _withdraw(promotion: Promotion, user: User, comment: str) -> None:
    withdraw_approval(promotion=promotion, user=user, comment=comment)


def _cancel(promotion: Promotion, user: User, comment: str) -> None:
    cancel_promotion(promotion=promotion, user=user, reason=comment)


class ApprovalInline(ReadOnlyInline):
    model = Approval
    fields = ("user", "verdict", "comment", "created_at", "withdrawn_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Approval]:
        return super().get_queryset(request).select_related("user")


@admin.register(Promotion)
class PromotionAdmin(ReadOnlyAdmin):
    service_path = "environment__service"
    list_display = (
        "id",
        "release",
        "show_where",
        "show_status",
        "show_verdict",
        "requested_by",
        "created_at",
        "show_why",
    )
    list_display_links = ("id", "release")
    list_filter = (
        only("environment__service"),
        by_slug("environment"),
        "status",
        "decision__verdict",
        "rollback",
    )
    list_select_related = ("environment__service", "release", "requested_by", "decision")
    search_fields = ("release__version", "=release__digest", "requested_by__username")
    fields = (
        "show_service",
        "environment",
        "release",
        "status",
        "reason",
        "show_waits_for",
        "rollback",
        "requested_by",
        "comment",
        "show_not_applied",
        "decision",
        "deployment",
        "created_at",
        "updated_at",
        "finished_at",
    )
    inlines = (ApprovalInline, OverrideInline)
    change_form_before_template = "promotions/promotion_before.html"
    actions = ("approve_selected", "reject_selected", "cancel_selected")
    actions_detail = ("approve", "reject", "withdraw", "override", "second", "cancel")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Promotion]:
        return super().get_queryset(request).defer("release__manifest", "release__steps", "decision__facts")

    def page_context(self, request: HttpRequest, promotion: Promotion) -> dict[str, Any]:
        explanation = explain_promotion(promotion)
        verdict = explanation.verdict
        return {
            "decision": promotion.decision,
            "explanation": explanation,
            "findings": as_shown(each.to_json() for each in explanation.findings),
            "verdict_label": verdict.label if verdict else "",
            "colour": LABELS.get(str(verdict), ""),
            "status_colour": LABELS.get(promotion.status, ""),
        }

    def waiting(self, request: HttpRequest) -> QuerySet[Promotion]:
        return self.get_queryset(request).filter(status=Promotion.Status.PENDING)

    # Who sees which button; whether it may be used is for the services to say.

    def has_respond_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """Approvers of what is shown who have not answered, if somebody else asked; all staff for a list."""
        if object_id is None:
            return self.has_module_permission(request)
        answered = Approval.objects.filter(user=request.user.pk, withdrawn_at=None)
        waiting = self.waiting(request).exclude(requested_by=request.user.pk)
        waiting = waiting.exclude(pk__in=answered.values("promotion"))
        services = services_as(request, Role.APPROVER)
        return waiting.filter(pk=object_id, environment__service__in=services).exists()

    def has_withdraw_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """Whoever approved what is shown and has not taken it back."""
        if object_id is None:
            return False
        given = Approval.objects.filter(user=request.user.pk, verdict="approved", withdrawn_at=None)
        return given.filter(promotion__in=self.get_queryset(request).filter(pk=object_id)).exists()

    def has_override_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """Operators, superusers or not, while it waits."""
        if object_id is None:
            return False
        services = services_as(request, Role.OPERATOR)
        return self.waiting(request).filter(pk=object_id, environment__service__in=services).exists()

    def has_second_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """Operators, while somebody else's override waits for one."""
        return object_id is not None and to_second(request).filter(promotion__pk=object_id).exists()

    def has_cancel_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """Whoever asked for it, and those who move releases, while it waits; all staff for a list."""
        if object_id is None:
            return self.has_module_permission(request)
        waiting = self.waiting(request).filter(pk=object_id)
        if request.user.is_superuser:
            return waiting.exists()
        mine = waiting.filter(requested_by=request.user.pk)
        moved = waiting.filter(environment__service__in=services_as(request, *MOVERS))
        return mine.exists() or moved.exists()

    @admin.action(description="Approve", permissions=["respond"])
    def approve_selected(self, request: HttpRequest, queryset: QuerySet[Promotion]) -> None:
        self.act(request, queryset, _approve, "Approved")

    @admin.action(description="Reject", permissions=["respond"])
    def reject_selected(self, request: HttpRequest, queryset: QuerySet[Promotion]) -> None:
        self.act(request, queryset, _reject, "Rejected")

    @admin.action(description="Cancel", permissions=["cancel"])
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[Promotion]) -> None:
        self.act(request, queryset, _cancel, "Cancelled")

    @action(
        description="Approve",
        permissions=["respond"],
        icon="check",
        variant=ActionVariant.SUCCESS,
        dialog=dialog(
            "Approve this promotion?", "It goes ahead as soon as the gate passes.", "Approve", CommentForm
        ),
    )
    def approve(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        return self.act_on_one(request, form, object_id, _approve, "Approved")

    @action(
        description="Reject",
        permissions=["respond"],
        icon="block",
        variant=ActionVariant.DANGER,
        dialog=dialog(
            "Reject this promotion?",
            "That is its end; trying again is a new promotion.",
            "Reject",
            CommentForm,
        ),
    )
    def reject(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        return self.act_on_one(request, form, object_id, _reject, "Rejected")

    @action(
        description="Withdraw approval",
        permissions=["withdraw"],
        icon="undo",
        dialog=dialog(
            "Withdraw your approval?",
            "It no longer counts. A deployment that has begun goes on.",
            "Withdraw it",
            CommentForm,
        ),
    )
    def withdraw(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        return self.act_on_one(request, form, object_id, _withdraw, "Withdrawn")

    @action(
        description="Override",
        permissions=["override"],
        icon="key",
        dialog=dialog(
            "Let it pass against its gate?",
            "This stays with the promotion for ever, with your name.",
            "Override",
            OverrideForm,
        ),
    )
    def override(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        said = form.cleaned_data

        def act(promotion: Promotion, user: User, comment: str) -> None:
            override_promotion(
                promotion=promotion,
                user=user,
                justification=comment,
                minutes=said["minutes"],
                rules=said["rules"],
            )

        promotion = self.get_object(request, object_id)
        self.act(request, [promotion] if promotion else [], act, "Override given", said["justification"])
        return back_to(self, object_id)

    @action(
        description="Second the override",
        permissions=["second"],
        icon="done_all",
        dialog=dialog(
            "Second the newest override?",
            "The promotion may pass against its gate then, with your name beside the other.",
            "Second it",
        ),
    )
    def second(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        def act(promotion: Promotion, user: User, comment: str) -> None:
            override = to_second(request).filter(promotion=promotion).order_by("-id").first()
            if override is None:
                raise DomainError("No override waits for a second operator any more.")
            second_override(override=override, user=user)

        promotion = self.get_object(request, object_id)
        self.act(request, [promotion] if promotion else [], act, "Override seconded")
        return back_to(self, object_id)

    @action(
        description="Cancel",
        permissions=["cancel"],
        icon="close",
        dialog=dialog(
            "Cancel this promotion?",
            "Only what waits at its gate can be cancelled.",
            "Cancel it",
            CommentForm,
        ),
    )
    def cancel(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        return self.act_on_one(request, form, object_id, _cancel, "Cancelled")

    def act(self, request: HttpRequest, promotions: Any, act: Act, done: str, comment: str = "") -> None:
        """Do it to each; what the services refuse becomes a message."""
        for promotion in promotions:
            try:
                act(promotion, acting_user(request), comment)
            except DomainError as error:
                self.message_user(request, f"{promotion}: {error}", messages.ERROR)
            else:
                self.message_user(request, f"{done}: {promotion}.", messages.SUCCESS)

    def act_on_one(
        self, request: HttpRequest, form: forms.Form, object_id: str, act: Act, done: str
    ) -> HttpResponse:
        promotion = self.get_object(request, object_id)
        if promotion is None:
            self.message_user(request, f"There is no promotion {object_id}.", messages.ERROR)
        else:
            self.act(request, [promotion], act, done, form.cleaned_data["comment"])
        return back_to(self, object_id)

    @display(description="service")
    def show_service(self, promotion: Promotion) -> str:
        return promotion.environment.service.slug

    @display(description="said not to be applied")
    def show_not_applied(self, promotion: Promotion) -> str:
        return ", ".join(promotion.not_applied) or "-"

    @display(description="waits for")
    def show_waits_for(self, promotion: Promotion) -> str:
        return describe.waits(promotion) or "-"

    @display(description="to", ordering="environment__slug")
    def show_where(self, promotion: Promotion) -> str:
        return f"{promotion.environment.service.slug} {promotion.environment.slug}"

    @display(description="status", label=LABELS, ordering="status")
    def show_status(self, promotion: Promotion) -> str:
        return promotion.status

    @display(description="verdict", label=LABELS, ordering="decision__verdict")
    def show_verdict(self, promotion: Promotion) -> tuple[str, str] | None:
        decision = promotion.decision
        return (decision.verdict, decision.get_verdict_display()) if decision else None

    @display(description="why")
    def show_why(self, promotion: Promotion) -> str:
        return why(promotion)


class RollbackForm(CommentForm):
    to = forms.CharField(
        required=False,
        max_length=100,
        widget=UnfoldAdminTextInputWidget,
        help_text="Version, digest or id of a release that has run there; empty for the one before.",
    )
    not_applied = forms.CharField(
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="Contract migrations (app.name, spaces between) that you have found not to be applied.",
    )

    field_order = ("to", "comment", "not_applied")


# Which knows nothing of promotions, since gates lies below.
admin.site.unregister(Environment)


@admin.register(Environment)
class PromotedEnvironmentAdmin(GatedEnvironmentAdmin):
    """An environment, with the way back to what ran there before."""

    actions_detail = ("roll_back",)

    def has_roll_back_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """Operators of what is shown, and superusers."""
        if object_id is None:
            return False
        environments = self.get_queryset(request).filter(pk=object_id)
        if not request.user.is_superuser:
            environments = environments.filter(service__in=services_as(request, Role.OPERATOR))
        return environments.exists()

    @action(
        description="Roll back",
        permissions=["roll_back"],
        icon="history",
        variant=ActionVariant.DANGER,
        dialog=dialog(
            "Bring an older release back?",
            "By the policy's rules for rollbacks. What waits for this environment is superseded.",
            "Roll back",
            RollbackForm,
        ),
    )
    def roll_back(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        environment = get_object_or_404(self.get_queryset(request).select_related("service"), pk=object_id)
        asked = form.cleaned_data
        try:
            promotion = request_rollback(
                environment=environment,
                requested_by=acting_user(request),
                release=find_release(service=environment.service, name=asked["to"]) if asked["to"] else None,
                comment=asked["comment"],
                not_applied=set(asked["not_applied"].split()),
            )
        except DomainError as error:
            self.message_user(request, str(error), messages.ERROR)
            return back_to(self, object_id)
        self.message_user(request, f"{promotion} was asked for.", messages.SUCCESS)
        path = reverse("admin:promotions_promotion_change", args=[promotion.pk])
        return HttpResponse(headers={"HX-Redirect": path})


def why(promotion: Promotion) -> str:
    """The reason of its end, or what keeps it at its gate."""
    if promotion.status != Promotion.Status.PENDING or promotion.decision is None:
        return promotion.reason
    worst = next((finding for finding in for_people(promotion.decision)), None)
    return worst["sentence"] if worst and worst["verdict"] not in ("pass", "overridden") else ""


@admin.register(Approval)
class ApprovalAdmin(ReadOnlyAdmin):
    service_path = "promotion__environment__service"
    list_display = (
        "promotion",
        "show_service",
        "user",
        "show_verdict",
        "comment",
        "created_at",
        "withdrawn_at",
    )
    list_filter = (only("promotion__environment__service"), "verdict")
    list_select_related = ("promotion__environment__service", "promotion__release", "user")
    ordering = ("-id",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Approval]:
        return (
            super().get_queryset(request).defer("promotion__release__manifest", "promotion__release__steps")
        )

    @display(description="service")
    def show_service(self, approval: Approval) -> str:
        return approval.promotion.environment.service.slug

    @display(description="verdict", label=LABELS)
    def show_verdict(self, approval: Approval) -> str:
        return approval.verdict
