"""Users. Their tokens, which may be limited to services, are in apps.catalog.token_admin."""

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db.models import Model
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from apps.access.models import User
from apps.admin_base import BoundedPaginator

# Roles in services (apps.catalog) take the place of Django's groups and permissions.
admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):
    """People and service accounts. Nobody is deleted, since the ledger names them: make them inactive."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "kind", "email", "is_active", "is_staff", "is_superuser", "last_login")
    list_filter = ("kind", "is_active", "is_staff", "is_superuser")
    filter_horizontal = ()
    show_full_result_count = False
    paginator = BoundedPaginator
    fieldsets = (
        (None, {"fields": ("username", "password", "kind")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("What the account may do", {"fields": ("is_active", "is_staff", "is_superuser")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    readonly_fields = ("last_login", "date_joined")

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
