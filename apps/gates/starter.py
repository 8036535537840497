"""The policy that a new environment begins with: what hardly any team would go without."""

from typing import Any

from apps.access.models import User
from apps.catalog.models import Environment
from apps.gates.models import Policy
from apps.gates.services import save_policy

# Wherever a release goes: what was built, that its tests are there and pass, and that nobody holds it back.
EVERYWHERE: tuple[dict[str, Any], ...] = (
    {"rule": "built_as_defined"},
    {"rule": "evidence_complete"},
    {"rule": "max_failures", "parameters": {"maximum": 0}},
    {"rule": "not_superseded"},
    {"rule": "not_pinned"},
    {"rule": "not_vetoed"},
)
# Where an environment is promoted from another: it proved itself there, a second person agrees, also to
# whatever goes past this, and knows it where there will be no way back.
DOWNSTREAM: tuple[dict[str, Any], ...] = (
    {"rule": "verified_upstream"},
    {"rule": "approved", "parameters": {"count": 1}},
    {"rule": "way_back", "parameters": {"count": 1}},
    {"rule": "override", "parameters": {"second_person": True}},
)
# For bringing an older release back, at three in the morning: neither a soak nor a window nor a second
# person holds it up, and what it proved then still stands. It has to be able to run on the database,
# and what people hold back on purpose stays held.
ROLLBACK: tuple[dict[str, Any], ...] = (
    {"rule": "built_as_defined"},
    {"rule": "way_back"},
    {"rule": "not_pinned"},
    {"rule": "not_vetoed"},
)


def starter_rules(environment: Environment) -> list[dict[str, Any]]:
    """The rules for an environment by its place in the promotion graph."""
    return [*EVERYWHERE, *(DOWNSTREAM if environment.upstreams.exists() else ())]


def give_starter_policy(*, environment: Environment, by: User | None = None) -> Policy | None:
    """Give an environment that has no policy the one to begin with; None where it has one already."""
    if environment.policies.exists():
        return None
    return save_policy(
        environment=environment, rules=starter_rules(environment), rollback=[*ROLLBACK], created_by=by
    )


def give_starter_rollback(*, environment: Environment, by: User | None = None) -> Policy | None:
    """Give an environment without rules for rollbacks those to begin with; None where it has some."""
    newest = environment.policies.order_by("-version").first()
    if newest is not None and newest.rollback is not None:
        return None
    return save_policy(environment=environment, rollback=[*ROLLBACK], created_by=by)
