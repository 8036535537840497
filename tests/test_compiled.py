import threading
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.db.models import QuerySet, Value
from django.db.transaction import TransactionManagementError
from django.test import TestCase, TransactionTestCase
from django.test.utils import CaptureQueriesContext

from apps.builds.models import Build
from apps.catalog.models import Environment, Service
from apps.compiled import Among, CompiledColumns, compiled
from tests.factories import make_build, make_environment, make_service


class CompiledTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.shop = make_service("shop")
        cls.blog = make_service("blog")
        cls.places = [make_environment(cls.shop, "staging"), make_environment(cls.blog, "live")]

    def test_it_asks_the_same_with_other_values_and_compiles_once(self):
        made = []

        @compiled
        def places() -> QuerySet[Environment]:
            made.append(1)
            rows = Environment.objects.filter(Among("service", "services"))
            return rows.select_related("service").order_by("slug")

        with CaptureQueriesContext(connection) as seen:
            assert places(services=[self.shop.pk]) == self.places[:1]
            both = places(services={self.shop.pk, self.blog.pk})
            assert [each.service.slug for each in both] == ["blog", "shop"]
            assert places(services=[0]) == []
        assert len(seen) == 3
        assert made == [1]

    def test_without_values_there_are_no_rows_and_nothing_is_asked(self):
        @compiled
        def services() -> QuerySet[Service]:
            return Service.objects.filter(Among("slug", "slugs"))

        with self.assertNumQueries(0):
            assert services(slugs=[]) == []
        assert services(slugs=["blog"]) == [self.blog]

    def test_values_joins_and_fixed_parameters_are_djangos(self):
        @compiled
        def names() -> QuerySet[Environment, tuple[str, str]]:
            rows = Environment.objects.filter(Among("service__slug", "slugs"), upstream_mode="all")
            return rows.exclude(Among("slug", "not_these")).values_list("service__slug", "slug")

        assert names(slugs=["shop", "blog"], not_these=["live"]) == [("shop", "staging")]
        assert names(slugs=["shop", "blog"], not_these=["staging"]) == [("blog", "live")]

    def test_a_name_that_is_missing_or_unknown_is_told(self):
        @compiled
        def services() -> QuerySet[Service]:
            return Service.objects.filter(Among("pk", "services"))

        for given in ({}, {"services": [1], "others": [1]}):
            with pytest.raises(TypeError, match=r"wants \['services'\]"):
                services(**given)

    def test_columns_are_converted_as_ever(self):
        build = make_build(self.shop, exports={"LOCKKEEPER_BUNDLE_SHA256": "ab"})

        @compiled
        def builds() -> QuerySet[Build]:
            return Build.objects.filter(Among("pk", "builds"))

        for _ in range(2):
            (found,) = builds(builds=[build.pk])
            assert found.exports == {"LOCKKEEPER_BUNDLE_SHA256": "ab"}
            assert found.created_at == build.created_at


class CompiledColumnsTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.shop = make_service("shop")
        cls.blog = make_service("blog")
        for service, slug in ((cls.shop, "staging"), (cls.shop, "live"), (cls.blog, "live")):
            make_environment(service, slug)

    def places(self, found: QuerySet[Environment]) -> QuerySet[Environment, dict[str, Any]]:
        # With parameters before and after those of the page.
        rows = Environment.objects.annotate(kind=Value("place")).exclude(slug__startswith="no-")
        columns = rows.values("kind", "service__slug", "slug")
        return CompiledColumns(columns).of(found)

    def named(self, places: QuerySet[Environment, dict[str, Any]]) -> list[str]:
        return [f"{each['service__slug']}/{each['slug']}" for each in places]

    def test_rows_are_filtered_ordered_and_sliced_like_those_of_any_queryset(self):
        places = self.places(Environment.objects.all())
        assert self.named(places.order_by("id")) == ["shop/staging", "shop/live", "blog/live"]
        assert self.named(places.order_by("-id")[:2]) == ["blog/live", "shop/live"]
        assert self.named(places.order_by("-id")[1:]) == ["shop/live", "shop/staging"]
        assert self.named(places.filter(slug="live").order_by("service__slug")) == ["blog/live", "shop/live"]
        assert self.named(places.filter(slug="live", service__slug="shop")) == ["shop/live"]
        assert self.named(places.none()) == []
        assert places.get(slug="staging") == {"kind": "place", "service__slug": "shop", "slug": "staging"}
        with pytest.raises(Environment.DoesNotExist):
            places.get(slug="nowhere")

    def test_the_models_own_order_is_kept_and_can_be_turned(self):
        services = CompiledColumns(Service.objects.values("slug")).of(Service.objects.all())
        assert [each["slug"] for each in services] == ["blog", "shop"]
        assert [each["slug"] for each in services.reverse()] == ["shop", "blog"]

    def test_it_is_one_query_whose_columns_are_compiled_once(self):
        compiled = []

        class Told(Value):
            def as_sql(self, *args, **kwargs):
                compiled.append(self.value)
                return super().as_sql(*args, **kwargs)

        rows = Environment.objects.annotate(told=Told("one")).values("slug", "told")
        places = CompiledColumns(rows).of(Environment.objects.order_by("id"))
        with CaptureQueriesContext(connection) as seen:
            for slug in ("live", "staging"):
                assert {each["slug"] for each in places.filter(slug=slug)} == {slug}
        assert len(seen) == 2
        assert compiled == ["one"]

    def test_columns_are_converted_as_ever(self):
        build = make_build(self.shop, exports={"LOCKKEEPER_BUNDLE_SHA256": "ab"})
        rows = CompiledColumns(Build.objects.values("exports", "created_at")).of(Build.objects.all())
        assert list(rows) == list(Build.objects.values("exports", "created_at"))
        assert rows.get(pk=build.pk)["exports"] == {"LOCKKEEPER_BUNDLE_SHA256": "ab"}


@compiled
def locked() -> QuerySet[Service]:
    return Service.objects.select_for_update(no_key=True, nowait=True).filter(Among("pk", "services"))


class LockingTests(TransactionTestCase):
    def test_each_thread_has_its_own_connection_and_a_lock_wants_a_transaction(self):
        shop = make_service("shop")
        told = []

        def elsewhere() -> None:
            try:
                with transaction.atomic():
                    locked(services=[shop.pk])
            except Exception as error:
                told.append(str(error))
            finally:
                connections.close_all()

        with transaction.atomic():
            assert locked(services=[shop.pk]) == [shop]
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
        assert "could not obtain lock" in told[0]
        with pytest.raises(TransactionManagementError):
            locked(services=[shop.pk])
