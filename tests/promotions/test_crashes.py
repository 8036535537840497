"""Three reconcilers, killed at random while CodeDeploy lies: each intent ends with exactly one deployment."""

import random
import time
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db.models import F, Q
from django.utils import timezone

from apps.deployments.models import Deployment, Occupancy
from apps.deployments.services import GRACE, description_of
from apps.gates.services import save_policy
from apps.promotions import describe
from apps.promotions.models import Promotion
from apps.promotions.services import request_promotion
from apps.sandbox.faults import Settings
from tests.factories import make_build, make_environment, make_member, make_release, make_report, make_service
from tests.promotions.test_reconcile_processes import Workers, server, workers  # noqa: F401  # fixtures

pytestmark = [pytest.mark.integration, pytest.mark.django_db(transaction=True)]

WORKERS = 3
PLACES = 20
LIES = Settings(
    seed=20,
    throttled=0.05,
    error_after=0.1,
    cut_after=0.1,
    slow=0.05,
    slow_seconds=0.5,
    listed_after=3,
    described_after=2,
)
# After the last crash: the grace of an intent that was never heard (45 s and the lease), and the work.
ENDS_WITHIN = 180.0


class Traffic:
    """Services with one environment each, and somebody who always wants the next release there."""

    def __init__(self):
        self.places = []
        for number in range(PLACES):
            service = make_service(f"shop-{number}")
            environment = make_environment(service, "staging")
            save_policy(environment=environment, rules=[{"rule": "built_as_defined"}], created_by=None)
            self.places.append((environment, make_member(service, "developer")))

    def ask(self):
        """Ask for a release wherever nothing is asked for."""
        busy = set(waiting().values_list("environment", flat=True))
        for environment, developer in self.places:
            if environment.pk not in busy:
                build = make_build(environment.service)
                make_report(build)
                release = make_release(environment.service, build=build)
                request_promotion(release=release, environment=environment, requested_by=developer)


def assert_each_says_why():
    """Whatever has not ended shows what it waits for: at once, not only after the minute that is promised."""
    related = ("environment__service", "release", "decision", "deployment")
    for promotion in waiting().select_related(*related):
        unmet = [each["sentence"] for each in promotion.decision.findings if each["verdict"] != "pass"]
        assert describe.waits(promotion) or any(unmet), f"{promotion.pk} is {promotion.status} for no reason"


def shorten_the_grace():
    """Of intents that nobody can have heard any more: here answers come and deployments show in seconds."""
    asked = timezone.now() - timedelta(seconds=15)
    unheard = Deployment.objects.filter(status=Deployment.Status.INTENDED, asked_at__lte=asked)
    unheard.update(asked_at=F("asked_at") - GRACE)


def waiting():
    return Promotion.objects.exclude(status__in=Promotion.FINAL)


# An intent that was not heard waits for its grace of 45 s and the lease, which each change has no time for.
@pytest.mark.parametrize(
    ("crashes", "lies", "in_full"),
    [(30, LIES, False), pytest.param(500, replace(LIES, error_before=0.03), True, marks=pytest.mark.full)],
    ids=["30", "500"],
)
def test_every_intent_ends_with_exactly_one_deployment(server, workers, crashes, lies, in_full):  # noqa: F811
    dice = random.Random(crashes)
    traffic = Traffic()
    server.faults.use(lies)
    traffic.ask()
    running = [workers.start() for _ in range(WORKERS)]
    crashed = 0
    while crashed < crashes:
        time.sleep(dice.uniform(0.5, 2))
        victims = [dice.randrange(WORKERS)]
        if dice.random() < 0.4:
            # All at once, about when CodeDeploy makes a deployment: whoever asked does not hear of it.
            server.made.clear()
            server.made.wait(2)
            time.sleep(dice.uniform(0, 0.02))
            victims = list(range(WORKERS))[: crashes - crashed]
        for victim in victims:
            running[victim].kill()
        for victim in victims:
            running[victim].wait()
            running[victim] = workers.start()
        crashed += len(victims)
        traffic.ask()
        assert_each_says_why()

    deadline = time.monotonic() + ENDS_WITHIN
    while waiting().exists():
        assert time.monotonic() < deadline, [describe.waits(each) for each in waiting()]
        time.sleep(0.2)
        assert_each_says_why()
        if not in_full:
            shorten_the_grace()

    made = Counter(each["description"] for each in server.deployments.values())
    intents = {description_of(each): each for each in Deployment.objects.all()}
    assert made == Counter(dict.fromkeys(intents, 1))
    # Each knows its own, and CodeDeploy has had no other.
    for each in server.deployments.values():
        assert intents[each["description"]].codedeploy_id == each["deploymentId"]
    not_succeeded = Promotion.objects.filter(~Q(status=Promotion.Status.SUCCEEDED))
    assert list(not_succeeded.values("status", "reason")) == []
    assert Occupancy.objects.current().count() == PLACES
    for environment, _ in traffic.places:
        newest = environment.promotions.latest("pk")
        assert Occupancy.objects.current().get(environment=environment).release_id == newest.release_id
    for process in running:
        assert process.poll() is None, workers.log.read_text()[-5000:]
