"""Health and version. Without a final slash: load balancers do not follow redirects."""

from django.urls import path

from apps.rollout import views

urlpatterns = [
    path("healthz", views.healthz, name="healthz"),
    path("readyz", views.readyz, name="readyz"),
    path("version", views.version, name="version"),
]
