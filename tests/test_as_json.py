"""JSON that PostgreSQL writes for the API."""

import json
from typing import Any

from django.db.models import F, OuterRef, QuerySet
from django.test import TestCase

from apps.as_json import Listed, as_written
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
