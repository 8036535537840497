"""Users in the admin."""

from django.test import TestCase
from django.urls import reverse

from apps.access.models import User
from tests.clients import signed_in
from tests.factories import make_user


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
