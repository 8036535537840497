"""Bearer tokens at the REST API."""

from datetime import timedelta

from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from apps.access.models import Token, User


class TokenAuthentication(BaseAuthentication):
    """``Authorization: Bearer lk_…``; the token becomes ``request.auth``."""

    # last_used_at is for people; writing it on every poll would cost a write per request.
    LAST_USED_PRECISION = timedelta(minutes=1)

    def authenticate(self, request: Request) -> tuple[User, Token] | None:
        scheme, _, secret = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        digest = Token.digest_of(secret.decode("latin-1").strip())
        now = timezone.now()
        token = Token.objects.by_digest(digest)
        if token is None or not token.is_usable(now):
            raise AuthenticationFailed("This token is unknown, expired or revoked.")
        if token.last_used_at is None or now - token.last_used_at > self.LAST_USED_PRECISION:
            Token.objects.filter(pk=token.pk).update(last_used_at=now)
        if token.services is not None:
            token.user.token_services = frozenset(token.services)
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"
