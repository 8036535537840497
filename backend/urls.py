"""Every path of the site; each app owns its own."""

from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView

from apps.admin_base import BoundedAutocomplete
from backend import problems
from backend.schema import DocsView

urlpatterns = [
    path("", include("apps.rollout.urls")),
    path("", RedirectView.as_view(pattern_name="admin:index"), name="home"),
    # Before the admin's own, which would read as long as it takes.
    path("admin/autocomplete/", admin.site.admin_view(BoundedAutocomplete.as_view(admin_site=admin.site))),
    path("admin/", admin.site.urls),
    path("api/v1/", include("backend.api_urls")),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", DocsView.as_view(), name="docs"),
    re_path(r"^api/", problems.api_not_found),
]
handler400 = problems.bad_request
handler404 = problems.not_found
handler500 = problems.server_error
