"""Users and tokens in the admin."""

import re

from django.test import TestCase
from django.urls import reverse

from apps.access.models import Token, User
from tests.clients import signed_in
from tests.factories import make_token, make_user

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


class UserAdminTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.root = make_user("root", is_superuser=True, is_staff=True)

    def setUp(self) -> None:
        self.client = signed_in(self.root)

    def test_a_user_is_added_with_a_password(self) -> None:
        secret = "a-long-and-winding-phrase"
        form = {"username": "eve", "usable_password": "true", "password1": secret, "password2": secret}
        response = self.client.post(reverse("admin:access_user_add"), form)
        assert response.status_code == 302, response.context["adminform"].form.errors
        assert User.objects.get(username="eve").check_password(secret)

    def test_nobody_is_deleted(self) -> None:
        user = make_user("gone")
        page = reverse("admin:access_user_delete", args=[user.pk])
        assert self.client.post(page, {"post": "yes"}).status_code == 403
        assert User.objects.filter(pk=user.pk).exists()

    def test_a_hash_is_not_shown_whole(self) -> None:
        page = reverse("admin:access_user_change", args=[self.root.pk])
        self.assertNotContains(self.client.get(page), self.root.password)
