"""Endpoints under /api/v1/."""

from rest_framework.routers import SimpleRouter

from apps.gates.api import DecisionViewSet

router = SimpleRouter()
router.register("decisions", DecisionViewSet, basename="decision")
urlpatterns = router.urls
