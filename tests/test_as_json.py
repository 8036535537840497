"""JSON that PostgreSQL writes for the API."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import pytest
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import F, OuterRef, QuerySet
from django.test import TestCase
from django.utils.functional import lazystr

from apps.as_json import Listed, QuickDecoder, QuickEncoder, as_written
from apps.catalog.models import Environment, Service
from backend.api import to_json
from tests.factories import make_environment, make_service


def with_slugs(services: QuerySet[Service]) -> QuerySet[Any]:
    slugs = Environment.objects.filter(service=OuterRef("pk")).order_by("-slug").values(told=F("slug"))
    return services.annotate(slugs=as_written(Listed(slugs)))


class AsJsonTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        web = make_service("web")
        make_environment(web, "a")
        make_environment(web, "b")
        make_service("bare")

    def told(self, rows: QuerySet[Any]) -> Any:
        return json.loads(to_json(list(rows)))

    def test_rows_are_listed_in_their_order(self) -> None:
        rows = with_slugs(Service.objects.order_by("slug")).values("slug", "slugs")
        assert self.told(rows) == [{"slug": "bare", "slugs": []}, {"slug": "web", "slugs": ["b", "a"]}]


class Colour(StrEnum):
    RED = "red"


VALUES = {
    "text": 'é "quoted" \\ \n \x1f \u2028 \U0001f600',
    "time": datetime(2026, 11, 30, 9, 5, 1, 123456, tzinfo=UTC),
    "naive": datetime(2026, 11, 30, 9, 5),  # as a window's beginning is
    "day": date(2026, 11, 30),
    "duration": timedelta(hours=1),
    "number": Decimal("1.10"),
    "uuid": UUID(int=7),
    "lazy": lazystr("lazy"),
    "colour": Colour.RED,
    "tuple": (1, 2.5, 1e16, None, True),
    "keys that are no strings": {1: "a", None: "b"},
    "too large": 2**70,
    "one surrogate": "a\udc80b",
}


@pytest.mark.parametrize("name", VALUES)
def test_the_quick_encoder_writes_what_djangos_writes(name: str) -> None:
    usual = json.dumps({name: VALUES[name]}, cls=DjangoJSONEncoder)
    assert json.loads(json.dumps({name: VALUES[name]}, cls=QuickEncoder)) == json.loads(usual)


def test_what_no_json_can_hold_is_refused() -> None:
    with pytest.raises(TypeError):
        json.dumps({"it": object()}, cls=QuickEncoder)


def test_the_quick_decoder_reads_it_back() -> None:
    told = {"a": [1, 2.5, None, "é"], "b": {}}
    assert json.loads(json.dumps(told, cls=QuickEncoder), cls=QuickDecoder) == told
