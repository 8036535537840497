"""Endpoints under /api/v1/."""

from rest_framework.routers import SimpleRouter

from apps.catalog.api import EnvironmentViewSet, ServiceViewSet

router = SimpleRouter()
router.register("services", ServiceViewSet, basename="service")
router.register("environments", EnvironmentViewSet, basename="environment")
urlpatterns = router.urls
