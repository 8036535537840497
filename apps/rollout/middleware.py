"""Health checks are answered before everything else."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase
from django.urls import Resolver404, resolve


class HealthMiddleware:
    """First of all middleware: load balancers ask by the host's address and over plain HTTP.

    That address is in nobody's ALLOWED_HOSTS, and a redirect to HTTPS would be taken for ill health.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        try:
            view = resolve(request.path_info, "apps.rollout.urls").func
        except Resolver404:
            return self.get_response(request)
        response: HttpResponseBase = view(request)
        return response
