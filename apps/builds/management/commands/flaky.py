"""List the test cases of a service that are flaky, broken or quarantined."""

import json
from datetime import datetime
from typing import Any

from django.core.management.base import CommandParser

from apps.builds.flaky import rebuild_states
from apps.builds.flaky_api import CaseStateSerializer, Shown
from apps.builds.models import CaseState, ReportGroup
from apps.builds.tell import printable
from apps.catalog.services import get_service
from apps.commands import DomainCommand

ROW = "{:<12}{:>6}  {:>8}  {:<17}{:<20}  {}"


class Command(DomainCommand):
    help = (
        "List the test cases of SERVICE that are flaky, broken or quarantined, the newest first: state, "
        "score (which part of the runs differ from the one before), failures and runs in the window, since "
        "when, id, report group and name."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("service", metavar="SERVICE")
        parser.add_argument("--state", choices=Shown.values, help="Only those in this state.")
        parser.add_argument(
            "--limit", type=int, default=100, metavar="N", help="At most so many (%(default)s)."
        )
        parser.add_argument("--json", action="store_true", help="Print one JSON object per case and line.")
        parser.add_argument(
            "--rebuild",
            action="store_true",
            help="Judge all cases anew before, from the outcomes that are kept. Only needed after an upgrade "
            "that changed what flaky means.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        service = get_service(options["service"])
        if options["rebuild"]:
            for group in ReportGroup.objects.filter(service=service):
                rebuild_states(group=group)
        states = CaseState.objects.filter(service=service)
        states = states.shown_as(options["state"]) if options["state"] else states.not_healthy()
        limit = max(options["limit"], 0)
        found = [CaseStateSerializer.of(row) for row in CaseStateSerializer.rows(states)[:limit]]
        if options["json"]:
            for each in found:
                self.stdout.write(json.dumps(each, ensure_ascii=False))
            return
        if not found:
            which = options["state"] or "flaky, broken or quarantined"
            self.stdout.write(f"No test case of {service.slug} is {which}.")
            return
        self.stdout.write(ROW.format("STATE", "SCORE", "FAILED", "SINCE", "CASE", "REPORT AND TEST"))
        for each in found:
            self._tell(each)
        if len(found) == limit and states.count() > limit:
            self.stdout.write(f"… and {states.count() - limit:,} more: --limit shows more of them.")

    def _tell(self, case: dict[str, Any]) -> None:
        score = "-" if case["score"] is None else f"{case['score']:.2f}"
        name = f"{case['class_name']}::{case['name']}" if case["class_name"] else case["name"]
        failed = f"{case['failures']}/{case['runs']}"
        since = f"{datetime.fromisoformat(case['since']):%Y-%m-%d %H:%M}"
        test = printable(f"{case['report']}  {name}")
        self.stdout.write(ROW.format(case["state"], score, failed, since, case["case"], test))
        if quarantine := case["quarantine"]:
            until = f"{datetime.fromisoformat(quarantine['until']):%Y-%m-%d %H:%M} UTC"
            reason = printable(quarantine["reason"])
            self.stdout.write(f"{'':<12}by {quarantine['by']} until {until}: {reason}")
