"""Clients of the REST API and of the admin site."""

from typing import Any

from django.test import Client
from django.utils import timezone

from apps.access.models import Token, User
from tests.factories import make_token


class ApiClient(Client):
    """Sends a user's token, and bodies as JSON."""

    def __init__(self, user: User, *scopes: str, **fields: Any) -> None:
        self.token, secret = make_token(user, *scopes, **fields)
        # Used a moment ago, so that no request of a test writes it (and counts a query more).
        Token.objects.filter(pk=self.token.pk).update(last_used_at=timezone.now())
        super().__init__(headers={"authorization": f"Bearer {secret}"})

    def post(self, path: str, data: Any = None, **options: Any) -> Any:
        options.setdefault("content_type", "application/json")
        return super().post(path, {} if data is None else data, **options)


def signed_in(user: User) -> Client:
    """A client with a session, as a browser has after logging in to the admin."""
    client = Client()
    client.force_login(user)
    return client
