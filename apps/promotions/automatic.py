"""Ask by itself for what an environment's upstreams have proved, where ``auto_promote`` says so.

A release is asked for by itself at most once in an environment, and only while it is newer than whatever
has been asked for there or has come there. So nothing comes back by itself after a rollback, a rejection or
a cancellation: somebody asks again, or the next release comes.
"""

from collections import defaultdict
from collections.abc import Iterable

from django.db import transaction
from django.db.models import Max

from apps.access.models import User
from apps.access.services import create_user
from apps.catalog.models import Environment, Upstream
from apps.deployments.models import Deployment, Occupancy
from apps.promotions.models import Promotion
from apps.promotions.services import write_request
from apps.releases.models import Release

# In its name: it holds no role, no password and no token, and the ledger shows that nobody else asked.
USERNAME = "auto-promotion"


def due() -> list[tuple[Environment, Release]]:
    """Environments that ask by themselves, with what each has to ask for; as many queries for all as for one.

    Without upstreams it is the service's newest release. Else it runs in an upstream now, and where all
    upstreams count it has been in each of them. Whether it may rise is for the gate to say.
    """
    environments = list(
        Environment.objects.filter(auto_promote=True)
        .select_related("service")
        .order_by("service", "position", "slug")
    )
    if not environments:
        return []
    sources: dict[int, set[int]] = defaultdict(set)
    for edge in Upstream.objects.filter(environment__in=environments):
        sources[edge.environment_id].add(edge.source_id)
    upstreams = set().union(*sources.values())
    stays = Occupancy.objects.filter(environment__in=upstreams)
    runs = dict(stays.current().values_list("environment", "release"))
    been = set(stays.filter(release__in=set(runs.values())).values_list("environment", "release"))
    services = {environment.service_id for environment in environments}
    registered = Release.objects.filter(service__in=services).order_by().values("service")
    newest = dict(registered.annotate(newest=Max("pk")).values_list("service", "newest"))
    seen = _newest_seen(environment.pk for environment in environments)
    wanted = {}
    for environment in environments:
        of = sources[environment.pk]
        if of:
            proved = {runs[source] for source in of if source in runs}
            if environment.upstream_mode == Environment.UpstreamMode.ALL:
                proved = {release for release in proved if all((source, release) in been for source in of)}
            candidate = max(proved, default=0)
        else:
            candidate = newest.get(environment.service_id, 0)
        if candidate > seen.get(environment.pk, 0):
            wanted[environment] = candidate
    releases = Release.objects.defer("manifest", "steps").in_bulk(set(wanted.values()))
    return [(environment, releases[release]) for environment, release in wanted.items()]


def ask_by_itself(*, environment: Environment, release: Release) -> Promotion | None:
    """Ask for a release in the service account's name; None where something as new was asked for or came.

    Raises DomainError where the account's name is a person's.
    """
    with transaction.atomic():
        # Of several workers one asks: the next to have the lock sees what was asked for.
        Environment.objects.select_for_update(no_key=True).get(pk=environment.pk)
        if release.pk <= _newest_seen([environment.pk]).get(environment.pk, 0):
            return None
        return write_request(
            release=release, environment=environment, requested_by=_account(), automatic=True
        )


def _newest_seen(environments: Iterable[int]) -> dict[int, int]:
    """By environment, the newest release that was ever asked for there, told to CodeDeploy or there."""
    keys = list(environments)
    found: dict[int, int] = {}
    for model in (Promotion, Deployment, Occupancy):
        rows = model._default_manager.filter(environment__in=keys, release__isnull=False)
        for place, release in (
            rows.order_by()
            .values("environment")
            .annotate(newest=Max("release"))
            .values_list("environment", "newest")
        ):
            found[place] = max(found.get(place, 0), release)
    return found


def _account() -> User:
    user = User.objects.filter(username=USERNAME, kind=User.Kind.SERVICE).first()
    return user or create_user(username=USERNAME, kind=User.Kind.SERVICE)[0]
