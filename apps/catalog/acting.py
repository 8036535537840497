"""What the endpoints have in common whose rows people act on: holds, overrides, quarantines, promotions …"""

from typing import Any

from rest_framework import mixins, status, viewsets
from rest_framework.generics import get_object_or_404
from rest_framework.response import Response
from rest_framework.reverse import reverse

from apps.api import CommentSerializer, RowsMixin, read_body
from apps.catalog.visibility import VisibleMixin, visible


class ActedOnViewSet(
    RowsMixin, VisibleMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Any]
):
    """Rows to read; an action takes one as its model, has a service change it, and answers the row anew."""

    # What services ask of the model, for select_related.
    related: tuple[str, ...] = ()

    def named(self) -> Any:
        """The one that the address names, as its model; a 404 where the user sees none."""
        models = self.queryset.model._default_manager.select_related(*self.related)
        return get_object_or_404(visible(models, self.request.user, self.service_path), pk=self.kwargs["pk"])

    def comment(self) -> str:
        """What the caller says of the action; perhaps nothing."""
        return str(read_body(self.request, CommentSerializer)["comment"])

    def answer(self, pk: int, *, made: bool = False) -> Response:
        """The row as it is after a write: with 201 and its address if it was made just now."""
        row = self.get_queryset().get(pk=pk)
        self.nest([row])
        data = self.get_serializer(row).data
        if not made:
            return Response(data)
        headers = {"Location": reverse(f"{self.basename}-detail", args=[pk], request=self.request)}
        return Response(data, status=status.HTTP_201_CREATED, headers=headers)
