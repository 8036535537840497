"""What a token may be used for at the REST API."""

from typing import TYPE_CHECKING, Any

from django.http import HttpRequest
from rest_framework.exceptions import NotAuthenticated, PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from apps.access.models import Scope, Token, User

if TYPE_CHECKING:
    # DRF imports this module, named in the settings, while it defines APIView.
    from rest_framework.views import APIView


def acting_user(request: Request | HttpRequest) -> User:
    """Who makes the request; NotAuthenticated (401) for somebody unknown."""
    if not isinstance(request.user, User):
        raise NotAuthenticated
    return request.user


def require_scope(request: Request, *scopes: Scope) -> None:
    """Raise PermissionDenied unless the request's token has one of ``scopes``.

    A request without a token comes from a signed-in session, which no scope limits; only the
    schema and the documentation accept those.
    """
    token = request.auth
    if isinstance(token, Token) and not set(token.scopes) & set(scopes):
        needed = " or ".join(scope.value for scope in scopes)
        raise PermissionDenied(f"This token lacks the scope it needs: {needed}.")


class HasScope(BasePermission):
    """``read`` for reading; for the rest what the view's ``required_scopes`` says of the action.

    An action that it does not name is refused, so a new endpoint cannot be open by mistake.
    """

    def has_permission(self, request: Request, view: "APIView") -> bool:
        if request.method in SAFE_METHODS:
            require_scope(request, Scope.READ)
            return True
        required: dict[str, Any] = getattr(view, "required_scopes", {})
        scopes = required.get(getattr(view, "action", None) or "")
        if scopes is None:
            # An unknown method has no action either; DRF answers it with 405 after this.
            return getattr(view, "action", None) is None
        require_scope(request, *scopes)
        return True
