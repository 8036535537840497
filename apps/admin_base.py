"""What the admin pages of all apps have in common: who sees what, and what nobody may change."""

import json
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin import AllValuesFieldListFilter, RelatedOnlyFieldListFilter
from django.contrib.admin.views.autocomplete import AutocompleteJsonView
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin, TabularInline
from unfold.dataclasses import ActionDialog
from unfold.forms import BaseDialogForm
from unfold.views import ChangeList
from unfold.widgets import UnfoldAdminTextareaWidget

from apps.errors import DomainError, Invalid
from apps.search import bounded_search

# How each state looks in lists: unfold's label colours by value, of all models at once.
COLOURS = {
    "success": ("succeeded", "SUCCEEDED", "Succeeded", "pass", "approved", "applied", "healthy"),
    "danger": (
        "failed",
        "FAILED",
        "Failed",
        "FAULT",
        "ERROR",
        "blocked",
        "rejected",
        "errored",
        "TIMED_OUT",
        "broken",
        "unhealthy",
        "mixed",
    ),
    "warning": (
        "overridden",
        "inconclusive",
        "waiting_human",
        "waiting_time",
        "waiting_evidence",
        "INCOMPLETE",
        "STOPPED",
        "abandoned",
        "flaky",
    ),
    "info": (
        "pending",
        "deploying",
        "verifying",
        "intended",
        "requested",
        "running",
        "changing",
        "IN_PROGRESS",
    ),
}
LABELS = {value: colour for colour, values in COLOURS.items() for value in values}


def pretty(value: Any) -> SafeString:
    """JSON as people read it."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return format_html('<pre class="whitespace-pre-wrap break-all text-xs font-mono">{}</pre>', text)


class VisibleOnlyFilter(RelatedOnlyFieldListFilter):
    """Offers what the user sees in the list of its own, used or not.

    Django's looks through all rows of the table for those that are used, which are few among many. It is left
    to it where there is no such list.
    """

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> Any:
        site, model = model_admin.admin_site, field.remote_field.model
        if not site.is_registered(model):
            return super().field_choices(field, request, model_admin)
        seen = site.get_model_admin(model).get_queryset(request).order_by().values("pk")
        ordering = self.field_admin_ordering(field, request, model_admin)
        return field.get_choices(include_blank=False, limit_choices_to={"pk__in": seen}, ordering=ordering)


def only(path: str) -> tuple[str, type[RelatedOnlyFieldListFilter]]:
    """A filter by a related row that offers only those which this user sees."""
    return path, VisibleOnlyFilter


class VisibleSlugFilter(AllValuesFieldListFilter):
    """Offers the slugs of what the user sees, each once.

    A thousand services have an environment called staging each, and nobody looks for one among thousands.
    """

    def __init__(
        self, field: Any, request: HttpRequest, params: Any, model: Any, model_admin: Any, field_path: str
    ) -> None:
        super().__init__(field, request, params, model, model_admin, field_path)
        self.title = field.model._meta.verbose_name
        seen = model_admin.admin_site.get_model_admin(field.model).get_queryset(request)
        # Django's are those of all rows, seen or not.
        self.lookup_choices = seen.order_by(field.name).values_list(field.name, flat=True).distinct()


def by_slug(path: str) -> tuple[str, type[AllValuesFieldListFilter]]:
    """A filter by the slug of a related row, such as an environment's."""
    return f"{path}__slug", VisibleSlugFilter


class BoundedPaginator(Paginator):
    """Counts no further than ``LIMIT`` rows: to count a table that only grows takes longer every day.

    Older rows are found by a search, a filter, or by turning the order round.
    """

    LIMIT = 10_000

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        # Without its order, and columns that are not counted.
        return int(rows.order_by().values("pk")[: self.LIMIT].count())


class BoundedList(ChangeList):
    """A list whose search is given up, with a message, where it would read too much."""

    queryset: Any

    def get_results(self, request: HttpRequest) -> None:
        if not self.query:
            return super().get_results(request)
        try:
            with bounded_search():
                super().get_results(request)
                # Read here: in the template it would be too late.
                len(self.result_list)
        except Invalid as error:
            messages.error(request, str(error))
            self.queryset = self.queryset.none()
            super().get_results(request)


class BoundedAutocomplete(AutocompleteJsonView):
    """What a form's field offers while somebody types; the reason alone where it would read too much."""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            with bounded_search("A link to this form in a list of tests fills the field in."):
                return super().get(request, *args, **kwargs)
        except Invalid as error:
            # Select2 tells a person of nothing but results, and hides those without an id. This one cannot
            # be chosen.
            told = {"id": "given-up", "text": str(error), "disabled": True}
            return JsonResponse({"results": [told], "pagination": {"more": False}})


class MemberAdmin(ModelAdmin):
    """Shows staff what belongs to their services, without Django's permissions being granted by hand.

    Changing needs Django's own permissions still, so in effect a superuser, unless a subclass says more.
    """

    # The lookup from the model to its service's id, such as "environment__service"; "pk" is the service.
    service_path = "service"
    # Columns too large for a list, left out of its query only.
    list_defer: tuple[str, ...] = ()
    list_per_page = 50
    # No second count over the whole table, and the first one ends somewhere.
    show_full_result_count = False
    paginator = BoundedPaginator
    compressed_fields = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        queryset = super().get_queryset(request)
        match = request.resolver_match
        if self.list_defer and match and (match.url_name or "").endswith("_changelist"):
            queryset = queryset.defer(*self.list_defer)
        if getattr(request.user, "token_services", None) is not None:
            # Nobody comes in here by a token; if that changes, its limit must not be forgotten.
            return queryset.none()
        if request.user.is_superuser:
            return queryset
        return self.visible(queryset, request.user)

    def visible(self, queryset: QuerySet[Any], user: Any) -> QuerySet[Any]:
        """The rows that a member of staff who is no superuser sees, each once.

        So by subqueries and not by joins: DISTINCT would have to read them all before it shows a page.
        """
        return queryset.filter(**{f"{self.service_path}__in": user.memberships.values("service")})

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[BoundedList]:
        return BoundedList

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.is_active and request.user.is_staff

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        # Rows come from get_queryset, so whichever there is may be seen.
        return request.user.is_active and request.user.is_staff


class ReadOnlyAdmin(MemberAdmin):
    """History: to be looked at, and never added, changed or deleted here."""

    def page_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """What the templates around an object's fields show besides; nothing, unless a subclass says more."""
        return {}

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, obj: Any = None, **kwargs: Any
    ) -> Any:
        context |= self.page_context(request, obj)
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class ReadOnlyInline(TabularInline):
    """Rows of history below what they belong to."""

    extra = 0
    can_delete = False
    show_change_link = False

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return self.fields

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return request.user.is_active and request.user.is_staff


class RefusalsAsMessages(ModelAdmin):
    """Saves through services; what a service refuses becomes a message, with nothing written."""

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        try:
            # Django opens the transaction inside of this, so a refusal has rolled it back.
            return super().changeform_view(request, object_id, form_url, extra_context)
        except DomainError as error:
            self.message_user(request, str(error), messages.ERROR)
            return redirect(request.get_full_path())

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> Any:
        try:
            return super().delete_view(request, object_id, extra_context)
        except DomainError as error:
            self.message_user(request, str(error), messages.ERROR)
            return redirect(request.get_full_path())


class CommentForm(BaseDialogForm):
    """A dialog with room for a word."""

    comment = forms.CharField(required=False, max_length=2000, widget=UnfoldAdminTextareaWidget)


def dialog(
    title: str, description: str, submit: str, form_class: type[BaseDialogForm] = BaseDialogForm
) -> ActionDialog:
    """A question before an action. Without it unfold's buttons would be links, which change state by GET."""
    return ActionDialog(title=title, description=description, form_class=form_class, form_submit_text=submit)


def back_to(model_admin: ModelAdmin, object_id: object) -> HttpResponse:
    """To an object's page, after a dialog; htmx follows this header, and would fill the dialog by a 302."""
    opts = model_admin.model._meta
    path = reverse(
        f"{model_admin.admin_site.name}:{opts.app_label}_{opts.model_name}_change", args=[object_id]
    )
    return HttpResponse(headers={"HX-Redirect": path})
