"""One build as BatchGetBuilds tells it."""

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

INITIATOR = "sandbox"


@dataclass
class PhaseRecord:
    """One phase of one build; `status` is empty while it runs and for COMPLETED."""

    type: str
    start: datetime
    end: datetime | None = None
    status: str = ""
    code: str = ""
    message: str = ""

    def describe(self) -> dict[str, Any]:
        """Return BatchGetBuilds' BuildPhase."""
        told: dict[str, Any] = {"phaseType": self.type, "startTime": self.start}
        if self.end:
            told |= {
                "phaseStatus": self.status,
                "endTime": self.end,
                "durationInSeconds": int((self.end - self.start).total_seconds()),
            }
            if self.type not in ("SUBMITTED", "QUEUED"):
                told["contexts"] = [{"statusCode": self.code, "message": self.message}]
        return told


@dataclass
class Build:
    """A build: its settings, fixed when it starts, and how far it is.

    `settings` are the project's members after the overrides, as StartBuild resolved them. The build's
    thread writes, requests read: fields are replaced, never changed in place, but for `phases`, which grows.
    """

    id: str
    arn: str
    number: int
    project_name: str
    settings: dict[str, Any]
    folder: Path
    start: datetime
    phases: list[PhaseRecord] = field(default_factory=list)
    status: str = "IN_PROGRESS"
    end: datetime | None = None
    artifacts: dict[str, Any] = field(default_factory=dict)
    secondary_artifacts: list[dict[str, Any]] = field(default_factory=list)
    exported: dict[str, str] = field(default_factory=dict)
    report_arns: list[str] = field(default_factory=list)
    log_location: dict[str, str] = field(default_factory=dict)
    stop_requested: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    @property
    def uuid(self) -> str:
        return self.id.partition(":")[2]

    @property
    def log_path(self) -> Path:
        return self.folder / "log.txt"

    def begin(self, phase: str) -> PhaseRecord:
        """Enter a phase, now."""
        record = PhaseRecord(phase, datetime.now(UTC))
        self.phases.append(record)
        return record

    def describe(self) -> dict[str, Any]:
        """Return BatchGetBuilds' Build."""
        settings = self.settings
        phases = list(self.phases)
        logs_config = settings.get("logsConfig") or {}
        logs = {
            "deepLink": self.log_path.as_uri(),
            "cloudWatchLogs": logs_config.get("cloudWatchLogs") or {"status": "DISABLED"},
            "s3Logs": logs_config.get("s3Logs") or {"status": "DISABLED", "encryptionDisabled": False},
        }
        return {
            "id": self.id,
            "arn": self.arn,
            "buildNumber": self.number,
            "startTime": self.start,
            "endTime": self.end,
            "currentPhase": phases[-1].type if phases else "SUBMITTED",
            "buildStatus": self.status,
            "sourceVersion": settings.get("sourceVersion"),
            "projectName": self.project_name,
            "phases": [phase.describe() for phase in phases],
            "source": settings["source"],
            "secondarySources": settings.get("secondarySources", []),
            "secondarySourceVersions": settings.get("secondarySourceVersions", []),
            "artifacts": self.artifacts or {"location": ""},
            "secondaryArtifacts": list(self.secondary_artifacts),
            "cache": settings["cache"],
            "environment": settings["environment"],
            "serviceRole": settings["serviceRole"],
            "logs": logs | self.log_location,
            "timeoutInMinutes": settings["timeoutInMinutes"],
            "queuedTimeoutInMinutes": settings["queuedTimeoutInMinutes"],
            "buildComplete": self.end is not None,
            "initiator": INITIATOR,
            "encryptionKey": settings["encryptionKey"],
            "exportedEnvironmentVariables": [
                {"name": name, "value": value} for name, value in self.exported.items()
            ],
            "reportArns": list(self.report_arns),
        }
