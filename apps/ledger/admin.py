"""The ledger: who did what."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from unfold.decorators import display

from apps.admin_base import ReadOnlyAdmin, pretty
from apps.ledger.models import Entry


@admin.register(Entry)
class EntryAdmin(ReadOnlyAdmin):
    list_display = ("at", "chain", "sequence", "action", "subject", "show_actor")
    list_display_links = ("at", "action")
    list_select_related = ("actor",)
    # No filters: without choices of their own they would read the whole table for them.
    search_fields = ("=chain", "=subject", "=action", "=actor__username")
    search_help_text = "A service, an action, a user name, or a subject such as promotion:17."
    ordering = ("-id",)
    fields = (
        "at",
        "chain",
        "sequence",
        "action",
        "subject",
        "show_actor",
        "show_data",
        "previous_hash",
        "hash",
    )

    def visible(self, queryset: QuerySet[Entry], user: Any) -> QuerySet[Entry]:
        return queryset.filter(chain__in=user.memberships.values("service__slug"))

    @display(description="actor", ordering="actor__username")
    def show_actor(self, entry: Entry) -> str:
        return str(entry.actor) if entry.actor else "Lockkeeper"

    @display(description="data")
    def show_data(self, entry: Entry) -> str:
        return pretty(entry.data)
