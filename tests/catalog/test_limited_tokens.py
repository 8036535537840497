"""A token that is limited to services is good for those alone, whatever its user may."""

import pytest
from django.test import RequestFactory, TestCase

from apps.access.services import create_token
from apps.admin_base import MemberAdmin
from apps.catalog.models import Service
from apps.catalog.permissions import MOVERS, require_role, roles_of
from apps.catalog.visibility import visible
from apps.errors import Invalid, NotFound
from apps.promotions.models import Promotion
from apps.promotions.services import approve_promotion, cancel_promotion
from tests.clients import ApiClient
from tests.factories import (
    make_environment,
    make_promotion,
    make_release,
    make_service,
    make_user,
)


class LimitedTokenTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.web, cls.blog = make_service("web"), make_service("blog")
        cls.ann = make_user("ann")
        for service in (cls.web, cls.blog):
            for role in ("developer", "approver"):
                cls.ann.memberships.create(service=service, role=role)
        cls.root = make_user("root", is_superuser=True, is_staff=True)

    def setUp(self):
        for user in (self.ann, self.root):
            user.token_services = frozenset({"web"})

    def test_it_sees_and_may_nothing_elsewhere(self):
        for user in (self.ann, self.root):
            with self.subTest(user.username):
                assert list(Service.objects.visible_to(user)) == [self.web]
                assert list(visible(Service.objects.all(), user, "")) == [self.web]
                require_role(user=user, service=self.web, roles=MOVERS)
                with pytest.raises(NotFound, match="no service 'blog'"):
                    require_role(user=user, service=self.blog, roles=MOVERS)
        assert roles_of(user=self.ann, service=self.web) == {"developer", "approver"}
        assert roles_of(user=self.ann, service=self.blog) == set()

    def test_a_superuser_learns_nothing_of_promotions_elsewhere(self):
        promotion = make_promotion(make_environment(self.blog))
        with pytest.raises(NotFound):
            approve_promotion(promotion=promotion, user=self.root)
        with pytest.raises(NotFound):
            cancel_promotion(promotion=promotion, user=self.root)

    def test_it_does_not_cancel_what_its_user_asked_for_elsewhere(self):
        promotion = make_promotion(make_environment(self.blog), requested_by=self.ann)
        with pytest.raises(NotFound):
            cancel_promotion(promotion=promotion, user=self.ann)
        promotion.refresh_from_db()
        assert promotion.status == Promotion.Status.PENDING

    def test_the_admin_shows_it_nothing(self):
        request = RequestFactory().get("/")
        request.user = self.root
        assert not MemberAdmin(Service, None).get_queryset(request).exists()

    def test_the_api_honours_it(self):
        release = make_release(self.blog)
        make_environment(self.blog, "staging")
        for user in (self.ann, self.root):
            with self.subTest(user.username):
                client = ApiClient(user, services=["web"])
                found = client.get("/api/v1/services/").json()["results"]
                assert [service["slug"] for service in found] == ["web"]
                assert client.get("/api/v1/services/blog/").status_code == 404
                wish = {"release": release.pk, "environment": "staging"}
                assert client.post("/api/v1/promotions/", wish).status_code == 404
                build = {"service": "blog", "codebuild_id": "blog:1", "commit": "a" * 40}
                assert client.post("/api/v1/builds/", build).status_code == 404
        assert not Promotion.objects.exists()

    def test_a_limit_costs_no_query(self):
        counts = []
        for services in (None, ["web"]):
            client = ApiClient(self.root, services=services)
            with self.assertNumQueries(2):  # 1: token and user  2: services
                counts.append(len(client.get("/api/v1/services/").json()["results"]))
        assert counts == [2, 1]

    def test_a_limit_to_no_service_is_refused(self):
        with pytest.raises(Invalid, match="limited to no service"):
            create_token(user=self.ann, name="none", scopes=["read"], services=[])

    def test_a_service_that_is_gone_leaves_its_token_with_nothing(self):
        gone = make_service("gone")
        client = ApiClient(self.root, services=["gone"])
        gone.delete()
        assert client.get("/api/v1/services/").json()["results"] == []
