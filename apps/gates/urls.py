"""Endpoints under /api/v1/."""

from rest_framework.routers import SimpleRouter

from apps.gates.api import DecisionViewSet, RuleViewSet

router = SimpleRouter()
router.register("rules", RuleViewSet, basename="rule")
router.register("decisions", DecisionViewSet, basename="decision")
urlpatterns = router.urls
