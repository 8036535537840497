"""Health checks, for load balancers and for the hooks: no log-in, no cache."""

from django.core.exceptions import ImproperlyConfigured
from django.db import InterfaceError, OperationalError, connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apps.rollout.plan import unapplied_expand
from apps.rollout.version import current_release


@never_cache
@require_safe
def healthz(_request: HttpRequest) -> JsonResponse:
    """The process answers. It asks nothing else: with the database away, no host need be replaced."""
    return JsonResponse({"status": "ok"})


@never_cache
@require_safe
def readyz(_request: HttpRequest) -> JsonResponse:
    """The process can do its work: the database answers and has every expand migration of this release."""
    try:
        missing = unapplied_expand(connection)
    except (OperationalError, InterfaceError):
        return _unready("PostgreSQL does not answer.")
    except ImproperlyConfigured:
        return _unready("DATABASE_URL is not set.")
    if missing:
        shown = ", ".join(f"{app}.{name}" for app, name in missing[:3]) + (", …" if len(missing) > 3 else "")
        return _unready(f"{len(missing)} migrations are not applied: {shown}")
    return JsonResponse({"status": "ready"})


@never_cache
@require_safe
def version(_request: HttpRequest) -> JsonResponse:
    """Which release answers; the digest is that of its bundle, null in a checkout."""
    release = current_release()
    return JsonResponse({"digest": release.digest, "version": release.version, "commit": release.commit})


def _unready(reason: str) -> JsonResponse:
    return JsonResponse({"status": "unready", "reason": reason}, status=503, headers={"Retry-After": "5"})
