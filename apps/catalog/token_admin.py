"""Tokens in the admin; here and not in access because a token may be limited to services."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.html import format_html
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminSelectMultipleWidget

from apps.access.models import Scope, Token, User
from apps.access.permissions import acting_user
from apps.access.services import revoke_token
from apps.admin_base import MemberAdmin, RefusalsAsMessages, back_to, dialog
from apps.catalog.models import Service
from apps.catalog.tokens import issue_token


class TokenForm(forms.ModelForm):
    scopes = forms.MultipleChoiceField(
        choices=Scope.choices,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="What the token may be used for; its user's roles limit it further.",
    )

    limited_to = forms.ModelMultipleChoiceField(
        Service.objects.none(),
        label="Services",
        required=False,
        widget=UnfoldAdminSelectMultipleWidget,
        help_text="The only services that it is good for; without, all that its user sees.",
    )

    class Meta:
        model = Token
        fields = ("user", "name", "scopes", "expires_at")


@admin.register(Token)
class TokenAdmin(RefusalsAsMessages, MemberAdmin):
    """Staff make and revoke their own tokens; superusers those of everybody, service accounts included."""

    form = TokenForm
    list_display = (
        "name",
        "user",
        "hint",
        "show_scopes",
        "show_services",
        "created_at",
        "expires_at",
        "last_used_at",
        "usable",
    )
    list_filter = ("user__kind",)
    list_select_related = ("user",)
    search_fields = ("name", "user__username", "hint")
    readonly_fields = ("hint", "created_at", "last_used_at", "revoked_at")
    actions = ("revoke_selected",)
    actions_detail = ("revoke",)

    def visible(self, queryset: QuerySet[Token], user: Any) -> QuerySet[Token]:
        return queryset.filter(user=user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_module_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_revoke_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """Of what is seen; whoever comes in, for a list."""
        if object_id is None:
            return self.has_module_permission(request)
        return self.get_queryset(request).filter(pk=object_id).exists()

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        if obj is None:
            return ("user", "name", "scopes", "limited_to", "expires_at")
        return (
            "name",
            "user",
            "hint",
            "show_scopes",
            "show_services",
            "created_at",
            "expires_at",
            "last_used_at",
            "revoked_at",
        )

    def get_form(self, request: HttpRequest, obj: Model | None = None, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, **kwargs)
        if obj is None:
            users = User.objects.filter(is_active=True)
            if not request.user.is_superuser:
                users = users.filter(pk=acting_user(request).pk)
            form.base_fields["user"].queryset = users
            form.base_fields["user"].initial = request.user.pk
            services = Service.objects.visible_to(acting_user(request))
            form.base_fields["limited_to"].queryset = services
        return form

    def save_model(self, request: HttpRequest, obj: Token, form: Any, change: bool) -> None:
        values = form.cleaned_data
        token, secret = issue_token(
            user=values["user"],
            name=values["name"],
            scopes=values["scopes"],
            services=values["limited_to"] or None,
            expires_at=values["expires_at"],
        )
        obj.__dict__.update(token.__dict__)
        text = "The secret of {} is shown only now, so keep it: <code>{}</code>"
        self.message_user(request, format_html(text, token.name, secret), messages.WARNING)

    @display(description="scopes")
    def show_scopes(self, token: Token) -> str:
        return ", ".join(token.scopes)

    @display(description="services")
    def show_services(self, token: Token) -> str:
        return "all of its user" if token.services is None else ", ".join(token.services)

    @display(description="usable", boolean=True)
    def usable(self, token: Token) -> bool:
        expired = token.expires_at is not None and token.expires_at <= timezone.now()
        return not expired and token.revoked_at is None and token.user.is_active

    @admin.action(description="Revoke", permissions=["revoke"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[Token]) -> None:
        for token in queryset:
            revoke_token(token=token, by=acting_user(request))
        self.message_user(request, "Revoked. Whoever uses them gets 401 from now on.")

    @action(
        description="Revoke",
        permissions=["revoke"],
        variant=ActionVariant.DANGER,
        dialog=dialog("Revoke this token?", "Whoever uses it gets 401 from now on.", "Revoke"),
    )
    def revoke(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        token = self.get_object(request, object_id)
        if token is not None:
            revoke_token(token=token, by=acting_user(request))
            self.message_user(request, f"{token.name} is revoked. Whoever uses it gets 401 from now on.")
        return back_to(self, object_id)
