"""What `manage.py check --deploy` asks beyond Django: a release that fails it is not started."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register


@register(Tags.security, deploy=True)
def database_is_named(**kwargs: Any) -> list[CheckMessage]:
    """Without DATABASE_URL everything loads, and the first request fails."""
    # Django fills a missing engine in with its dummy.
    if settings.DATABASES["default"].get("ENGINE", "dummy").endswith("postgresql"):
        return []
    hint = "Set it to postgresql://user:password@host:port/name."
    return [Error("DATABASE_URL is not set.", hint=hint, id="backend.E001")]
