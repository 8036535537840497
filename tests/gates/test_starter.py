"""What a new environment begins with."""

from django.test import TestCase
from django.urls import reverse

from apps.catalog.models import Environment
from apps.gates.starter import give_starter_policy
from apps.ledger.models import Entry
from tests.clients import signed_in
from tests.factories import (
    make_environment,
    make_policy,
    make_service,
    make_user,
)


def names(policy):
    return [rule["rule"] for rule in policy.rules]


class StarterTests(TestCase):
    def test_the_first_environment_asks_for_evidence_and_the_next_for_people_too(self):
        staging = make_environment()
        production = make_environment(staging.service, "production", upstreams=(staging,))
        everywhere = ["built_as_defined", "evidence_complete", "max_failures"]
        everywhere += ["not_superseded", "not_pinned", "not_vetoed"]
        assert names(give_starter_policy(environment=staging)) == everywhere
        assert names(give_starter_policy(environment=production)) == [
            *everywhere,
            "verified_upstream",
            "approved",
            "way_back",
            "override",
        ]

    def test_a_policy_that_is_there_stays(self):
        staging = make_environment()
        policy = make_policy(staging)
        assert give_starter_policy(environment=staging) is None
        assert list(staging.policies.all()) == [policy]

    def test_an_environment_made_in_the_admin_has_it(self):
        root = make_user("root", is_superuser=True, is_staff=True)
        staging = make_environment(make_service("web"))
        form = {
            "service": staging.service_id,
            "slug": "production",
            "position": 1,
            "application": "web",
            "deployment_group": "production",
            "upstream_mode": "all",
            "promoted_from": [staging.pk],
        }
        client = signed_in(root)
        response = client.post(reverse("admin:catalog_environment_add"), form, follow=True)
        self.assertContains(response, "the policy to begin with: built_as_defined")
        policy = Environment.objects.get(slug="production").policies.get()
        assert names(policy)[-3:] == ["approved", "way_back", "override"]
        assert Entry.objects.get(subject=f"policy:{policy.pk}").actor == root
