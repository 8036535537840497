"""Endpoints under /api/v1/."""

from rest_framework.routers import SimpleRouter

from apps.promotions.api import EnvironmentRollbackViewSet, PromotionViewSet, RunningComparisonViewSet
from apps.promotions.hold_api import PinViewSet, VetoViewSet
from apps.promotions.override_api import OverrideViewSet
from apps.promotions.quarantine_api import QuarantineViewSet
from apps.promotions.window_api import WindowViewSet

router = SimpleRouter()
router.register("promotions", PromotionViewSet, basename="promotion")
router.register("pins", PinViewSet, basename="pin")
router.register("vetoes", VetoViewSet, basename="veto")
router.register("windows", WindowViewSet, basename="window")
router.register("overrides", OverrideViewSet, basename="override")
router.register("quarantines", QuarantineViewSet, basename="quarantine")
router.register(
    r"environments/(?P<environment>[0-9]+)/comparison",
    RunningComparisonViewSet,
    basename="running-comparison",
)
# The environments themselves are of apps.catalog, which knows nothing of promotions.
router.register("environments", EnvironmentRollbackViewSet, basename="environment")
urlpatterns = router.urls
