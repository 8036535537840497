"""A deployment as its admin page shows it: what failed and the way out, then every host, event and step."""

from datetime import datetime
from typing import Any

from apps.admin_base import LABELS
from apps.deployments.causes import BY_CODE
from apps.deployments.models import Deployment, FlightRecord, FlightWatch, HookEvent, Target
from apps.deployments.services import cause_of_event

# Worst first; within one, by name.
ORDER = {"Failed": 0, "InProgress": 1, "Unknown": 2, "Pending": 3, "Skipped": 4, "Succeeded": 5}
COLOURS = {
    **LABELS,
    "InProgress": "info",
    "applied": "success",
    "by-another": "info",
    "unreadable": "warning",
}


def story(deployment: Deployment) -> dict[str, Any]:
    """What the template needs, by three queries however many hosts there are."""
    targets = {target.pk: target for target in Target.objects.filter(deployment=deployment)}
    events = HookEvent.objects.filter(target__in=targets).select_related("record").order_by("position")
    hosts: dict[int, list[dict[str, Any]]] = {pk: [] for pk in targets}
    for event in events:
        hosts[event.target_id].append(_event(event, targets[event.target_id]))
    shown = sorted(
        (_host(targets[pk], rows) for pk, rows in hosts.items()),
        key=lambda host: (ORDER.get(host["status"], 2), host["name"]),
    )
    rows = [event for host in shown for event in host["events"]]
    failures = [event for event in rows if event["status"] == "Failed"]
    watch = FlightWatch.objects.filter(deployment=deployment).first()
    return {
        "deployment": deployment,
        "status_colour": COLOURS.get(deployment.status, ""),
        "hosts": shown,
        "failures": sorted(failures, key=lambda event: (event["finished_at"] is None, event["finished_at"]))[
            :3
        ],
        "more_failures": max(len(failures) - 3, 0),
        "migrations": [_migrations(event) for event in rows if event["migrations"]],
        "unread": watch.problem if watch else "",
        "awaited": watch is not None and not watch.over,
    }


def _host(target: Target, events: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "pk": target.pk,
        "name": target.target_id,
        "status": target.status,
        "colour": COLOURS.get(target.status, ""),
        "events": events,
        "silent": not any(event["record"] for event in events),
        "open": target.status != "Succeeded",
    }


def _event(event: HookEvent, target: Target) -> dict[str, Any]:
    record: FlightRecord | None = getattr(event, "record", None)
    document = record.document if record else {}
    last = next((line.strip() for line in reversed(event.log_tail.splitlines()) if line.strip()), "")
    steps = [_step(step, document) for step in document.get("steps", [])]
    cause = cause_of_event(event)
    return {
        "name": event.name,
        "host": target.target_id,
        "status": event.status,
        "colour": COLOURS.get(event.status, ""),
        "seconds": _seconds(event.started_at, event.finished_at, record),
        "finished_at": event.finished_at,
        "code": event.error_code if event.error_code != "Success" else "",
        "message": event.message if event.status == "Failed" else "",
        "reason": document.get("error") or last,
        # CodeDeploy does not call it failed yet, and the host knows already.
        "cause": cause or (BY_CODE.get(record.cause) if record and record.result == "failed" else None),
        # The host's own lines are not cut to CodeDeploy's 2,048 characters.
        "log": "\n".join(document.get("tail", [])) or event.log_tail,
        "record": record,
        "record_colour": COLOURS.get(record.result, "") if record else "",
        "document": document,
        "steps": steps,
        "migrations": document.get("migrations"),
        "open": event.status == "Failed",
    }


def _step(step: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    whole = max(document.get("seconds") or 0, 0.001)
    share = min(100, round(100 * (step["seconds"] or 0) / whole))
    return {**step, "colour": COLOURS.get(step["result"], ""), "share": share}


def _migrations(event: dict[str, Any]) -> dict[str, Any]:
    migrations = event["migrations"]
    return {**migrations, "told_by": event["host"], "colour": COLOURS.get(migrations["result"], "")}


def _seconds(
    started: datetime | None, finished: datetime | None, record: FlightRecord | None
) -> float | None:
    """The hook's own time where the host told it; CodeDeploy's has the agent's pauses in it."""
    if record is not None and record.seconds is not None:
        return record.seconds
    return (finished - started).total_seconds() if started and finished else None
