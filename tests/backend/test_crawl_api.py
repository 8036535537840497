"""Every address of the REST API, found from its URLs, as everybody: what is not yours does not exist."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from django.apps import apps
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import Client, TestCase
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone

from apps.builds.models import Build, Report
from apps.builds.models import TestCase as TestCaseRow
from apps.catalog.models import Environment, Membership
from apps.promotions.models import Promotion, Standing, Veto
from apps.releases.models import Release
from tests.clients import ApiClient
from tests.factories import make_member, make_service, make_user
from tests.worlds import World

METHODS = frozenset({"get", "post", "put", "patch", "delete"})
ROLES = tuple(Membership.Role.values)
MOVERS = {"developer", "operator"}


def promotion_wish(world: World) -> dict[str, Any]:
    return {"release": world.rows[Release].pk, "environment": world.staging.slug}


def build_request(world: World) -> dict[str, Any]:
    build = world.rows[Build]
    return {"service": world.mark, "codebuild_id": build.codebuild_id, "commit": build.commit}


def pin_wish(world: World) -> dict[str, Any]:
    where = {"service": world.mark, "environment": world.staging.slug}
    return {**where, "release": world.rows[Release].pk, "reason": "It stays."}


def veto_wish(world: World) -> dict[str, Any]:
    return {"release": world.rows[Release].pk, "reason": "It goes nowhere."}


def new_window(world: World) -> dict[str, Any]:
    window = {"kind": "deny", "name": "freeze", "starts_at": "2026-12-24T00:00", "timezone": "UTC"}
    return {**window, "service": world.mark, "environment": world.staging.slug, "minutes": 60}


def override_wish(world: World) -> dict[str, Any]:
    return {"promotion": world.rows[Promotion].pk, "justification": "The site is down.", "minutes": 5}


def quarantine_wish(world: World) -> dict[str, Any]:
    until = timezone.now() + timedelta(days=1)
    return {"case": world.rows[TestCaseRow].pk, "reason": "It is known.", "until": until.isoformat()}


class Write(NamedTuple):
    """Who may do it, and with which body; superusers are listed like a role."""

    roles: set[str]
    body: Callable[[World], dict[str, Any]] = lambda world: {}
    answers: tuple[int, ...] = (200, 201)


# Whatever is not a GET has to be named here, with who may do it.
WRITES = {
    "build-list": Write(MOVERS | {"superuser"}, build_request),
    # What is sent is a form, and this is JSON; tests/builds/test_api_reports.py sends forms.
    "build-report-list": Write(MOVERS | {"superuser"}, answers=(415,)),
    "promotion-list": Write(MOVERS | {"superuser"}, promotion_wish),
    "promotion-approve": Write({"approver"}),
    "promotion-reject": Write({"approver"}),
    # None of the visitors has given an approval to take back.
    "promotion-withdraw": Write({"approver"}, answers=(409,)),
    "promotion-cancel": Write(MOVERS | {"superuser"}),
    # Being a superuser is not enough.
    "override-list": Write({"operator"}, override_wish),
    "override-second": Write({"operator"}),
    "override-withdraw": Write({"operator"}),
    "pin-list": Write({"operator", "superuser"}, pin_wish),
    "pin-lift": Write({"operator", "superuser"}),
    "veto-list": Write({"approver", "operator", "superuser"}, veto_wish),
    "veto-lift": Write({"approver", "operator", "superuser"}),
    "window-list": Write({"operator", "superuser"}, new_window),
    # Changed, and removed, which takes no notice of a body.
    "window-detail": Write({"operator", "superuser"}, lambda world: {"name": "freeze"}, (200, 204)),
    # The world's reports have no outcomes to judge a case by.
    "quarantine-list": Write({"approver", "operator", "superuser"}, quarantine_wish, answers=(409,)),
    "quarantine-lift": Write({"approver", "operator", "superuser"}),
    "environment-rollback": Write({"operator", "superuser"}),
}
# Where a parameter of an address is not the view's own lookup.
PARAMETERS = {"build": (Build, "pk"), "against": (Build, "pk"), "environment": (Environment, "pk")}
# Filters that are not a plain lookup: where their value is.
FILTERS = {
    ("decision-list", "promotion"): (Promotion, "pk"),
    ("environment-list", "still_passes"): (Standing, "still_passes"),
    ("veto-list", "environment"): (Veto, "environment__slug"),
    ("veto-list", "stands"): (Veto, "stands"),
    ("test-case-list", "search"): (TestCaseRow, "name"),
    ("trend-list", "report"): (Report, "name"),
}
# Of no service: the same for everybody.
COMMON = {"rule-list", "rule-detail"}


def patterns(resolver: URLResolver | Any = None) -> Iterator[URLPattern]:
    """Every address under /api/v1/."""
    if resolver is None:
        (resolver,) = (found for found in get_resolver().url_patterns if str(found.pattern) == "api/v1/")
    for found in resolver.url_patterns:
        if isinstance(found, URLResolver):
            yield from patterns(found)
        else:
            yield found


class Route(NamedTuple):
    name: str
    view: Any
    methods: frozenset[str]
    parameters: tuple[str, ...]

    def path(self, world: World) -> str:
        """The address with the keys of a world's rows."""
        keys = {}
        for parameter in self.parameters:
            if parameter in (self.view.lookup_url_kwarg, self.view.lookup_field):
                model, field = self.view.queryset.model, self.view.lookup_field
            else:
                model, field = PARAMETERS[parameter]
            keys[parameter] = world.value(model, field)
        return reverse(self.name, kwargs=keys)

    def filters(self, world: World) -> Iterator[tuple[str, Any]]:
        """Every filter of a list with the value that finds a world's row."""
        for name, found in getattr(getattr(self.view, "filterset_class", None), "base_filters", {}).items():
            default = (self.view.queryset.model, found.field_name)
            yield name, world.value(*FILTERS.get((self.name, name), default))


ROUTES = [
    Route(
        pattern.name or "",
        pattern.callback.cls,
        frozenset(pattern.callback.actions),
        tuple(pattern.pattern.regex.groupindex),
    )
    for pattern in patterns()
    if pattern.name not in COMMON
]


def rows_of_everything() -> dict[str, list[str]]:
    """All rows there are, to tell whether something has been written; tokens remember their use.

    In the database's words and in one statement: it is asked hundreds of times.
    """
    tables = {
        model._meta.db_table: model._meta.label
        for model in apps.get_models(include_auto_created=True)
        if model._meta.app_label not in ("sessions", "admin") and model._meta.label != "access.Token"
    }
    each = [f"SELECT '{table}', array(SELECT t::text FROM {table} t ORDER BY 1)" for table in tables]  # noqa: S608  # own tables
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(each))
        return {tables[table]: rows for table, rows in cursor.fetchall()}


def told(response: HttpResponse) -> bytes:
    """Everything that an answer tells: its headers and its body."""
    return response.serialize()


class Visitor(NamedTuple):
    """Somebody at the API, with roles in the worlds that they see; the others must not exist for them."""

    name: str
    client: Client
    sees: list[World]
    blind_to: list[World]
    roles: set[str]


def test_there_are_addresses_to_try() -> None:
    assert len(ROUTES) >= 16
    assert {"service-list", "promotion-approve", "test-result-list"} <= {route.name for route in ROUTES}


def test_who_may_write_what_is_said_here() -> None:
    assert {route.name for route in ROUTES if route.methods - {"get"}} == set(WRITES)


# It starts no process, but takes a tenth of the time of all tests without one, in every build.
@pytest.mark.integration
class ApiCrawlTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.kestrel, cls.osprey = World("kestrel"), World("osprey")
        cls.worlds = [cls.kestrel, cls.osprey]
        cls.members = {role: make_member(cls.kestrel.service, role, username=f"ann-{role}") for role in ROLES}
        cls.both = make_user("ben")
        for world in cls.worlds:
            for role in ROLES:
                cls.both.memberships.create(service=world.service, role=role)
        cls.root = make_user("root", is_superuser=True, is_staff=True)
        cls.stranger = make_member(make_service("elsewhere"), *ROLES, username="eve", is_staff=True)

    def visitors(self) -> Iterator[Visitor]:
        kestrel, osprey = [self.kestrel], [self.osprey]
        for role, user in self.members.items():
            yield Visitor(role, ApiClient(user), kestrel, osprey, {role})
        yield Visitor("superuser", ApiClient(self.root), self.worlds, [], {"superuser"})
        limited = ApiClient(self.root, services=["kestrel"])
        yield Visitor("superuser, limited token", limited, kestrel, osprey, {"superuser"})
        limited = ApiClient(self.both, services=["kestrel"])
        yield Visitor("member of both, limited token", limited, kestrel, osprey, set(ROLES))
        yield Visitor("stranger", ApiClient(self.stranger), [], self.worlds, set())
        yield Visitor("who has left", ApiClient(self.kestrel.asker), [], self.worlds, set())

    def test_reading_tells_nothing_of_other_services(self) -> None:
        for visitor in self.visitors():
            for route in ROUTES:
                if "get" not in route.methods:
                    continue
                with self.subTest(visitor.name, route=route.name):
                    if not route.parameters:
                        self.look_at_list(visitor, route)
                        continue
                    for world in visitor.sees:
                        response = visitor.client.get(route.path(world))
                        assert response.status_code == 200
                        for other in visitor.blind_to:
                            assert other.mark.encode() not in told(response)
                    for world in visitor.blind_to:
                        response = visitor.client.get(route.path(world))
                        assert response.status_code == 404
                        # The address itself may hold it, as the slug of a service.
                        address = route.path(world).encode()
                        assert world.mark.encode() not in told(response).replace(address, b"")

    def look_at_list(self, visitor: Visitor, route: Route) -> None:
        """A list shows marks of what is seen and none of the rest, with filters and without."""
        response = visitor.client.get(route.path(self.kestrel))
        assert response.status_code == 200
        for world in visitor.sees:
            assert world.mark.encode() in told(response), "it does not show what it should"
        for world in visitor.blind_to:
            assert world.mark.encode() not in told(response)
        for world in self.worlds:
            for name, value in route.filters(world):
                found = visitor.client.get(route.path(world), {name: str(value)})
                assert found.status_code == 200, (name, value)
                shown = world.mark.encode() in found.content
                assert shown == (world in visitor.sees), (name, value)
                for other in visitor.blind_to:
                    assert other.mark.encode() not in found.content, (name, value)

    def test_writing_to_other_services_finds_nothing_there(self) -> None:
        for visitor, route, method in self.writes():
            for world in visitor.blind_to:
                with self.subTest(visitor.name, route=route.name):
                    before = rows_of_everything()
                    response = self.write(visitor.client, route, method, world)
                    assert response.status_code == 404, response.content
                    assert rows_of_everything() == before

    def test_writing_needs_the_role_for_it(self) -> None:
        for visitor, route, method in self.writes():
            for world in visitor.sees:
                with self.subTest(visitor.name, route=route.name), transaction.atomic():
                    before = rows_of_everything()
                    response = self.write(visitor.client, route, method, world)
                    if visitor.roles & WRITES[route.name].roles:
                        assert response.status_code in WRITES[route.name].answers, response.content
                    else:
                        assert response.status_code == 403, response.content
                        assert rows_of_everything() == before
                    # The next one finds it as it was.
                    transaction.set_rollback(True)

    def test_nobody_known_gets_in(self) -> None:
        before = rows_of_everything()
        for route in ROUTES:
            for method in METHODS:
                with self.subTest(route.name, method=method):
                    response = self.write(self.client, route, method, self.kestrel)
                    assert response.status_code == 401
                    assert b"kestrel" not in response.content
        assert rows_of_everything() == before

    def test_other_methods_do_nothing(self) -> None:
        client = ApiClient(self.root)
        before = rows_of_everything()
        for route in ROUTES:
            for method in METHODS - route.methods:
                with self.subTest(route.name, method=method):
                    assert self.write(client, route, method, self.kestrel).status_code == 405
        assert rows_of_everything() == before

    def writes(self) -> Iterator[tuple[Visitor, Route, str]]:
        for visitor in self.visitors():
            for route in ROUTES:
                for method in sorted(route.methods - {"get"}):
                    yield visitor, route, method

    def write(self, client: Client, route: Route, method: str, world: World) -> HttpResponse:
        body = WRITES[route.name].body(world) if route.name in WRITES else {}
        return getattr(client, method)(route.path(world), body, content_type="application/json")
