"""Tokens in the admin."""

import re

from django.test import TestCase
from django.urls import reverse

from apps.access.models import Token, User
from tests.clients import signed_in
from tests.factories import make_member, make_service, make_token, make_user

ADD = reverse("admin:access_token_add")
LIST = reverse("admin:access_token_changelist")


class TokenAdminTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.root = make_user("root", is_superuser=True, is_staff=True)
        cls.staff = make_user("ann", is_staff=True)
        cls.pipeline = make_user("jenkins", kind=User.Kind.SERVICE)

    def add(self, user: User, owner: User, **data: object):
        form = {"user": owner.pk, "name": "laptop", "scopes": ["read", "ci"], **data}
        return signed_in(user).post(ADD, form, follow=True)

    def test_the_secret_is_shown_once_and_works(self) -> None:
        response = self.add(self.root, self.pipeline)
        (secret,) = re.findall(r"<code>(lk_[\w-]+)</code>", response.content.decode())
        token = Token.objects.get()
        assert token.digest == Token.digest_of(secret)
        assert (token.user, token.scopes) == (self.pipeline, ["read", "ci"])
        answer = self.client.get("/api/v1/services/", headers={"authorization": f"Bearer {secret}"})
        assert answer.status_code == 200
        for page in (LIST, reverse("admin:access_token_change", args=[token.pk])):
            content = signed_in(self.root).get(page).content.decode()
            assert secret not in content
            assert token.digest not in content

    def test_staff_make_tokens_for_themselves_only(self) -> None:
        self.add(self.staff, self.staff)
        assert Token.objects.get().user == self.staff
        self.assertContains(self.add(self.staff, self.root, name="theirs"), "Select a valid choice")
        assert Token.objects.count() == 1

    def test_what_the_service_refuses_is_a_message(self) -> None:
        self.add(self.staff, self.staff)
        self.assertContains(self.add(self.staff, self.staff), "already")
        past = {"expires_at_0": "2020-01-01", "expires_at_1": "00:00:00", "name": "old"}
        self.assertContains(self.add(self.staff, self.staff, **past), "would have expired already")
        assert Token.objects.count() == 1

    def test_a_token_may_be_limited_to_services(self) -> None:
        web, blog = make_service("web"), make_service("blog")
        ben = make_member(web, "developer", username="ben", is_staff=True)
        self.assertNotContains(signed_in(ben).get(ADD), "blog")
        self.assertContains(self.add(ben, ben, limited_to=[blog.pk]), "Select a valid choice")
        self.assertContains(self.add(self.root, ben, limited_to=[blog.pk]), "ben has no role in blog")
        assert not Token.objects.exists()
        self.add(ben, ben, limited_to=[web.pk])
        token = Token.objects.get()
        assert token.services == ["web"]
        page = signed_in(ben).get(reverse("admin:access_token_change", args=[token.pk]))
        self.assertContains(page, "web")

    def test_a_token_without_a_scope_is_refused(self) -> None:
        self.assertContains(self.add(self.staff, self.staff, scopes=[]), "This field is required")
        assert not Token.objects.exists()

    def test_it_is_revoked_by_its_button_and_from_the_list(self) -> None:
        first, _ = make_token(self.staff)
        second, _ = make_token(self.staff)
        client = signed_in(self.staff)
        page = reverse("admin:access_token_change", args=[first.pk])
        button = page.replace("change/", "revoke/")
        client.get(button)
        first.refresh_from_db()
        assert first.revoked_at is None, "a link must not change anything"
        client.post(button, {"_form_submitted": "on"})
        client.post(LIST, {"action": "revoke_selected", "_selected_action": [second.pk]})
        for token in (first, second):
            token.refresh_from_db()
            assert token.revoked_at is not None

    def test_nobody_revokes_what_is_not_theirs(self) -> None:
        token, _ = make_token(self.root)
        client = signed_in(self.staff)
        client.post(LIST, {"action": "revoke_selected", "_selected_action": [token.pk]})
        button = reverse("admin:access_token_change", args=[token.pk]).replace("change/", "revoke/")
        client.post(button, {"_form_submitted": "on"})
        token.refresh_from_db()
        assert token.revoked_at is None
