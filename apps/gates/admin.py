"""Policies, which get a new version when they are edited, and decisions, which are history."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import display

from apps.access.permissions import acting_user
from apps.admin_base import LABELS, MemberAdmin, ReadOnlyAdmin, RefusalsAsMessages, by_slug, only, pretty
from apps.catalog.admin import EnvironmentAdmin
from apps.catalog.models import Environment
from apps.gates.forms import RulesField
from apps.gates.models import Decision, Policy
from apps.gates.policy_file import policy_difference
from apps.gates.services import save_policy
from apps.gates.starter import ROLLBACK, give_starter_policy
from apps.gates.verdicts import WORST_FIRST, Verdict


def for_people(decision: Decision | None) -> list[dict[str, Any]]:
    """A decision's findings as pages show them: the worst first, with the words and colour of its verdict."""
    order = {str(verdict): position for position, verdict in enumerate(WORST_FIRST)}
    findings = sorted(
        decision.findings if decision else [], key=lambda finding: order.get(finding["verdict"], len(order))
    )
    return as_shown(findings)


def as_shown(findings: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Findings with the words and the colour of each verdict, in the order in which they come."""
    return [
        {
            **finding,
            "rule": finding["rule"].replace("_", " "),
            "label": Verdict(finding["verdict"]).label,
            "colour": LABELS.get(finding["verdict"], ""),
            "evidence": pretty(finding["evidence"]) if finding.get("evidence") else "",
            "earliest": parse_datetime(finding.get("earliest") or ""),
        }
        for finding in findings
    ]


def in_colours(lines: Iterable[str]) -> SafeString:
    """A unified diff as people read it."""
    colours = {"+": "text-green-700 dark:text-green-400", "-": "text-red-700 dark:text-red-400"}
    rows = format_html_join(
        "\n", '<span class="{}">{}</span>', ((colours.get(each[:1], ""), each) for each in lines)
    )
    return format_html('<pre class="whitespace-pre-wrap break-all text-xs font-mono">{}</pre>', rows)


class PolicyForm(forms.ModelForm):  # type: ignore[type-arg]  # it takes none at run time
    rules = RulesField(help_text="A release passes when each of them does; without any, nothing passes.")
    rollback = RulesField(
        label="Rules for rollbacks",
        help_text="The list for promotions that bring an older release back, in place of the one above. "
        "Without any, the first rollback begins with: " + ", ".join(each["rule"] for each in ROLLBACK) + ".",
    )

    class Meta:
        model = Policy
        fields = ("environment", "rules", "rollback")

    def clean_rules(self) -> list[dict[str, Any]]:
        # No row is a gate that is shut, which nobody should get by half a form.
        if "rules" not in self.data:
            raise ValidationError("The list of rules was not sent, so nothing was changed.")
        rules: list[dict[str, Any]] = self.cleaned_data["rules"]
        return rules

    def clean_rollback(self) -> Any:
        """A list that shuts the gate for rollbacks, too, can be written by a file of policies alone."""
        before = self.instance.rollback
        if "rollback" not in self.data:
            return before
        return self.cleaned_data["rollback"] or ([] if before == [] else None)


# Which knows nothing of policies, since catalog lies below.
admin.site.unregister(Environment)


@admin.register(Environment)
class GatedEnvironmentAdmin(EnvironmentAdmin):
    """A new environment begins with a policy, rather than with a gate that nothing passes."""

    def save_model(self, request: HttpRequest, obj: Environment, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        environment = Environment.objects.select_related("service").get(pk=obj.pk)
        if not change and (policy := give_starter_policy(environment=environment, by=acting_user(request))):
            rules = ", ".join(rule["rule"] for rule in policy.rules)
            self.message_user(request, f"{policy} is the policy to begin with: {rules}.", messages.INFO)


@admin.register(Policy)
class PolicyAdmin(RefusalsAsMessages, MemberAdmin):
    form = PolicyForm
    service_path = "environment__service"
    list_display = ("__str__", "show_service", "show_rules", "created_by", "created_at")
    list_filter = (only("environment__service"), by_slug("environment"))
    list_select_related = ("environment__service", "created_by")
    ordering = ("-id",)

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        if obj is None:
            return ("environment", "rules", "rollback")
        may = self.has_change_permission(request, obj)
        rules = ("rules", "rollback") if may else ("pretty_rules", "pretty_rollback")
        return ("environment", "version", "show_change", *rules, "created_by", "created_at")

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        shown = ("environment", "version", "show_change", "pretty_rules", "pretty_rollback")
        return (*shown, "created_by", "created_at") if obj else ()

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        # Only the version in force is a starting point for the next one.
        if isinstance(obj, Policy):
            newer = Policy.objects.filter(environment=obj.environment_id, version__gt=obj.version)
            if newer.exists():
                return False
        return bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Policy, form: Any, change: bool) -> None:
        before = Policy.objects.get(pk=obj.pk) if change else None
        saved = save_policy(
            environment=obj.environment,
            rules=form.cleaned_data["rules"],
            rollback=form.cleaned_data["rollback"],
            created_by=acting_user(request),
        )
        if before == saved:
            self.message_user(request, f"Nothing changed: {saved} stays in force.", messages.INFO)
        elif before:
            self.message_user(request, f"{before} stays as it was; {saved} is in force now.", messages.INFO)
        obj.__dict__.update(saved.__dict__)

    @display(description="service", ordering="environment__service__slug")
    def show_service(self, policy: Policy) -> str:
        return policy.environment.service.slug

    @display(description="rules")
    def show_rules(self, policy: Policy) -> str:
        return ", ".join(rule["rule"] for rule in policy.rules) or "none: nothing passes"

    @display(description="change")
    def show_change(self, policy: Policy) -> str:
        """The diff to the version before."""
        older = Policy.objects.filter(environment=policy.environment_id, version__lt=policy.version)
        before = older.order_by("-version").first()
        if before is None:
            return "The first version."
        lines = policy_difference(before, policy)
        return in_colours(lines) if lines else f"No change from {before}."

    @display(description="rules")
    def pretty_rules(self, policy: Policy) -> str:
        return pretty(policy.rules)

    @display(description="rules for rollbacks")
    def pretty_rollback(self, policy: Policy) -> str:
        return "-" if policy.rollback is None else pretty(policy.rollback)


@admin.register(Decision)
class DecisionAdmin(ReadOnlyAdmin):
    service_path = "environment__service"
    list_display = ("id", "release", "show_service", "environment", "show_verdict", "policy", "evaluated_at")
    list_display_links = ("id", "release")
    list_filter = (only("environment__service"), by_slug("environment"), "verdict")
    list_select_related = ("environment__service", "release", "policy__environment")
    list_defer = ("facts", "policy__rules")
    search_fields = ("release__version", "=release__digest")
    fields = ("show_service", "environment", "release", "policy", "evaluated_at", "show_facts")
    change_form_before_template = "gates/decision_before.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Decision]:
        return super().get_queryset(request).defer("release__manifest", "release__steps")

    def page_context(self, request: HttpRequest, decision: Decision) -> dict[str, Any]:
        return {
            "decision": decision,
            "findings": for_people(decision),
            "colour": LABELS.get(decision.verdict, ""),
        }

    @display(description="service", ordering="environment__service__slug")
    def show_service(self, decision: Decision) -> str:
        return decision.environment.service.slug

    @display(description="verdict", label=LABELS, ordering="verdict")
    def show_verdict(self, decision: Decision) -> tuple[str, str]:
        return decision.verdict, decision.get_verdict_display()

    @display(description="facts")
    def show_facts(self, decision: Decision) -> str:
        return pretty(decision.facts)
