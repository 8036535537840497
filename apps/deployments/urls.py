"""Endpoints under /api/v1/."""

from rest_framework.routers import SimpleRouter

from apps.deployments.api import DeploymentViewSet

router = SimpleRouter()
router.register("deployments", DeploymentViewSet, basename="deployment")
urlpatterns = router.urls
