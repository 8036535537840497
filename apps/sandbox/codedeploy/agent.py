"""The CodeDeploy agent of one host: carries a deployment out, event by event."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from apps.sandbox.hosts.environment import SYSTEM_PATH
from apps.sandbox.hosts.host import Host
from apps.sandbox.hosts.supervisor import HOST_VARIABLE
from apps.specs.appspec import AppSpec, AppSpecError, parse_appspec

from . import traffic
from .bundle import BundleError, download, unpack
from .hooks import Aborted, HookRunner, ScriptError
from .installer import Installer, InstallError
from .state import Deployment, LifecycleEvent, Target, now

ARCHIVES_TO_RETAIN = 5
_APPSPEC = "appspec.yml"
# Their scripts are those of the revision that was installed last, whether or not its deployment succeeded.
_FROM_PREVIOUS = frozenset({"BeforeBlockTraffic", "AfterBlockTraffic", "ApplicationStop"})


class Agent:
    """Carries out one deployment on one host."""

    def __init__(
        self,
        host: Host,
        deployment: Deployment,
        s3: Any,
        environment: Mapping[str, str],
        closing: Callable[[], bool],
    ) -> None:
        """environment stands for what a real host's hooks get from its instance profile."""
        self._host = host
        self._deployment = deployment
        self._s3 = s3
        self._closing = closing
        agent_root = host.layout.root / "opt/codedeploy-agent/deployment-root"
        self._group = agent_root / deployment.group.id
        self._folder = self._group / deployment.id
        self._instructions = agent_root / "deployment-instructions"
        self._last_install = self._instructions / f"{deployment.group.id}_last_successful_install"
        self._hooks = HookRunner(self._hook_environment(environment), self._alive)

    def deploy(self, target: Target) -> None:
        """Run every lifecycle event; the target's status says how it ended."""
        target.set_status("InProgress")
        for event in target.events:
            if self._deployment.stop.is_set():
                target.skip_rest()
                target.set_status("Skipped")
                return
            if not self._carry_out(event, target) and not (
                event.name in _FROM_PREVIOUS and self._deployment.ignore_stop_failures
            ):
                target.skip_rest()
                target.set_status("Failed")
                return
        target.set_status("Succeeded")

    def _carry_out(self, event: LifecycleEvent, target: Target) -> bool:
        event.status, event.start = "InProgress", now()
        target.updated = event.start
        try:
            if not self._alive():
                raise Aborted
            tail = self._run(event.name, target)
            event.diagnostics = _diagnostics("Success", message="Succeeded", log=tail)
            status = "Succeeded"
        except ScriptError as error:
            event.diagnostics = _diagnostics(error.code, error.script, str(error), error.log)
            status = "Failed"
        except Aborted:
            message = f"The host {self._host.name} is down: its agent does not answer."
            event.diagnostics = _diagnostics("UnknownError", message=message)
            status = "Failed"
        except (AppSpecError, BundleError, InstallError, traffic.TrafficError) as error:
            event.diagnostics = _diagnostics("UnknownError", message=str(error))
            status = "Failed"
        except OSError as error:
            message = f"{error.strerror} - {error.filename}"
            event.diagnostics = _diagnostics("UnknownError", message=message)
            status = "Failed"
        event.end = now()
        event.status = status
        target.updated = event.end
        return status == "Succeeded"

    def _run(self, event: str, target: Target) -> str:
        if event in {"BlockTraffic", "AllowTraffic"}:
            # The service's own, not the agent's.
            act = traffic.block if event == "BlockTraffic" else traffic.allow
            act(self._deployment.target_groups, target.instance.name, self._alive)
            if not self._alive():
                raise Aborted
            return ""
        self._folder.mkdir(parents=True, exist_ok=True)
        if event == "DownloadBundle":
            self._download()
            return ""
        if event == "Install":
            self._install()
            return ""
        folder = self._previous() if event in _FROM_PREVIOUS else self._folder
        if folder is None:
            return ""  # the first deployment
        return self._hooks.run(
            event, self._appspec(folder), folder / "deployment-archive", self._folder / "logs"
        )

    def _download(self) -> None:
        self._remove_old_archives()
        bundle = self._folder / "bundle.tar"  # whatever its type is
        download(self._s3, self._deployment.location, bundle)
        archive = self._folder / "deployment-archive"
        shutil.rmtree(archive, ignore_errors=True)
        unpack(bundle, self._deployment.location.get("bundleType"), archive)
        self._instructions.mkdir(parents=True, exist_ok=True)

    def _install(self) -> None:
        appspec = self._appspec(self._folder)
        if unknown := appspec.unknown_events():
            listed = ", ".join(f'"{name}"' for name in unknown)
            raise AppSpecError(f"appspec.yml file contains unknown lifecycle events: [{listed}]")
        installer = Installer(
            self._host.layout.root, self._instructions, self._deployment.group.id, self._alive
        )
        installer.install(self._folder / "deployment-archive", appspec, self._deployment.file_exists_behavior)
        self._last_install.write_text(str(self._folder))

    def _appspec(self, folder: Path) -> AppSpec:
        archive = folder / "deployment-archive"
        try:
            text = (archive / _APPSPEC).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            raise AppSpecError(
                "The CodeDeploy agent did not find an AppSpec file within the unpacked revision directory at "
                f'revision-relative path "{_APPSPEC}". The revision was unpacked to directory "{archive}", '
                f'and the AppSpec file was expected but not found at path "{archive / _APPSPEC}".'
            ) from None
        appspec = parse_appspec(text)
        if appspec.os != "linux":
            raise AppSpecError(f"The AppSpec file is for {appspec.os}; this host runs Linux.")
        return appspec

    def _previous(self) -> Path | None:
        return Path(self._last_install.read_text()) if self._last_install.exists() else None

    def _remove_old_archives(self) -> None:
        others = [folder for folder in self._group.iterdir() if folder != self._folder]
        extra = len(others) - ARCHIVES_TO_RETAIN + 1
        if extra > 0:
            # Never the one whose ApplicationStop may still run.
            removable = [folder for folder in others if folder != self._previous()]
            for folder in sorted(removable, key=lambda each: each.stat().st_mtime)[:extra]:
                shutil.rmtree(folder)

    def _hook_environment(self, given: Mapping[str, str]) -> dict[str, str]:
        deployment = self._deployment
        location = deployment.location
        bundle = {
            "BUNDLE_BUCKET": location["bucket"],
            "BUNDLE_KEY": location["key"],
            "BUNDLE_VERSION": location.get("version"),
            "BUNDLE_ETAG": location.get("eTag"),
        }
        root = self._host.layout.root
        return {
            "PATH": f"{self._host.layout.bin}:{SYSTEM_PATH}:/sbin:/bin",
            "HOME": str(root / "root"),
            "LANG": "C.UTF-8",
            **given,
            # By this a host that goes down finds what its hooks have left running.
            HOST_VARIABLE: str(root),
            "DEPLOYMENT_ID": deployment.id,
            "APPLICATION_NAME": deployment.application,
            "DEPLOYMENT_GROUP_NAME": deployment.group_name,
            "DEPLOYMENT_GROUP_ID": deployment.group.id,
            **{name: value for name, value in bundle.items() if value},
        }

    def _alive(self) -> bool:
        return self._host.running and not self._closing()


def fail(target: Target, message: str) -> None:
    """Let a target fail before anything ran on it."""
    first = target.events[0]
    first.start = first.end = now()
    first.diagnostics = _diagnostics("UnknownError", message=message)
    first.status = "Failed"
    target.skip_rest()
    target.set_status("Failed")


def _diagnostics(code: str, script: str = "", message: str = "", log: str = "") -> dict[str, str]:
    return {"errorCode": code, "scriptName": script, "message": message, "logTail": log}
