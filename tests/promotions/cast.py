"""A service with staging and production, and the people around it."""

from typing import Any

from apps.catalog.models import Environment
from apps.gates.services import save_policy
from apps.promotions.models import Promotion
from apps.promotions.services import request_promotion
from apps.releases.models import Release
from tests.factories import (
    make_build,
    make_environment,
    make_member,
    make_release,
    make_report,
    make_service,
    make_user,
)


class Cast:
    """ann and dan develop, ben and cem approve, olga and omar operate, vic only looks, eve is a stranger."""

    def __init__(self) -> None:
        self.service = make_service("shop")
        self.staging = make_environment(self.service, "staging")
        self.production = make_environment(self.service, "production", position=1, upstreams=(self.staging,))
        self.ann = make_member(self.service, "developer", username="ann")
        self.dan = make_member(self.service, "developer", "approver", username="dan")
        self.ben = make_member(self.service, "approver", username="ben")
        self.cem = make_member(self.service, "approver", username="cem")
        self.olga = make_member(self.service, "operator", username="olga")
        self.omar = make_member(self.service, "operator", username="omar")
        self.vic = make_member(self.service, "viewer", username="vic")
        self.eve = make_user("eve")
        self.policy(self.staging, "built_as_defined")

    def policy(self, environment: Environment, *rules: str | dict[str, Any]) -> None:
        entries = [{"rule": rule} if isinstance(rule, str) else rule for rule in rules]
        save_policy(environment=environment, rules=entries, created_by=None)

    def release(self, **fields: Any) -> Release:
        build = make_build(self.service)
        make_report(build)
        return make_release(self.service, build=build, **fields)

    def request(self, release: Release | None = None, environment: Environment | None = None) -> Promotion:
        return request_promotion(
            release=release or self.release(),
            environment=environment or self.staging,
            requested_by=self.ann,
        )
