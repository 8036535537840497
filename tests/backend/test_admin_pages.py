"""Every page of the admin: it opens, and its number of queries does not grow with its rows."""

from datetime import timedelta
from itertools import product
from unittest.mock import patch

import pytest
from django.contrib import admin
from django.db import connection
from django.test import TestCase
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from apps.admin_base import BoundedPaginator
from apps.builds.admin import BuildAdmin
from apps.builds.models import Build, ReportFile
from apps.catalog.models import Service
from apps.ledger.services import record
from apps.promotions.models import Approval
from apps.promotions.overview import SERVICES
from apps.rollout.models import MigrationRun
from tests.clients import signed_in
from tests.factories import (
    make_build,
    make_coverage,
    make_decision,
    make_deployment,
    make_environment,
    make_group,
    make_member,
    make_occupancy,
    make_override,
    make_pin,
    make_policy,
    make_promotion,
    make_quarantine,
    make_record,
    make_release,
    make_report,
    make_result,
    make_service,
    make_standing,
    make_state,
    make_target,
    make_token,
    make_user,
    make_veto,
    make_window,
)

EVENTS = ("BeforeInstall", "AfterInstall", "ApplicationStart")
MODELS = [model for model in admin.site._registry if model._meta.app_label != "unfold"]
HISTORY = [
    "builds.Build",
    "builds.Report",
    "builds.ReportFile",
    "builds.TestCase",
    "builds.TestResult",
    "builds.CaseState",
    "releases.Release",
    "deployments.Deployment",
    "deployments.Target",
    "deployments.HookEvent",
    "deployments.Occupancy",
    "gates.Decision",
    "promotions.Promotion",
    "promotions.Approval",
    "promotions.Override",
    "ledger.Entry",
    "rollout.MigrationRun",
]
SUPERUSERS_ONLY = ["access.User", "rollout.MigrationRun"]


def make_one_of_each(slug: str) -> None:
    """A service with a row in every table, none of which shares a parent with another call's."""
    service = make_service(slug)
    environment = make_environment(service, "staging")
    make_environment(service, "production", upstreams=(environment,))
    requester = make_member(service, "developer")
    build = make_build(service, requested_by=requester)
    report = make_report(build, failed=1)
    make_coverage(build)
    result = make_result(report)
    make_state(result)
    make_quarantine(result.case)
    ReportFile.objects.create(report=report, bucket="b", key="unit.xml", size=1, sha256="0" * 64)
    release = make_release(build=build)
    make_policy(environment, [{"rule": "approved", "parameters": {}}], created_by=requester)
    decision = make_decision(environment, release, "waiting_human")
    deployment = make_deployment(environment, release)
    target = make_target(deployment, "staging-1", *EVENTS)
    make_record(target.events.get(name="AfterInstall"))
    make_occupancy(deployment, since=timezone.now() - timedelta(hours=1))
    make_standing(environment, release, "2 tests fail by now.")
    make_window(environment)
    promotion = make_promotion(environment, release, requested_by=requester, decision=decision)
    running = make_deployment(environment, status="running")
    make_target(running, "staging-2", *EVENTS)
    make_promotion(environment, running.release, status="deploying", deployment=running)
    Approval.objects.create(promotion=promotion, user=make_user(), verdict="approved")
    make_override(promotion)
    make_pin(environment, release)
    make_veto(release, environment)
    make_veto(release)
    record(chain=slug, action="service.registered", subject=f"service:{service.pk}", actor=requester)
    make_token(requester)
    make_group(service, "release-managers", requester)
    now = timezone.now()
    MigrationRun.objects.create(host=slug, result="applied", started_at=now, finished_at=now)


def address(model: type, page: str, *args: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def without_slugs(sql: str) -> str:
    """A query without the choices of filters by an environment's slug; of environments there are few."""
    return sql.replace('SELECT DISTINCT "catalog_environment"."slug"', "")


class PageTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.superuser = make_user("root", is_superuser=True, is_staff=True)
        make_one_of_each("web")

    def setUp(self) -> None:
        self.client = signed_in(self.superuser)

    def test_every_model_has_a_page_with_rows(self) -> None:
        for model in MODELS:
            with self.subTest(model._meta.label):
                assert model.objects.exists(), "make_one_of_each makes none of these"
                row = model.objects.order_by("pk").last()
                response = self.client.get(address(model, "change", row.pk))
                assert response.status_code == 200, response.get("Location", "")

    def test_no_list_queries_per_row(self) -> None:
        def counts() -> dict[str, int]:
            found = {}
            for model in MODELS:
                with CaptureQueriesContext(connection) as queries:
                    response = self.client.get(address(model, "changelist"))
                assert response.status_code == 200
                found[model._meta.label] = len(queries)
            return found

        before = counts()
        for slug in ("api", "worker", "site"):
            make_one_of_each(slug)
        assert counts() == before

    def test_what_the_lists_cost(self) -> None:
        # 1: session  2: user  3: count  4: rows with what they show; environments 5: their upstreams.
        # And one or two for filters whose choices are rows. For a member of staff two more for what Django
        # permits, and one for the roles, on which the links of the sidebar and the buttons depend.
        member = make_user("member", is_staff=True)
        member.memberships.create(service=Service.objects.get(slug="web"), role="viewer")
        for (user, limit), model in product(((self.superuser, 6), (member, 9)), MODELS):
            client = signed_in(user)
            with self.subTest(f"{model._meta.label} as {user}"), CaptureQueriesContext(connection) as queries:
                client.get(address(model, "changelist"))
                assert len(queries) <= limit, "\n".join(query["sql"][:200] for query in queries)

    def test_no_list_counts_a_whole_table(self) -> None:
        member = make_user("member", is_staff=True)
        member.memberships.create(service=Service.objects.get(slug="web"), role="viewer")
        for user, model in product((self.superuser, member), MODELS):
            with self.subTest(f"{model._meta.label} as {user}"), CaptureQueriesContext(connection) as queries:
                signed_in(user).get(address(model, "changelist"))
                for query in queries:
                    assert "COUNT(*)" not in query["sql"] or "LIMIT 10000" in query["sql"], query["sql"]
                    found = without_slugs(query["sql"]).partition("WHERE")[0]
                    assert "SELECT DISTINCT" not in found, query["sql"]

    def test_no_filter_looks_through_a_whole_table_for_its_choices(self) -> None:
        for model in MODELS:
            # Its groups of reports have no list of their own, and few cases are in trouble.
            if model._meta.label == "builds.CaseState":
                continue
            with self.subTest(model._meta.label), CaptureQueriesContext(connection) as queries:
                self.client.get(address(model, "changelist"))
                for query in queries:
                    assert "DISTINCT" not in without_slugs(query["sql"]), query["sql"]

    def test_a_list_has_pages_up_to_its_limit(self) -> None:
        for _ in range(5):
            make_build(Service.objects.get(slug="web"))
        with patch.multiple(BoundedPaginator, LIMIT=4), patch.multiple(BuildAdmin, list_per_page=2):
            changelist = self.client.get(address(Build, "changelist")).context["cl"]
            assert (changelist.result_count, changelist.paginator.num_pages) == (4, 2)
            rows = self.client.get(address(Build, "changelist"), {"p": 2}).context["cl"].result_list
        assert [row.pk for row in rows] == list(
            Build.objects.order_by("-pk").values_list("pk", flat=True)[2:4]
        )

    def test_lists_leave_large_columns_out(self) -> None:
        for model in MODELS:
            with self.subTest(model._meta.label), CaptureQueriesContext(connection) as queries:
                self.client.get(address(model, "changelist"))
                for query in queries:
                    for column in ('"manifest"', '"facts"', '"log_tail"'):
                        assert column not in query["sql"], query["sql"]

    def test_the_overview_costs_the_same_however_much_there_is(self) -> None:
        # 1: session  2: user  3: how many services  4: those of the page  5: their environments
        # 6: what runs there  7: promotions at or past their gates  8: how far their hosts are
        # 9: what would no longer pass  10: those that ended
        with self.assertNumQueries(10):
            response = self.client.get(reverse("admin:index"))
        self.assertContains(response, "web")
        for slug in ("api", "worker"):
            make_one_of_each(slug)
        with self.assertNumQueries(10):
            self.client.get(reverse("admin:index"))

    def test_the_overview_shows_services_a_page_at_a_time_the_busy_ones_first(self) -> None:
        for number in range(SERVICES + 1):
            make_environment(make_service(f"quiet-{number:02d}"), "staging")
        make_promotion(make_environment(make_service("zealous"), "staging"))
        first, second = (self.client.get(reverse("admin:index"), {"page": page}) for page in (1, 2))
        self.assertContains(first, "zealous")
        self.assertContains(first, "quiet-00")
        self.assertContains(first, "Further services")
        self.assertNotContains(first, f"quiet-{SERVICES}")
        self.assertContains(second, f"quiet-{SERVICES}")
        self.assertNotContains(second, "zealous")

    def test_the_overview_shows_how_far_a_deployment_is(self) -> None:
        environment = make_environment(make_service("busy"), "staging")
        deployment = make_deployment(environment, status="running")
        target = make_target(deployment, "busy-1", *EVENTS)
        target.events.filter(name="AfterInstall").update(status="InProgress")
        target.events.filter(name="ApplicationStart").update(status="Pending")
        make_promotion(environment, deployment.release, status="deploying", deployment=deployment)
        self.assertContains(self.client.get(reverse("admin:index")), "busy-1: AfterInstall InProgress")

    def test_the_overview_shows_how_well_an_environment_is_and_what_holds_it(self) -> None:
        environment = make_environment(make_service("busy"), "staging")
        deployment = make_deployment(environment)
        make_target(deployment, "busy-1")
        make_occupancy(deployment)
        held = f"Held at {deployment.release.version}"
        page = self.client.get(reverse("admin:index"))
        self.assertContains(page, f"{deployment.release.version} succeeded on its host.")
        self.assertNotContains(page, held)
        make_target(deployment, "busy-2", status="Failed")
        make_pin(environment, deployment.release, reason="Until the sale is over.")
        page = self.client.get(reverse("admin:index"))
        self.assertContains(page, "it succeeded on 1 of 2 hosts.")
        self.assertContains(page, held)
        self.assertContains(page, "Until the sale is over.")
        environment.pins.update(expires_at=timezone.now())
        self.assertNotContains(self.client.get(reverse("admin:index")), held)

    def test_pages_of_history_take_no_writes(self) -> None:
        for model in MODELS:
            if model._meta.label not in HISTORY:
                continue
            row = model.objects.order_by("pk").last()
            with self.subTest(model._meta.label):
                assert self.client.get(address(model, "add")).status_code == 403
                assert self.client.post(address(model, "change", row.pk), {}).status_code == 403
                assert self.client.post(address(model, "delete", row.pk), {"post": "yes"}).status_code == 403
                assert model.objects.filter(pk=row.pk).exists()


class VisibilityTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        make_one_of_each("web")
        make_one_of_each("secret")
        cls.member = make_user("member", is_staff=True)
        cls.member.memberships.create(service=Service.objects.get(slug="web"), role="viewer")

    def test_staff_see_their_services_and_nothing_of_others(self) -> None:
        client = signed_in(self.member)
        for model in MODELS:
            label = model._meta.label
            with self.subTest(label):
                response = client.get(address(model, "changelist"))
                if label in SUPERUSERS_ONLY:
                    assert response.status_code == 403
                    continue
                assert response.status_code == 200
                rows = list(response.context["cl"].queryset)
                others = [row for row in model.objects.all() if row not in rows]
                assert others, "the rows of the other service are to be hidden"
                if label != "access.Token":
                    assert rows
                page = client.get(address(model, "change", others[0].pk))
                assert page.status_code == 302
                self.assertNotContains(response, "secret")

    def test_filters_offer_staff_their_services_only(self) -> None:
        self.member.memberships.create(service=make_service("blog"), role="viewer")
        response = signed_in(self.member).get(address(Build, "changelist"))
        (by_service,) = (each for each in response.context["cl"].filter_specs if each.title == "service")
        assert [name for _, name in by_service.lookup_choices] == ["blog", "web"]

    def test_filters_offer_staff_the_slugs_of_their_environments_only(self) -> None:
        blog = make_service("blog")
        self.member.memberships.create(service=blog, role="viewer")
        make_deployment(make_environment(blog, "staging"))
        hidden = make_deployment(make_environment(Service.objects.get(slug="secret"), "hidden"))
        client = signed_in(self.member)
        path = address(type(hidden), "changelist")
        (by_slug,) = (
            each for each in client.get(path).context["cl"].filter_specs if each.title == "environment"
        )
        assert list(by_slug.lookup_choices) == ["production", "staging"]
        found = client.get(path, {"environment__slug": "staging"}).context["cl"].queryset
        assert {row.environment.service.slug for row in found} == {"blog", "web"}
        assert not client.get(path, {"environment__slug": "hidden"}).context["cl"].queryset

    def test_the_overview_shows_their_services_only(self) -> None:
        response = signed_in(self.member).get(reverse("admin:index"))
        self.assertContains(response, "web")
        self.assertNotContains(response, "secret")

    def test_a_user_who_is_no_staff_is_sent_to_sign_in(self) -> None:
        client = signed_in(make_user("pipeline"))
        for model in MODELS:
            with self.subTest(model._meta.label):
                assert client.get(address(model, "changelist")).status_code == 302

    def test_staff_who_are_no_superusers_change_nothing_but_their_tokens(self) -> None:
        client = signed_in(self.member)
        for model in MODELS:
            if model._meta.label == "access.Token":
                continue
            with self.subTest(model._meta.label):
                assert client.get(address(model, "add")).status_code == 403


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_every_list_skips_the_second_count(model: type) -> None:
    assert admin.site._registry[model].show_full_result_count is False
