"""Endpoints under /api/v1/."""

from rest_framework.routers import SimpleRouter

from apps.builds.api import BuildReportViewSet, BuildViewSet, TestResultViewSet
from apps.builds.flaky_api import CaseStateViewSet

router = SimpleRouter()
router.register("builds", BuildViewSet, basename="build")
router.register(r"builds/(?P<build>[0-9]+)/reports", BuildReportViewSet, basename="build-report")
router.register(r"builds/(?P<build>[0-9]+)/results", TestResultViewSet, basename="test-result")
router.register("case-states", CaseStateViewSet, basename="case-state")
urlpatterns = router.urls
