"""The REST API, version 1: each app brings its own endpoints."""

from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("apps.catalog.urls")),
    path("", include("apps.builds.urls")),
    path("", include("apps.releases.urls")),
    path("", include("apps.deployments.urls")),
    path("", include("apps.gates.urls")),
    path("", include("apps.promotions.urls")),
]
