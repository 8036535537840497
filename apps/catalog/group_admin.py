"""Approver groups in the admin: who is in them."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectMultipleWidget

from apps.access.models import User
from apps.access.permissions import acting_user
from apps.admin_base import MemberAdmin, RefusalsAsMessages, only
from apps.catalog.groups import add_to_group, register_group, remove_from_group
from apps.catalog.models import ApproverGroup, Membership


class ApproverGroupForm(forms.ModelForm):
    # Not the model's own relation, which Django's admin would write past the services.
    approvers = forms.ModelMultipleChoiceField(
        User.objects.none(),
        required=False,
        widget=UnfoldAdminSelectMultipleWidget,
        help_text="Approvers of the service. What somebody taken out has approved counts no longer.",
    )

    class Meta:
        model = ApproverGroup
        fields = ("service", "name")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields.get("approvers")
        if self.instance.pk and isinstance(field, forms.ModelMultipleChoiceField):
            roles = Membership.objects.filter(
                service=self.instance.service_id, role=Membership.Role.APPROVER, user__is_active=True
            )
            # And who is in it and should not be, so that saving keeps them unless they are taken out.
            field.queryset = (
                User.objects.filter(pk__in=roles.values("user")) | self.instance.members.all()
            ).distinct()
            field.initial = self.instance.members.all()


@admin.register(ApproverGroup)
class ApproverGroupAdmin(RefusalsAsMessages, MemberAdmin):
    """Made with a name, then filled; a policy may name it, so it is not deleted."""

    form = ApproverGroupForm
    list_display = ("name", "service", "show_members")
    list_filter = (only("service"),)
    list_select_related = ("service",)
    search_fields = ("name", "service__slug", "members__username")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApproverGroup]:
        return super().get_queryset(request).prefetch_related("members")

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        if obj is None:
            return ("service", "name")
        members = "approvers" if self.has_change_permission(request, obj) else "show_members"
        return ("service", "name", members)

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        # Policies and the ledger name it.
        return ("service", "name", "show_members") if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: ApproverGroup, form: Any, change: bool) -> None:
        by = acting_user(request)
        if not change:
            obj.pk = register_group(service=obj.service, name=obj.name, by=by).pk
            return
        wanted, members = set(form.cleaned_data["approvers"]), set(obj.members.all())
        for user in members - wanted:
            remove_from_group(group=obj, user=user, by=by)
        for user in wanted - members:
            add_to_group(group=obj, user=user, by=by)

    @display(description="members")
    def show_members(self, group: ApproverGroup) -> str:
        return ", ".join(sorted(user.username for user in group.members.all())) or "-"
