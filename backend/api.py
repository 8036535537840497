"""What every endpoint of the REST API shares: parsing, rendering, filters and pages."""

from typing import Any

import orjson
from django_filters.rest_framework import DjangoFilterBackend as BaseFilterBackend
from rest_framework import exceptions, negotiation, pagination, parsers, renderers
from rest_framework.request import Request
from rest_framework.settings import api_settings

from apps.errors import TooLarge
from apps.query import QueryError


class JSONRenderer(renderers.BaseRenderer):
    """JSON by orjson, which writes datetimes and UUIDs itself."""

    media_type = "application/json"
    format = "json"
    charset = None
    render_style = "binary"

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None
    ) -> bytes:
        if data is None:
            return b""
        return to_json(data)


def to_json(data: Any) -> bytes:
    """The bytes that the API sends for ``data``."""
    return orjson.dumps(data, default=str, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS)


class JSONParser(parsers.BaseParser):
    """JSON by orjson, which refuses NaN and absurd nesting; the body is limited in size.

    Django's DATA_UPLOAD_MAX_MEMORY_SIZE does not apply to DRF, which reads the stream itself.
    """

    media_type = "application/json"
    LIMIT = 64 * 1024  # bytes; the largest request there is holds a comment

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        body = stream.read(self.LIMIT + 1)
        if len(body) > self.LIMIT:
            raise TooLarge(f"A request may hold {self.LIMIT} bytes at most.")
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise exceptions.ParseError(f"The body is not JSON: {error}.") from None


class ContentNegotiation(negotiation.DefaultContentNegotiation):
    """Which renderer answers. Whoever takes anything gets the first, without a look at the others."""

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[Any, str]:
        anything = request.META.get("HTTP_ACCEPT", "*/*") == "*/*"
        if anything and not format_suffix and api_settings.URL_FORMAT_OVERRIDE not in request.query_params:
            return renderers[0], renderers[0].media_type
        return super().select_renderer(request, renderers, format_suffix)


class CursorPagination(pagination.CursorPagination):
    """Newest first. A cursor costs the same on every page and needs no COUNT(*)."""

    ordering = "-id"
    page_size_query_param = "page_size"
    max_page_size = 200
    invalid_cursor_message = "This cursor is not one that Lockkeeper gave out; begin without it."

    def get_page_size(self, request: Request) -> int | None:
        given = request.query_params.get(self.page_size_query_param)
        if given is not None and not (given.isascii() and given.isdigit() and int(given[:9]) > 0):
            raise QueryError({"page_size": [f"A number from 1 to {self.max_page_size}."]})
        return super().get_page_size(request)


class FilterBackend(BaseFilterBackend):
    """Refuse query parameters that mean nothing: a misspelt filter must not list everything."""

    def filter_queryset(self, request: Request, queryset: Any, view: Any) -> Any:
        # A filter narrows a list; a single object is named by its address alone.
        if view.lookup_url_kwarg in view.kwargs or view.lookup_field in view.kwargs:
            return queryset
        kind = self.get_filterset_class(view, queryset)
        filters = kind.base_filters.keys() if kind else set()
        known = filters | {"cursor", CursorPagination.page_size_query_param, api_settings.URL_FORMAT_OVERRIDE}
        given = request.query_params.keys()
        if unknown := given - known:
            message = f"Unknown parameter. This list knows {', '.join(sorted(filter(None, known)))}."
            raise QueryError({name: [message] for name in sorted(unknown)})
        # Without a filter there is nothing to check, and the form that checks it is not cheap to make.
        if not given & filters:
            return queryset
        filterset = self.get_filterset(request, queryset, view)
        if not filterset.is_valid():
            raise QueryError(filterset.errors)
        return filterset.qs
