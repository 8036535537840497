"""People, service accounts, and the tokens that programs carry."""

import hashlib
import secrets
from datetime import datetime
from functools import cache

from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.db import connections, models
from django.db.models import Q
from django.utils import timezone


class User(AbstractUser):
    """Someone who acts: a person, or a service account that only holds tokens."""

    class Kind(models.TextChoices):
        PERSON = "person"
        SERVICE = "service", "service account"

    kind = models.CharField(max_length=10, choices=Kind, default=Kind.PERSON)

    # The slugs of the services to which the token of this request is limited; None without such a limit.
    # It is no column: authentication sets it on the request's user, and visibility and roles
    # (apps.catalog) ask for it before anything else, of superusers too.
    token_services: frozenset[str] | None = None

    class Meta(AbstractUser.Meta):
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=["person", "service"]), name="user_kind_known")
        ]

    def reaches(self, service: str) -> bool:
        """Whether the request's token, if there is one, is good for the service of that slug."""
        return self.token_services is None or service in self.token_services


class Scope(models.TextChoices):
    """What a token may be used for; its user's roles limit it further."""

    READ = "read"
    CI = "ci", "register builds, ask for promotions"
    APPROVE = "approve", "approve and reject, veto"
    OPERATE = "operate", "cancel what others asked for, override, pin, veto"


class TokenManager(models.Manager["Token"]):
    def by_digest(self, digest: str) -> "Token | None":
        """The token of that digest with its user, usable or not; None where there is no such token.

        Every request asks for one, and Django's query for it costs ten times the CPU.
        """
        with connections[self.db].cursor() as cursor:
            cursor.execute(_token_sql(), [digest])
            found = cursor.fetchone()
        if found is None:
            return None
        own = _columns(Token)
        token = Token.from_db(self.db, own, found[: len(own)])
        token.user = User.from_db(self.db, _columns(User), found[len(own) :])
        return token


@cache
def _columns(model: type[models.Model]) -> list[str]:
    return [field.attname for field in model._meta.concrete_fields]


@cache
def _token_sql() -> str:
    told = [f"{each}.{name}" for each, model in (("token", Token), ("its", User)) for name in _columns(model)]
    return (
        f"SELECT {', '.join(told)} FROM access_token token "  # noqa: S608  # own columns
        "JOIN access_user its ON its.id = token.user_id WHERE token.digest = %s"
    )


class Token(models.Model):
    """A bearer token: only the SHA-256 of its secret is kept; the secret is shown once."""

    PREFIX = "lk_"

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=100)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    hint = models.CharField(
        max_length=12, editable=False, help_text="The first characters, to tell tokens apart."
    )
    scopes = ArrayField(models.CharField(max_length=10, choices=Scope), default=list)
    # Slugs, which never change, and no rows of a relation: a limit must not vanish with what it names.
    services = ArrayField(
        models.CharField(max_length=60),
        null=True,
        blank=True,
        help_text="The only services that it is good for; without, all that its user sees.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = TokenManager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [models.UniqueConstraint(fields=["user", "name"], name="token_name_once_per_user")]

    def __str__(self) -> str:
        return f"{self.name} ({self.hint}…)"

    def is_usable(self, at: datetime | None = None) -> bool:
        """Whether it is neither revoked nor expired, and its user active."""
        expired = self.expires_at is not None and self.expires_at <= (at or timezone.now())
        return self.revoked_at is None and not expired and self.user.is_active

    @classmethod
    def make_secret(cls) -> str:
        """A new random secret of 256 bits, with a prefix that secret scanners can find."""
        return cls.PREFIX + secrets.token_urlsafe(32)

    @staticmethod
    def digest_of(secret: str) -> str:
        """What is stored of a secret. It is random, so a plain hash is enough (no salt, no stretching)."""
        return hashlib.sha256(secret.encode()).hexdigest()
