"""Endpoints under /api/v1/."""

from rest_framework.routers import SimpleRouter

from apps.builds.api import BuildViewSet, TestResultViewSet

router = SimpleRouter()
router.register("builds", BuildViewSet, basename="build")
router.register(r"builds/(?P<build>[0-9]+)/results", TestResultViewSet, basename="test-result")
urlpatterns = router.urls
