"""What the endpoints of all apps have in common."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from hashlib import blake2b
from typing import Any, ClassVar, TypeVar

import orjson
from django.db.models import QuerySet
from django.http import HttpResponseBase
from django.utils.cache import get_conditional_response
from django.utils.http import quote_etag
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from apps.as_json import as_object, as_written
from apps.compiled import CompiledColumns
from apps.query import QueryError

COMMENT_LIMIT = 2000  # characters


class StrictSerializer(serializers.Serializer[Any]):
    """Input in which an unknown field is an error: a misspelt name must not be silently ignored."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping) and (unknown := data.keys() - self.fields.keys()):
            known = ", ".join(self.fields) or "no field"
            raise serializers.ValidationError(
                {str(name): [f"Unknown field. This request knows {known}."] for name in sorted(unknown)}
            )
        return super().to_internal_value(data)


class CommentSerializer(StrictSerializer):
    """A word on what is done, which may be left out."""

    comment = serializers.CharField(required=False, allow_blank=True, default="", max_length=COMMENT_LIMIT)


def read_query(request: Request, kind: type[serializers.Serializer[Any]]) -> dict[str, Any]:
    """The query parameters as a serializer reads them, for answers that are no list; QueryError otherwise."""
    query = kind(data=request.query_params)
    if not query.is_valid():
        raise QueryError(query.errors)
    return query.validated_data


def read_body(request: Request, kind: type[serializers.Serializer[Any]], *, partial: bool = False) -> Any:
    """The body as a serializer reads it; ValidationError otherwise. ``partial``: fields may be left out."""
    body = kind(data=request.data, partial=partial)
    body.is_valid(raise_exception=True)
    return body.validated_data


class Representation(serializers.Serializer[Any]):
    """Output, made of a row of a ``.values()`` query. The fields declare it for OpenAPI.

    Models, and DRF's own conversion field by field, cost several times as much for a page of 50.
    tests/backend/test_api_schema.py checks that fields and answers agree.
    """

    # What it needs of a row, for ``.values()``, and which of it are expressions.
    columns: ClassVar[tuple[str, ...]] = ()
    annotations: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def rows(cls, queryset: QuerySet[Any, Any], *more: str) -> QuerySet[Any, dict[str, Any]]:
        """What it needs of a queryset's rows, and columns that the caller needs."""
        annotated: Any = queryset.annotate(**cls.annotations)
        rows: QuerySet[Any, dict[str, Any]] = annotated.values(*cls.columns, *more)
        return rows

    @classmethod
    def of(cls, row: dict[str, Any]) -> Any:
        """What the API says of a row. One that depends on the request adds that in to_representation."""
        # Each class builds its own; DRF's would convert field by field, and nobody would notice.
        raise NotImplementedError

    def to_representation(self, row: dict[str, Any]) -> Any:
        return self.of(row)


class Written(Representation):
    """A representation that PostgreSQL writes whole, as ``told``: see ``written``."""

    columns: ClassVar[tuple[str, ...]] = ("id", "told")

    @classmethod
    def of(cls, row: dict[str, Any]) -> dict[str, Any]:
        """What PostgreSQL wrote of one row. A class below may have more to say, but not in a list."""
        told: dict[str, Any] = orjson.loads(orjson.dumps(row["told"]))
        return told

    def to_representation(self, row: dict[str, Any]) -> Any:
        # In a list as it is, for orjson to copy; of one alone, DRF makes a dictionary.
        return row["told"] if self.parent else self.of(row)


W = TypeVar("W", bound=type[Written])


def written(**given: Any) -> Callable[[W], W]:
    """Have PostgreSQL write a class's fields, each from its ``source`` or the expression ``given`` for it.

    A class below inherits what is told, and adds fields, columns and annotations of its own.
    """

    def write(kind: W) -> W:
        kind.annotations = {**kind.annotations, "told": as_written(as_object(kind, **given))}
        return kind

    return write


def below(
    rows: Sequence[dict[str, Any]], name: str, children: QuerySet[Any, Any], parent: str
) -> list[dict[str, Any]]:
    """Give each row its ``children`` as a list under ``name``, by one query; return all of them.

    ``parent`` is the children's column that holds the row's id, and must be among their values.
    """
    by_id: dict[Any, list[dict[str, Any]]] = {row["id"]: row.setdefault(name, []) for row in rows}
    found = list(children.filter(**{f"{parent}__in": by_id})) if by_id else []
    for child in found:
        by_id[child[parent]].append(child)
    return found


@cache
def rows_of(
    queryset: QuerySet[Any, Any], representation: type[Representation]
) -> QuerySet[Any, dict[str, Any]]:
    """What a representation needs of a queryset's rows, to be copied by each request.

    The queryset has to be there for good, since what is compiled of it is kept.
    """
    return CompiledColumns(representation.rows(queryset)).of(queryset)


class RowsMixin(GenericViewSet[Any]):
    """A view set of rows instead of models; ``nest`` brings what hangs below them."""

    queryset: Any

    def nest(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add to each row what has rows of its own, with a fixed number of queries."""

    def get_queryset(self) -> Any:
        representation: Any = self.get_serializer_class()
        self.queryset = rows_of(type(self).queryset, representation)
        return super().get_queryset()

    def paginate_queryset(self, queryset: Any) -> Any:
        page: Any = super().paginate_queryset(queryset)
        self.nest(page or [])
        return page

    def get_object(self) -> Any:
        row = super().get_object()
        self.nest([row])
        return row


class Polled:
    """A view set's ``retrieve`` for things that clients wait for: ETag, 304 and Retry-After.

    The ETag is a hash of the representation, so it changes exactly when the answer does.
    """

    def retry_after(self, row: dict[str, Any]) -> int | None:
        """In how many seconds it is worth asking again; None when it is final."""
        # Only the view set knows; a default would have clients poll for ever, or not at all.
        raise NotImplementedError

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        row: dict[str, Any] = self.get_object()  # type: ignore[attr-defined]  # from GenericAPIView
        data = self.get_serializer(row).data  # type: ignore[attr-defined]  # likewise
        renderer: Any = self.get_renderers()[0]  # type: ignore[attr-defined]  # likewise
        etag = quote_etag(blake2b(renderer.render(data), digest_size=16).hexdigest())
        full = Response(data)
        response = get_conditional_response(request._request, etag=etag, response=full) or full
        response["ETag"] = etag
        if seconds := self.retry_after(row):
            response["Retry-After"] = str(seconds)
        return response
