"""Every page of the admin, found from its URLs, as everybody: what is not yours does not exist."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from django.contrib import admin
from django.db import transaction
from django.db.models import ForeignKey, ManyToManyField, Model
from django.http import HttpResponse
from django.test import Client, TestCase
from django.urls import URLPattern, reverse

from tests.backend.test_crawl_api import ROLES, rows_of_everything, told
from tests.clients import signed_in
from tests.factories import make_member, make_service, make_user
from tests.worlds import World

MOVERS = {"developer", "operator"}
# What a member of staff who is no superuser may change, and with which roles. The rest changes nothing.
MAY = {
    "promotions_promotion_approve": {"approver"},
    "promotions_promotion_reject": {"approver"},
    "promotions_promotion_cancel": MOVERS,
    "promotions_promotion_second": {"operator"},
    "promotions_override_second": {"operator"},
    "promotions_override_withdraw": {"operator"},
    "promotions_pin_lift": {"operator"},
    "promotions_veto_lift": {"approver", "operator"},
    "promotions_window_delete": {"operator"},
    "builds_quarantine_lift": {"approver", "operator"},
    "catalog_environment_roll_back": {"operator"},
}
# Pages of the site that belong to no model.
SITE = {"index", "login", "logout", "password_change", "password_change_done", "autocomplete", "jsi18n"}
SITE |= {"app_list", "search", "view_on_site"}
# Says yes to whatever a page asks before it does something.
YES = {"post": "yes", "_form_submitted": "on", "comment": ""}


class Page(NamedTuple):
    name: str
    model: type[Model]
    of_object: bool

    def path(self, world: World) -> str:
        return reverse(f"admin:{self.name}", args=[world.rows[self.model].pk] if self.of_object else [])


MODELS: dict[type[Model], Any] = dict(admin.site._registry)
PAGES = [
    Page(pattern.name, model, "<" in str(pattern.pattern))
    for model, model_admin in MODELS.items()
    for pattern in model_admin.get_urls()
    # Without a name: the old form of an address, which redirects.
    if pattern.name
]


class Visitor(NamedTuple):
    """Somebody signed in, with roles in the worlds that they see; the others must not exist for them."""

    name: str
    client: Client
    sees: list[World]
    blind_to: list[World]
    roles: set[str]


# It starts no process, but takes as long as all other tests without one.
@pytest.mark.integration
class AdminCrawlTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.kestrel, cls.osprey = World("kestrel"), World("osprey")
        cls.worlds = [cls.kestrel, cls.osprey]
        cls.members = {
            role: make_member(cls.kestrel.service, role, username=f"ann-{role}", is_staff=True)
            for role in ROLES
        }
        cls.root = make_user("root", is_superuser=True, is_staff=True)
        cls.stranger = make_member(make_service("elsewhere"), *ROLES, username="eve", is_staff=True)

    def visitors(self) -> Iterator[Visitor]:
        for role, user in self.members.items():
            yield Visitor(role, signed_in(user), [self.kestrel], [self.osprey], {role})
        yield Visitor("stranger", signed_in(self.stranger), [], self.worlds, set())

    def blind(self) -> Iterator[tuple[Visitor, World]]:
        for visitor in self.visitors():
            for world in visitor.blind_to:
                yield visitor, world

    def hides(self, visitor: Visitor, response: HttpResponse) -> None:
        assert response.status_code < 500
        for world in visitor.blind_to:
            assert world.mark.encode() not in told(response)
            # What the next page would say.
            assert world.mark not in str(response.cookies)

    def test_there_are_pages_to_try(self) -> None:
        assert len(PAGES) > 80
        assert set(MAY) <= {page.name for page in PAGES}
        names = {url.name for url in admin.site.get_urls() if isinstance(url, URLPattern) and url.name}
        assert names == SITE, "say here how a page of the site that belongs to no model is tried"
        for model in MODELS:
            assert model in self.kestrel.rows, f"tests/worlds.py makes no {model._meta.label}"

    def test_a_superuser_opens_every_page(self) -> None:
        client = signed_in(self.root)
        for page in PAGES:
            with self.subTest(page.name):
                response = client.get(page.path(self.osprey))
                assert response.status_code in (200, 302, 403)
                if page.name.endswith("_changelist"):
                    for world in self.worlds:
                        assert world.mark.encode() in told(response), "nothing to hide, nothing proved"

    def test_pages_of_objects_tell_nothing_of_other_services(self) -> None:
        for visitor, world in self.blind():
            for page in PAGES:
                if page.of_object:
                    with self.subTest(visitor.name, page=page.name):
                        response = visitor.client.get(page.path(world))
                        assert response.status_code in (302, 403, 404)
                        self.hides(visitor, response)

    def test_pages_of_ones_own_objects_tell_nothing_of_other_services(self) -> None:
        for visitor in self.visitors():
            for world in visitor.sees:
                for page in PAGES:
                    if page.of_object:
                        with self.subTest(visitor.name, page=page.name):
                            self.hides(visitor, visitor.client.get(page.path(world)))

    def test_lists_tell_nothing_of_other_services(self) -> None:
        for visitor in self.visitors():
            for model in MODELS:
                with self.subTest(visitor.name, model=model._meta.label):
                    self.look_at_list(visitor, model)

    def look_at_list(self, visitor: Visitor, model: type[Model]) -> None:
        """A list, its counts, its filters and their facets, its search, and its form as a popup."""
        path = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        plain = visitor.client.get(path, {"_facets": "True"})
        self.hides(visitor, plain)
        if plain.status_code != 200:
            return
        world = visitor.blind_to[-1]
        # A piece of the mark, since the page repeats what was searched for.
        found = visitor.client.get(path, {"q": world.mark[1:], "_popup": "1"})
        self.hides(visitor, found)
        if MODELS[model].search_fields:
            assert found.context["cl"].result_count == 0
        filters = [each[0] for each in MODELS[model].list_filter if isinstance(each, tuple)]
        ids = {f"{name}__id__exact": world.value(model, name) for name in filters if "__slug" not in name}
        if ids:
            self.hides(visitor, visitor.client.get(path, ids))
        slugs = {name: world.value(model, name) for name in filters if "__slug" in name}
        if slugs:
            # Its links repeat the slug, which the visitor had to know; so only what was found tells.
            assert visitor.client.get(path, slugs).context["cl"].result_count == 0
        self.hides(visitor, visitor.client.get(f"{path}add/"))

    def test_search_and_autocompletion_tell_nothing_of_other_services(self) -> None:
        for visitor in self.visitors():
            for term in ("", visitor.blind_to[-1].mark[1:]):
                for model in MODELS:
                    for field in model._meta.get_fields():
                        if not isinstance(field, ForeignKey | ManyToManyField):
                            continue
                        of = {"app_label": model._meta.app_label, "model_name": model._meta.model_name}
                        query = {**of, "field_name": field.name, "term": term}
                        with self.subTest(visitor.name, **query):
                            answer = visitor.client.get(reverse("admin:autocomplete"), query)
                            assert answer.status_code in (200, 403, 404)
                            self.hides(visitor, answer)
                query = {"s": term, "extended": "1"}
                self.hides(visitor, visitor.client.get(reverse("admin:search"), query))
            for label in {model._meta.app_label for model in MODELS}:
                self.hides(visitor, visitor.client.get(reverse("admin:app_list", args=[label])))
            self.hides(visitor, visitor.client.get(reverse("admin:index")))

    def test_what_belongs_to_other_services_is_not_changed(self) -> None:
        for visitor, world in self.blind():
            before = rows_of_everything()
            for page in PAGES:
                if page.of_object:
                    with self.subTest(visitor.name, page=page.name):
                        self.hides(visitor, visitor.client.post(page.path(world), YES))
            for model in MODELS:
                for action in self.actions(model):
                    with self.subTest(visitor.name, model=model._meta.label, action=action):
                        self.hides(visitor, self.act(visitor.client, model, action, world))
            assert rows_of_everything() == before

    def test_what_belongs_to_ones_services_is_changed_by_those_with_the_role(self) -> None:
        for visitor in self.visitors():
            for world in visitor.sees:
                before = rows_of_everything()
                for page in PAGES:
                    if (
                        not page.name.endswith("_changelist")
                        and not MAY.get(page.name, set()) & visitor.roles
                    ):
                        with self.subTest(visitor.name, page=page.name):
                            assert visitor.client.post(page.path(world), YES).status_code < 500
                for model in MODELS:
                    for action in self.actions(model):
                        name = f"{model._meta.app_label}_{model._meta.model_name}_{action}"
                        if not MAY.get(name.removesuffix("_selected"), set()) & visitor.roles:
                            with self.subTest(visitor.name, model=model._meta.label, action=action):
                                assert self.act(visitor.client, model, action, world).status_code < 500
                assert rows_of_everything() == before

    def test_who_has_the_role_may(self) -> None:
        for name, roles in MAY.items():
            (page,) = (page for page in PAGES if page.name == name)
            for role in roles:
                with self.subTest(role, page=name), transaction.atomic():
                    client = signed_in(self.members[role])
                    before = rows_of_everything()
                    client.post(page.path(self.kestrel), YES)
                    assert rows_of_everything() != before
                    # The next one finds it as it was.
                    transaction.set_rollback(True)

    def test_who_is_not_staff_or_not_known_sees_no_page(self) -> None:
        for client in (Client(), signed_in(make_member(self.kestrel.service, *ROLES, username="joe"))):
            before = rows_of_everything()
            for page in PAGES:
                for ask in (client.get, client.post):
                    with self.subTest(page.name, ask=ask.__name__):
                        response = ask(page.path(self.kestrel))
                        assert response.status_code == 302
                        assert response["Location"].startswith("/admin/login/")
            for name in ("index", "search", "autocomplete"):
                assert client.get(reverse(f"admin:{name}")).status_code == 302
            assert rows_of_everything() == before

    def actions(self, model: type[Model]) -> list[str]:
        return ["delete_selected", *(str(action) for action in MODELS[model].actions or ())]

    def act(self, client: Client, model: type[Model], action: str, world: World) -> HttpResponse:
        path = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        return client.post(path, {**YES, "action": action, "_selected_action": [world.rows[model].pk]})
