"""What a build would change of what an environment runs: its tests beside those of what is there now."""

from apps.builds.compare import SLOWER, Comparison, Slower, compare_builds
from apps.builds.models import Build
from apps.catalog.models import Environment
from apps.deployments.models import Occupancy
from apps.errors import DomainError, Invalid


def running_build(environment: Environment) -> Build:
    """The build of the release that an environment runs; DomainError where nothing runs."""
    current = Occupancy.objects.current().filter(environment=environment)
    occupancy = current.select_related("release__build").defer("release__manifest").first()
    if occupancy is None:
        raise DomainError(f"Nothing runs in {environment.slug}, so there is nothing to compare with.")
    return occupancy.release.build


def compare_with_running(
    *, build: Build, environment: Environment, than: Slower = SLOWER
) -> tuple[Build, Comparison]:
    """The build that an environment runs, and what this one's tests changed since.

    Invalid for an environment of another service, DomainError where nothing runs.
    """
    if build.service_id != environment.service_id:
        raise Invalid(f"Build {build.pk} is of another service than {environment.slug}.")
    before = running_build(environment)
    return before, compare_builds(before=before, after=build, than=than)
