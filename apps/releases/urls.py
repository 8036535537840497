"""Endpoints under /api/v1/."""

from rest_framework.routers import SimpleRouter

from apps.releases.api import ReleaseViewSet

router = SimpleRouter()
router.register("releases", ReleaseViewSet, basename="release")
urlpatterns = router.urls
