"""Run one build: its phases in CodeBuild's order, each with its time, outcome and log.

https://docs.aws.amazon.com/codebuild/latest/userguide/view-build-details-phases.html

INSTALL or PRE_BUILD failing ends the build; POST_BUILD runs whenever BUILD ran, and UPLOAD_ARTIFACTS after
it, unless a failed phase says `on-failure: ABORT`. A build with a failed phase is FAILED, also where
`on-failure: CONTINUE` let it go on: AWS does not say, and this is the reading that hides nothing.
"""

import gzip
import logging
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from botocore.exceptions import BotoCoreError, ClientError

from apps.sandbox.codebuild.artifacts import artifact_key, upload_artifacts
from apps.sandbox.codebuild.build import INITIATOR, Build, PhaseRecord
from apps.sandbox.codebuild.cache import cache_store, restore, save
from apps.sandbox.codebuild.environment import base_environment, codebuild_variables
from apps.sandbox.codebuild.files import BaseDirectoryError, remove_tree, select_files
from apps.sandbox.codebuild.queue import BuildQueue
from apps.sandbox.codebuild.reports import Report, ReportStore, fill_report
from apps.sandbox.codebuild.shell import BuildShell, Interrupted
from apps.sandbox.codebuild.source import SourceError, download_source, read_buildspec, split_location
from apps.sandbox.codebuild.support import UnsupportedError, check_supported
from apps.sandbox.runtime import Runtime
from apps.specs.buildspec import (
    PHASES,
    Artifacts,
    Buildspec,
    BuildspecError,
    Phase,
    ReportSpec,
    parse_buildspec,
)

logger = logging.getLogger(__name__)


class PhaseFailed(Exception):
    """A phase failed: its status code and message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class BuildRunner:
    """Runs one build in the calling thread."""

    def __init__(self, runtime: Runtime, reports: ReportStore, queue: BuildQueue, build: Build) -> None:
        self.runtime, self.reports, self.queue, self.build = runtime, reports, queue, build
        self.s3 = runtime.client("s3")
        self.source_dir = build.folder / "src"
        self.deadline = math.inf  # set once the build has left the queue
        self.spec = Buildspec(version="0.2")
        self.cache = cache_store(build.settings["cache"], build.project_name, runtime.state_dir, self.s3)
        self.opened: list[tuple[ReportSpec, Report]] = []
        self.shell: BuildShell | None = None
        self.shell_path = "/bin/sh"
        self.log_stream: IO[bytes]
        self.failed = False

    def run(self) -> None:
        """Run the build to its end, whatever happens."""
        build = self.build
        status = "SUCCEEDED"
        temporary = Path(tempfile.mkdtemp(prefix="cb-"))  # short: sockets below it have 108 bytes
        try:
            build.folder.mkdir(parents=True)
            with build.log_path.open("ab") as self.log_stream:
                try:
                    self._phases(temporary)
                except Interrupted as interrupted:
                    status = interrupted.status
                except PhaseFailed:
                    self.failed = True
                except Exception:
                    logger.exception("build %s", build.id)
                    status = "FAULT"
                if self.failed and status == "SUCCEEDED":
                    status = "FAILED"
                self._finalize()
        except OSError:
            logger.exception("build %s has no log", build.id)
            status = "FAULT"
        finally:
            try:
                self._close_shell()
                for scratch in (temporary, *self._folders()):
                    remove_tree(scratch)
            finally:
                self.queue.leave(build.id)
                # Whatever went wrong, nobody waits for this build for ever.
                build.begin("COMPLETED")
                build.status = status
                build.end = datetime.now(UTC)

    def _phases(self, temporary: Path) -> None:
        settings, minute = self.build.settings, self.runtime.builds.minute
        with self._phase("SUBMITTED"):
            pass
        with self._phase("QUEUED"):
            seconds = minute * settings["queuedTimeoutInMinutes"]
            self.queue.enter(self.build.id, seconds, self.build.stop_requested)
        self.deadline = time.monotonic() + minute * settings["timeoutInMinutes"]
        with self._phase("PROVISIONING"):
            for folder in (self.source_dir, self.build.folder / "home"):
                folder.mkdir()
        with self._phase("DOWNLOAD_SOURCE"):
            env = self._download(temporary)
            if self.cache:
                restore(self.cache, self.source_dir, temporary, self._log)
        try:
            self._start_shell(env)
            if not self._commands():
                return
        finally:
            self._close_shell()
        if self.cache and self.spec.cache.paths and not self.failed:
            save(self.cache, self.spec.cache.paths, self.source_dir, temporary, self._log)
        with self._phase("UPLOAD_ARTIFACTS"):
            self._upload(temporary)

    @contextmanager
    def _phase(self, name: str) -> Iterator[PhaseRecord]:
        """Record a phase: its end, its status, and why it failed."""
        record = self.build.begin(name)
        if name not in ("SUBMITTED", "QUEUED"):
            self._log(f"Entering phase {name}")
        status = "FAULT"
        try:
            if self.build.stop_requested.is_set():
                raise Interrupted("STOPPED")
            if time.monotonic() > self.deadline:
                raise Interrupted("TIMED_OUT")
            yield record
            status = "FAILED" if record.code else "SUCCEEDED"
        except PhaseFailed as failure:
            record.code, record.message, status = failure.code, failure.message, "FAILED"
            raise
        except Interrupted as interrupted:
            status = interrupted.status
            if status == "TIMED_OUT":
                setting = "queuedTimeoutInMinutes" if name == "QUEUED" else "timeoutInMinutes"
                record.code = "BUILD_TIMED_OUT"
                record.message = f"Build has timed out after {self.build.settings[setting]} minutes."
            raise
        except Exception as error:
            record.code, record.message = "INTERNAL_SERVICE_ERROR", f"{type(error).__name__}: {error}"
            raise
        finally:
            record.status = status
            record.end = datetime.now(UTC)
            if name not in ("SUBMITTED", "QUEUED"):
                self._log(f"Phase complete: {name} State: {status}")
                self._log(f"Phase context status code: {record.code} Message: {record.message}")

    def _download(self, temporary: Path) -> dict[str, str]:
        """Get source and buildspec, open the reports; return the build's environment."""
        source = self.build.settings["source"]
        try:
            if source["type"] == "S3":
                version = self.build.settings.get("sourceVersion")
                archive = temporary / "source.zip"
                download_source(self.s3, source["location"], version, archive, self.source_dir)
            self._download_secondary(temporary)
            text = read_buildspec(source.get("buildspec"), self.source_dir, self.s3)
            self.spec = parse_buildspec(text)
            notes = check_supported(self.spec)
        except SourceError as error:
            raise PhaseFailed(error.code, str(error)) from error
        except BuildspecError as error:
            raise PhaseFailed("YAML_FILE_ERROR", str(error)) from error
        except UnsupportedError as error:
            raise PhaseFailed("CLIENT_ERROR", f"The sandbox does not support {error}") from error
        self.shell_path = shutil.which(self.spec.shell, path="/bin:/usr/bin") or ""
        if not self.shell_path:
            raise PhaseFailed("CLIENT_ERROR", f"this machine has no {self.spec.shell} in /bin or /usr/bin")
        for note in notes:
            self._log(f"Note: {note}")
        env = self._environment(temporary)
        for spec in self.spec.reports:
            try:
                report = self.reports.open_report(spec, self.build.project_name, self.build.arn)
            except KeyError as error:
                raise PhaseFailed("CLIENT_ERROR", f"report group {spec.group} does not exist") from error
            self.opened.append((spec, report))
        self.build.report_arns = [report.arn for _, report in self.opened]
        return env

    def _download_secondary(self, temporary: Path) -> None:
        settings = self.build.settings
        versions = {
            each["sourceIdentifier"]: each["sourceVersion"]
            for each in settings.get("secondarySourceVersions", [])
        }
        for source in settings.get("secondarySources", []):
            name = source["sourceIdentifier"]
            folder = self._secondary_dir(name)
            folder.mkdir()
            archive = temporary / "secondary.zip"
            download_source(
                self.s3,
                source["location"],
                versions.get(name),
                archive,
                folder,
                what=f"secondary source {name}",
            )

    def _folders(self) -> list[Path]:
        """What a build has beside its log."""
        secondary = self.build.settings.get("secondarySources", [])
        return [
            self.source_dir,
            self.build.folder / "home",
            self.build.folder / "control",
            *(self._secondary_dir(source["sourceIdentifier"]) for source in secondary),
        ]

    def _secondary_dir(self, name: str) -> Path:
        return self.build.folder / f"src_{name}"

    def _environment(self, temporary: Path) -> dict[str, str]:
        """Variables in rising precedence: CodeBuild's, the buildspec's, the project's and StartBuild's."""
        build, settings = self.build, self.build.settings
        env = base_environment(os.environ, build.folder / "home", temporary)
        env |= codebuild_variables(
            self.runtime,
            build_id=build.id,
            arn=build.arn,
            number=build.number,
            source_dir=self.source_dir,
            source_version=settings.get("sourceVersion"),
            source_location=settings["source"].get("location", ""),
            initiator=INITIATOR,
            image=settings["environment"]["image"],
            start_milliseconds=int(build.start.timestamp() * 1000),
        )
        for source in settings.get("secondarySources", []):
            name = source["sourceIdentifier"]
            env[f"CODEBUILD_SRC_DIR_{name}"] = str(self._secondary_dir(name))
        # CodeBuild's own cannot be set, only thought to be: lint_buildspec warns of that.
        given = self.spec.variables.items()
        env |= {name: value for name, value in given if not name.startswith("CODEBUILD_")}
        for name, parameter in self.spec.parameter_store.items():
            env[name] = self._parameter(parameter)
        for variable in settings["environment"].get("environmentVariables", []):
            stored = variable.get("type") == "PARAMETER_STORE"
            env[variable["name"]] = self._parameter(variable["value"]) if stored else variable["value"]
        return env

    def _parameter(self, name: str) -> str:
        try:
            answer = self.runtime.client("ssm").get_parameter(Name=name, WithDecryption=True)
        except (ClientError, BotoCoreError) as error:
            raise PhaseFailed(
                "Decrypted Variables Error", f"parameter {name} cannot be read: {error}"
            ) from error
        return str(answer["Parameter"]["Value"])

    def _start_shell(self, env: dict[str, str]) -> None:
        self.shell = BuildShell(
            self.shell_path,
            control=self.build.folder / "control",
            cwd=self.source_dir,
            env=env,
            output=self.log_stream,
            stopped=self.build.stop_requested,
            deadline=self.deadline,
        )

    def _commands(self) -> bool:
        """Run the four phases of commands; return whether artifacts are to be uploaded."""
        for name in PHASES:
            phase = self.spec.phases.get(name, Phase())
            with self._phase(name.upper()) as record:
                self._run_phase(phase, record)
            if not record.code:
                continue
            self.failed = True
            if phase.on_failure == "ABORT":
                return False
            if phase.on_failure != "CONTINUE" and name in ("install", "pre_build"):
                return False
            self._run_quietly("export CODEBUILD_BUILD_SUCCEEDING=0")
        return True

    def _run_phase(self, phase: Phase, record: PhaseRecord) -> None:
        for runtime, version in phase.runtime_versions.items():
            self._log(
                f"Note: runtime {runtime} {version} is not selected; the sandbox has this machine's own"
            )
        for commands in (phase.commands, phase.finally_):
            for command in commands:
                self._log(f"Running command {command.rstrip()}")
                code = self._run(command)
                if code:
                    self._log(f"Command did not exit successfully {command.rstrip()} exit status {code}")
                    if not record.code:
                        record.code = "COMMAND_EXECUTION_ERROR"
                        record.message = (
                            f"Error while executing command: {command.rstrip()}. Reason: exit status {code}"
                        )
                    break

    def _run(self, command: str) -> int:
        if not self.shell:
            raise RuntimeError("the shell has not been started")
        if self.spec.version == "0.1":
            # Version 0.1 runs each command by itself; 0.2 was made because that surprises.
            command = f"(\n{command}\n)"
        return self.shell.run(command)

    def _run_quietly(self, command: str) -> None:
        if self.shell:
            self.shell.run(command)

    def _close_shell(self) -> None:
        if not self.shell:
            return
        env = self.shell.environment()
        self.shell.close()
        self.shell = None
        self.build.exported = {
            name: env[name].encode(errors="surrogateescape").decode(errors="replace")
            for name in self.spec.exported_variables
            if name in env
        }

    def _upload(self, temporary: Path) -> None:
        problems = []
        settings, wanted = self.build.settings, self.spec.artifacts
        if settings["artifacts"]["type"] == "S3" and wanted and wanted.files:
            self.build.artifacts = self._upload_files(settings["artifacts"], wanted, temporary)
        for secondary in settings.get("secondaryArtifacts", []):
            name = secondary["artifactIdentifier"]
            if not wanted or name not in wanted.secondary:
                raise PhaseFailed(
                    "CLIENT_ERROR",
                    f"the buildspec has no secondary artifacts {name}, which the project names",
                )
            told = self._upload_files({"name": name} | secondary, wanted.secondary[name], temporary)
            self.build.secondary_artifacts = [
                *self.build.secondary_artifacts,
                told | {"artifactIdentifier": name},
            ]
        for spec, report in self.opened:
            try:
                files = select_files(self.source_dir, spec, self._log)
            except BaseDirectoryError:
                files = []
            if files:
                fill_report(report, spec, files, self.s3, self._log)
            else:
                report.status = "INCOMPLETE"
                problems.append(f"[{spec.group}: [report files not found in build]]")
        if problems:
            raise PhaseFailed("CLIENT_ERROR", f"Error in UPLOAD_ARTIFACTS phase: {' '.join(problems)}")

    def _upload_files(self, settings: dict[str, Any], wanted: Artifacts, temporary: Path) -> dict[str, Any]:
        """Upload what one artifacts section names; return what BatchGetBuilds tells of it."""
        try:
            files = select_files(self.source_dir, wanted, self._log)
        except BaseDirectoryError as error:
            raise PhaseFailed("CLIENT_ERROR", f"no matching base directory path found for {error}") from error
        if not files:
            raise PhaseFailed("CLIENT_ERROR", "no matching artifact paths found")
        key = artifact_key(settings, self.build.project_name, self.build.uuid)
        try:
            told = upload_artifacts(self.s3, settings, key, files, temporary)
        except (ClientError, BotoCoreError, OSError) as error:
            raise PhaseFailed("CLIENT_ERROR", f"Error in UPLOAD_ARTIFACTS phase: {error}") from error
        self._log(f"Uploaded {len(files)} artifacts to {told['location']}")
        return told

    def _finalize(self) -> None:
        record = self.build.begin("FINALIZING")
        self._log("Entering phase FINALIZING")
        self._close_shell()
        for _, report in self.opened:
            if report.status == "GENERATING":
                report.status = "INCOMPLETE"
        try:
            self._upload_log()
        except (ClientError, BotoCoreError, OSError) as error:
            record.code, record.message = "CLIENT_ERROR", f"the log cannot be uploaded: {error}"
            self._log(record.message)
        record.status = "FAILED" if record.code else "SUCCEEDED"
        record.end = datetime.now(UTC)

    def _upload_log(self) -> None:
        s3_logs = (self.build.settings.get("logsConfig") or {}).get("s3Logs") or {}
        if s3_logs.get("status") != "ENABLED":
            return
        bucket, prefix = split_location(s3_logs["location"])
        key = f"{prefix.rstrip('/')}/{self.build.uuid}.gz".lstrip("/")
        self.log_stream.flush()
        body = gzip.compress(self.build.log_path.read_bytes())
        self.s3.put_object(
            Bucket=bucket, Key=key, Body=body, ContentType="text/plain", ContentEncoding="gzip"
        )
        self.build.log_location = {
            "s3DeepLink": f"{self.runtime.endpoint}/{bucket}/{key}",
            "s3LogsArn": f"arn:aws:s3:::{bucket}/{key}",
        }

    def _log(self, text: str) -> None:
        stamp = datetime.now(UTC).strftime("%Y/%m/%d %H:%M:%S.%f")
        self.log_stream.write(f"[Container] {stamp} {text}\n".encode(errors="replace"))
        self.log_stream.flush()
