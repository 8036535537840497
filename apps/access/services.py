"""Users, service accounts and their tokens.

None of it belongs to one service, so it is logged and not in a ledger (whose chains are one per service);
roles, which do, are recorded by apps.catalog.services.
"""

from collections.abc import Iterable
from datetime import datetime

import structlog
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.access.models import Scope, Token, User
from apps.errors import DomainError, Invalid, NotFound

log = structlog.get_logger(__name__)


def get_user(username: str) -> User:
    """The active user of that name; NotFound otherwise."""
    user = User.objects.filter(username=username, is_active=True).first()
    if user is None:
        raise NotFound(
            f"There is no active user {username!r}. Make one with: manage.py create_user {username}"
        )
    return user


def create_user(
    *,
    username: str,
    password: str | None = None,
    kind: str = User.Kind.PERSON,
    email: str = "",
    is_staff: bool = False,
    is_superuser: bool = False,
) -> tuple[User, bool]:
    """Make a user, or bring the named one up to date; the flag says whether it is new.

    Without a password a new user cannot log in, and an existing one keeps what it has. A service account
    has no password at all. Raises Invalid for a bad name or a password that the validators refuse.
    """
    service = kind == User.Kind.SERVICE
    if service and (password or is_staff or is_superuser):
        raise Invalid(f"{username} is a service account: it has tokens, no password and no admin.")
    with transaction.atomic():
        user = User.objects.select_for_update().filter(username=username).first() or User(username=username)
        created = user.pk is None
        if not created and user.kind != kind:
            raise Invalid(f"{username} exists already as a {user.get_kind_display().lower()}.")
        user.kind = kind
        user.email = email or user.email
        user.is_staff = user.is_staff or is_staff or is_superuser
        user.is_superuser = user.is_superuser or is_superuser
        try:
            if password:
                validate_password(password, user)
                user.set_password(password)
            elif created:
                user.set_unusable_password()
            user.full_clean(exclude=["password"])
        except ValidationError as error:
            raise Invalid(f"User {username!r}: {' '.join(error.messages)}") from error
        user.save()
    log.info("user saved", username=username, created=created, staff=user.is_staff)
    return user, created


def create_token(
    *,
    user: User,
    name: str,
    scopes: Iterable[str],
    services: Iterable[str] | None = None,
    expires_at: datetime | None = None,
) -> tuple[Token, str]:
    """Make a token and return it with its secret, which is kept nowhere and shown this once.

    With ``services`` (slugs) it is good for those alone; apps.catalog.tokens checks that there are such.
    Raises Invalid for an unknown scope, no scope at all, a limit to no service, or an expiry that has passed.
    """
    limit = None if services is None else sorted(set(services))
    wanted = list(dict.fromkeys(scopes))
    known = list(Scope.values)
    if unknown := [scope for scope in wanted if scope not in known]:
        raise Invalid(f"Unknown scope {', '.join(unknown)}: choose from {', '.join(known)}.")
    if not wanted:
        raise Invalid(f"A token needs at least one scope: {', '.join(known)}.")
    if limit == []:
        raise Invalid("A token that is limited to no service is good for nothing: name one, or set no limit.")
    if not name.strip():
        raise Invalid("A token needs a name that tells what it is for.")
    if expires_at is not None and expires_at <= timezone.now():
        raise Invalid(f"The token would have expired already, at {expires_at:%Y-%m-%d %H:%M %Z}.")
    secret = Token.make_secret()
    try:
        with transaction.atomic():
            token = Token.objects.create(
                user=user,
                name=name,
                digest=Token.digest_of(secret),
                hint=secret[: len(Token.PREFIX) + 6],
                scopes=wanted,
                services=limit,
                expires_at=expires_at,
            )
    except IntegrityError as error:
        raise DomainError(
            f"{user.username} already has a token named {name!r}: take another name."
        ) from error
    log.info("token created", username=user.username, token=name, scopes=wanted, services=limit)
    return token, secret


def revoke_token(*, token: Token, by: User | None = None) -> None:
    """End a token at once. Revoking twice keeps the first time."""
    changed = Token.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now())
    token.refresh_from_db()
    if changed:
        log.info("token revoked", token=token.name, user_id=token.user_id, by=by.username if by else None)
