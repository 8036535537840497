"""Endpoints under /api/v1/."""

from rest_framework.routers import SimpleRouter

from apps.builds.api import BuildViewSet
from apps.builds.case_api import TestCaseViewSet
from apps.builds.flaky_api import CaseStateViewSet
from apps.builds.report_api import BuildReportViewSet, ReportViewSet, TestResultViewSet
from apps.builds.trend_api import TrendViewSet

router = SimpleRouter()
router.register("builds", BuildViewSet, basename="build")
router.register(r"builds/(?P<build>[0-9]+)/reports", BuildReportViewSet, basename="build-report")
router.register(r"builds/(?P<build>[0-9]+)/results", TestResultViewSet, basename="test-result")
router.register("case-states", CaseStateViewSet, basename="case-state")
router.register("reports", ReportViewSet, basename="report")
router.register("cases", TestCaseViewSet, basename="test-case")
router.register("trends", TrendViewSet, basename="trend")
urlpatterns = router.urls
