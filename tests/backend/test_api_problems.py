"""Every error under /api/ is problem details (RFC 9457), whoever raises it."""

import json

import pytest
from django.core.signals import got_request_exception
from django.db import OperationalError, connection
from django.test import Client, TestCase, override_settings
from django.urls import include, path
from rest_framework.exceptions import Throttled
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.access.models import Token
from apps.errors import DomainError, Forbidden, Invalid, NotFound, Unavailable
from tests.clients import ApiClient
from tests.factories import make_token, make_user


class Failing(APIView):
    """Raises what a test tells it to."""

    permission_classes = ()
    error: Exception

    def get(self, request: object) -> Response:
        raise self.error


urlpatterns = [
    path("api/fail/", Failing.as_view()),
    path("fail/", lambda request: Failing().get(request)),
    path("", include("backend.urls")),
]
handler404 = "backend.problems.not_found"
handler500 = "backend.problems.server_error"


def check(response, status: int, *words: str) -> dict:
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json", response.content
    found = json.loads(response.content)
    assert found["status"] == status
    assert found["title"]
    for word in words:
        assert word in found["detail"], found
    return found


class AuthenticationTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.user = make_user("ann")

    def test_without_a_token_nothing_is_answered(self) -> None:
        for path_ in ("v1/services/", "v1/builds/", "v1/releases/1/", "v1/promotions/", "schema/", "docs/"):
            with self.subTest(path_):
                response = self.client.get(f"/api/{path_}")
                check(response, 401)
                assert response["WWW-Authenticate"].startswith("Bearer")

    def test_a_bad_token_is_refused(self) -> None:
        for header in ("Bearer lk_wrong", "Bearer", "Bearer ", "Basic YTpi", "Bearer lk_\xff"):
            with self.subTest(header):
                check(self.client.get("/api/v1/services/", headers={"authorization": header}), 401)

    def test_a_token_ends_with_its_expiry_its_revocation_and_its_user(self) -> None:
        for change in ({"expires_at": "2020-01-01T00:00Z"}, {"revoked_at": "2020-01-01T00:00Z"}):
            with self.subTest(change):
                token, secret = make_token(self.user)
                Token.objects.filter(pk=token.pk).update(**change)
                check(
                    self.client.get("/api/v1/services/", headers={"authorization": f"Bearer {secret}"}), 401
                )
        client = ApiClient(self.user)
        assert client.get("/api/v1/services/").status_code == 200
        self.user.is_active = False
        self.user.save()
        check(client.get("/api/v1/services/"), 401)

    def test_a_session_is_no_way_in_but_to_the_documentation(self) -> None:
        self.client.force_login(self.user)
        check(self.client.get("/api/v1/services/"), 401)
        assert self.client.get("/api/docs/").status_code == 200
        assert self.client.get("/api/schema/").status_code == 200

    def test_a_browser_is_sent_to_sign_in_before_the_documentation(self) -> None:
        response = self.client.get("/api/docs/", headers={"accept": "text/html,*/*"})
        assert response.status_code == 302
        assert response["Location"] == "/admin/login/?next=/api/docs/"

    def test_reading_needs_the_scope_read(self) -> None:
        client = ApiClient(self.user, "ci")
        check(client.get("/api/v1/services/"), 403, "read")
        check(client.get("/api/schema/"), 403, "read")

    def test_when_a_token_was_used_is_noted(self) -> None:
        token, secret = make_token(self.user)
        self.client.get("/api/v1/services/", headers={"authorization": f"Bearer {secret}"})
        token.refresh_from_db()
        assert token.last_used_at is not None


class RequestTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.user = make_user("ann")

    def setUp(self) -> None:
        self.client = ApiClient(self.user)

    def test_what_is_not_there(self) -> None:
        check(self.client.get("/api/v1/nothing/"), 404, "/api/docs/")
        check(self.client.get("/api/v1/builds/0/"), 404)

    def test_a_post_without_the_final_slash_is_not_redirected(self) -> None:
        check(self.client.post("/api/v1/promotions", {}), 404, "slash")

    def test_other_methods(self) -> None:
        for method in ("put", "patch", "delete"):
            check(getattr(self.client, method)("/api/v1/promotions/"), 405, method.upper())

    def test_other_kinds_of_bodies_and_answers(self) -> None:
        check(self.client.post("/api/v1/promotions/", "a=b", content_type="text/plain"), 415)
        check(self.client.get("/api/v1/services/", headers={"accept": "application/xml"}), 406)
        check(self.client.get("/api/v1/services/?format=xml"), 404)

    def test_json_is_what_one_gets_who_takes_anything(self) -> None:
        for accept in ({}, {"accept": "*/*"}, {"accept": "application/json"}, {"accept": "text/html, */*"}):
            with self.subTest(accept):
                response = self.client.get("/api/v1/services/", headers=accept)
                assert response.headers["Content-Type"] == "application/json"

    def test_bodies_that_are_not_json_or_too_large(self) -> None:
        for body in (b"{", b'{"release": NaN}', b"\xff", b"[" * 5000, b'{"a": "\\ud800"}'):
            with self.subTest(body[:20]):
                response = self.client.post("/api/v1/promotions/", body, content_type="application/json")
                check(response, 400, "not JSON")
        huge = b'"' + b"x" * 70_000 + b'"'
        check(self.client.post("/api/v1/promotions/", huge, content_type="application/json"), 413)

    def test_a_body_that_is_not_an_object(self) -> None:
        for body in (b"[]", b"1", b"null", b'"x"', b""):
            with self.subTest(body):
                response = self.client.post("/api/v1/promotions/", body, content_type="application/json")
                assert check(response, 400)["errors"]

    def test_parameters_that_lists_do_not_know(self) -> None:
        found = check(self.client.get("/api/v1/releases/", {"enviroment": "x", "page": "2"}), 400)
        assert {error["parameter"] for error in found["errors"]} == {"enviroment", "page"}
        assert "digest" in found["errors"][0]["detail"]

    def test_parameters_with_values_that_cannot_be(self) -> None:
        for path_, query in (
            ("releases/", {"build": "x"}),
            ("promotions/", {"status": "sleeping"}),
            ("services/", {"page_size": "0"}),
            ("services/", {"page_size": "-1"}),
            ("services/", {"page_size": "many"}),
            ("releases/", {"digest": "\x00"}),
        ):
            with self.subTest(path=path_, query=query):
                found = check(self.client.get(f"/api/v1/{path_}", query), 400)
                assert [error["parameter"] for error in found["errors"]] == list(query)
        check(self.client.get("/api/v1/services/", {"cursor": "x"}), 404, "cursor")

    @override_settings(ALLOWED_HOSTS=["lockkeeper.example"])
    def test_a_host_that_is_not_ours(self) -> None:
        check(self.client.get("/api/v1/nothing", headers={"host": "evil.example"}), 400)


@override_settings(ROOT_URLCONF="tests.backend.test_api_problems")
class FailureTests(TestCase):
    """What services and the database raise."""

    def get(self, error: Exception, address: str = "/api/fail/"):
        Failing.error = error
        return Client(raise_request_exception=False).get(address)

    def test_domain_errors_have_their_own_status(self) -> None:
        for error, status in ((DomainError, 409), (NotFound, 404), (Invalid, 400), (Forbidden, 403)):
            with self.subTest(error.__name__):
                found = check(self.get(error("Do this instead.")), status, "Do this instead.")
                assert found["title"] == error.title

    def test_what_may_work_later_says_when(self) -> None:
        response = self.get(Unavailable("CodeBuild does not answer.", retry_after=7))
        check(response, 503, "CodeBuild")
        assert response["Retry-After"] == "7"
        response = self.get(Throttled(wait=9))
        check(response, 429)
        assert response["Retry-After"] == "9"

    def test_a_database_that_is_away_is_503(self) -> None:
        response = self.get(OperationalError("server closed the connection"))
        check(response, 503, "database")
        assert response["Retry-After"] == "5"
        assert b"server closed" not in response.content

    def test_a_fault_of_ours_is_logged_and_tells_nothing(self) -> None:
        seen = []
        got_request_exception.connect(lambda **kwargs: seen.append(1), weak=False, dispatch_uid="test")
        self.addCleanup(got_request_exception.disconnect, dispatch_uid="test")
        response = self.get(ZeroDivisionError("secret"))
        check(response, 500)
        assert b"secret" not in response.content
        assert seen

    def test_outside_of_the_api_people_get_pages(self) -> None:
        response = self.get(OperationalError("gone"), "/fail/")
        assert (response.status_code, response["Retry-After"]) == (503, "5")
        assert b"database does not answer" in response.content
        assert self.get(ZeroDivisionError("x"), "/fail/").status_code == 500
        assert Client().get("/nothing-here/").status_code == 404


@pytest.mark.django_db(transaction=True)
def test_a_real_database_that_is_away(settings: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing listening at its address, the API, the documentation and the admin all say 503."""
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")
    client = Client(raise_request_exception=False)
    try:
        answer = client.get("/api/v1/services/", headers={"authorization": "Bearer lk_any"})
        check(answer, 503)
        client.cookies["sessionid"] = "x" * 32
        assert client.get("/admin/").status_code == 503
    finally:
        monkeypatch.undo()
        connection.close()
