"""A service with a row in every table, all of them marked: for tests of who sees what."""

from typing import Any

from django.db.models import Model
from django.utils import timezone

from apps.builds.models import ReportFile
from apps.catalog.models import Membership
from apps.ledger.services import record
from apps.promotions.models import Approval
from apps.rollout.models import MigrationRun
from tests.factories import (
    LONG_AGO,
    make_build,
    make_coverage,
    make_decision,
    make_deployment,
    make_environment,
    make_group,
    make_member,
    make_occupancy,
    make_override,
    make_pin,
    make_policy,
    make_promotion,
    make_quarantine,
    make_record,
    make_release,
    make_report,
    make_result,
    make_service,
    make_standing,
    make_state,
    make_target,
    make_token,
    make_user,
    make_veto,
    make_window,
)


class World:
    """The rows of one service. Whatever text of theirs a page may show holds ``mark``."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self.rows: dict[type[Model], Any] = {}
        service = self.service = self.keep(make_service(mark, repository=f"https://git.example/{mark}"))
        # Asked for everything, and has left the service since.
        asker = self.asker = self.keep(make_user(f"{mark}-asker"))
        approver = make_member(service, "approver", username=f"{mark}-approver")
        self.keep(Membership.objects.get(user=approver))
        self.keep(make_token(asker, services=[mark], expires_at=None)[0])
        self.keep(make_group(service, f"{mark}-managers", approver))
        # Nothing was asked for there.
        staging = self.staging = make_environment(service, f"{mark}-staging")
        environment = self.keep(make_environment(service, f"{mark}-production", upstreams=(staging,)))
        build = self.keep(make_build(service, requested_by=asker, log_url=f"https://logs.example/{mark}"))
        report = self.keep(make_report(build, name=f"{mark}-unit", failed=1))
        make_coverage(build, name=f"{mark}-coverage", files={f"{mark}/a.py": (1, 2)})
        result = self.keep(make_result(report, name=f"test_{mark}", message=f"{mark} is not right"))
        self.keep(result.case)
        known = make_state(make_result(report, name=f"test_{mark}_known"))
        self.keep(make_quarantine(known.case, by=approver, reason=f"{mark} knows"))
        self.keep(make_state(result))
        self.keep(
            ReportFile.objects.create(
                report=report, bucket=service.bucket, key=f"{mark}.xml", size=1, sha256="0" * 64
            )
        )
        # Something to go back to.
        before = make_deployment(environment, make_release(service, version=f"0.0.9+{mark}"))
        make_occupancy(before, since=LONG_AGO, until=LONG_AGO)
        release = self.keep(make_release(build=build, version=f"0.1.0+{mark}"))
        self.keep(make_policy(environment, [{"rule": "approved", "parameters": {}}], created_by=asker))
        decision = self.keep(make_decision(environment, release, "waiting_human", facts={"service": mark}))
        running = self.keep(make_deployment(environment, release, status="running"))
        make_promotion(environment, release, status="deploying", deployment=running, requested_by=asker)
        waiting = {"requested_by": asker, "decision": decision, "reason": f"{mark} waits"}
        promotion = self.keep(make_promotion(environment, release, **waiting))
        self.keep(Approval.objects.create(promotion=promotion, user=approver, verdict="approved"))
        self.keep(make_override(promotion, by=asker, justification=f"{mark} is down"))
        self.keep(make_pin(environment, release, by=asker, reason=f"{mark} stays"))
        self.keep(make_veto(release, environment, by=asker, reason=f"{mark} goes nowhere"))
        target = self.keep(make_target(running, f"{mark}-host-1", "BeforeInstall", "AfterInstall"))
        event = self.keep(target.events.get(name="AfterInstall"))
        self.keep(make_record(event))
        self.keep(make_occupancy(running))
        self.keep(make_standing(environment, release, f"{mark} is not right any more."))
        self.keep(make_window(environment, name=f"{mark}-night"))
        fields = {"chain": mark, "action": "service.registered", "subject": f"service:{mark}"}
        self.keep(record(**fields, actor=asker, data={"name": mark}))
        now = timezone.now()
        self.keep(
            MigrationRun.objects.create(
                host=f"{mark}-host-1", result="applied", started_at=now, finished_at=now
            )
        )

    def keep(self, row: Any) -> Any:
        """Have the row found by its model."""
        self.rows[type(row)] = row
        return row

    def value(self, model: type[Model], path: str) -> Any:
        """What a lookup such as ``environment__service__slug`` finds from the world's row of the model."""
        value: Any = self.rows[model]
        for step in path.split("__"):
            value = getattr(value, step)
            if hasattr(value, "get_queryset"):
                value = value.get()
        return value.pk if isinstance(value, Model) else value
