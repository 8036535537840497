"""Endpoints under /api/v1/."""

from rest_framework.routers import SimpleRouter

from apps.promotions.api import PromotionViewSet

router = SimpleRouter()
router.register("promotions", PromotionViewSet, basename="promotion")
urlpatterns = router.urls
