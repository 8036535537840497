"""Every error as problem details (RFC 9457) under /api/, and as a page elsewhere."""

import sys
from http import HTTPStatus
from typing import Any

import structlog
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.response import TemplateResponse
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler as drf_exception_handler

from apps.errors import DomainError, Unavailable
from apps.query import QueryError
from backend.api import JSONRenderer, to_json

CONTENT_TYPE = "application/problem+json"
DATABASE_AWAY = "The database does not answer. Try again; if it stays so, look at /readyz."
RETRY_AFTER = 5  # seconds
log = structlog.get_logger(__name__)


class DomainProblem(exceptions.APIException):
    """A DomainError on its way to the client."""

    def __init__(self, error: DomainError) -> None:
        super().__init__(str(error))
        self.status_code = error.status
        self.title = error.title
        if isinstance(error, Unavailable):
            self.wait = error.retry_after  # DRF's handler writes Retry-After from it


def problem(status: int, detail: str, *, title: str = "") -> dict[str, Any]:
    """Problem details (RFC 9457); the title is the status's own phrase unless given."""
    title = title or HTTPStatus(status).phrase
    return {"type": "about:blank", "title": title, "status": status, "detail": detail}


def flatten(detail: Any, path: str = "") -> list[tuple[str, str]]:
    """DRF's nested validation errors as (path, message) pairs; the path is a JSON pointer's tail."""
    if isinstance(detail, dict):
        return [
            pair
            for key, value in detail.items()
            for pair in flatten(value, path if key == "non_field_errors" else f"{path}/{key}")
        ]
    if isinstance(detail, list):
        return [
            pair
            for index, value in enumerate(detail)
            for pair in flatten(value, path if isinstance(value, str) else f"{path}/{index}")
        ]
    return [(path, str(detail))]


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Answer errors as problem details (RFC 9457); DRF still rolls the transaction back."""
    if isinstance(exc, OperationalError | InterfaceError):
        log.warning("database away", error=str(exc))
        exc = Unavailable(DATABASE_AWAY, retry_after=RETRY_AFTER)
    if isinstance(exc, DomainError):
        exc = DomainProblem(exc)
    response = drf_exception_handler(exc, context)
    if response is None:
        return None
    title = getattr(exc, "title", "")
    if isinstance(exc, QueryError):
        data = problem(response.status_code, "Some query parameters are unknown or wrong; see errors.")
        data["errors"] = [
            {"parameter": path.removeprefix("/"), "detail": message} for path, message in flatten(exc.detail)
        ]
    elif isinstance(exc, exceptions.ValidationError):
        data = problem(response.status_code, "Some fields are missing, unknown or wrong; see errors.")
        data["errors"] = [{"pointer": f"#{path}", "detail": message} for path, message in flatten(exc.detail)]
    else:
        data = problem(response.status_code, str(getattr(exc, "detail", exc)), title=title)
    response.data = data
    response.content_type = CONTENT_TYPE
    # Views that render something else (the documentation, the schema) answer errors as JSON too.
    if request := context.get("request"):
        request.accepted_renderer, request.accepted_media_type = JSONRenderer(), JSONRenderer.media_type
    return response


def problem_response(status: int, detail: str) -> HttpResponse:
    """Problem details outside of DRF."""
    return HttpResponse(to_json(problem(status, detail)), status=status, content_type=CONTENT_TYPE)


@csrf_exempt
def api_not_found(request: HttpRequest) -> HttpResponse:
    """Whatever is not an endpoint.

    It is a view and not only ``handler404``, because Django would redirect a POST whose path lacks
    its final slash, and most clients follow that with a GET.
    """
    hint = "" if request.path.endswith("/") else " Paths end with a slash."
    return problem_response(404, f"There is no {request.path} here; /api/docs/ lists what there is.{hint}")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """``handler404``."""
    if request.path.startswith("/api/"):
        return problem_response(404, "There is nothing here.")
    return defaults.page_not_found(request, exception)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """``handler400``: a Host header that is not allowed, a malformed request."""
    if request.path.startswith("/api/"):
        return problem_response(400, "The request is malformed or its Host header is not in ALLOWED_HOSTS.")
    return defaults.bad_request(request, exception)


def server_error(request: HttpRequest) -> HttpResponseBase:
    """``handler500``: a database that is away is a 503; anything else is a fault of ours, and is logged."""
    away = isinstance(sys.exc_info()[1], OperationalError | InterfaceError)
    status = 503 if away else 500
    response: HttpResponseBase
    if request.path.startswith("/api/"):
        detail = DATABASE_AWAY if away else "Lockkeeper failed; its log says why."
        response = problem_response(status, detail)
    elif away:
        response = TemplateResponse(request, "503.html", status=status).render()
    else:
        response = defaults.server_error(request)
    if away:
        response["Retry-After"] = str(RETRY_AFTER)
    return response
