"""CodeBuild's operations on projects and builds."""

import copy
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from apps.sandbox.codebuild.batch_api import BatchApi
from apps.sandbox.codebuild.build import Build
from apps.sandbox.codebuild.cache import cache_store
from apps.sandbox.codebuild.paging import ordered, page
from apps.sandbox.codebuild.projects import checked_project, start_settings
from apps.sandbox.codebuild.queue import BuildQueue
from apps.sandbox.codebuild.report_api import ReportApi
from apps.sandbox.codebuild.reports import ReportStore
from apps.sandbox.codebuild.runner import BuildRunner
from apps.sandbox.protocol import AwsError
from apps.sandbox.runtime import Runtime

TOKEN_SECONDS = 300  # how long StartBuild's idempotency token counts


class CodeBuild(ReportApi, BatchApi):
    """A CodeBuild whose builds run on this machine, all at once, each in a thread of its own."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.reports = ReportStore(runtime)
        self.projects: dict[str, dict[str, Any]] = {}
        self.builds: dict[str, Build] = {}
        self.numbers: dict[str, int] = {}
        self.queue = BuildQueue(runtime.builds.at_once)
        self.tokens: dict[str, tuple[float, dict[str, Any], Build]] = {}
        self.lock = threading.Lock()
        self.closed = False

    # Projects

    def create_project(self, **params: Any) -> dict[str, Any]:
        project = checked_project(params)
        name, now = params["name"], datetime.now(UTC)
        project |= {
            "arn": self.runtime.arn("codebuild", f"project/{name}"),
            "created": now,
            "lastModified": now,
            "badge": {"badgeEnabled": False},
        }
        with self.lock:
            if name in self.projects:
                message = f"Project already exists: {project['arn']}"
                raise AwsError("ResourceAlreadyExistsException", message)
            self.projects[name] = project
        return {"project": project}

    def update_project(self, **params: Any) -> dict[str, Any]:
        with self.lock:
            old = self._project(params["name"])
            kept = {"arn", "created", "lastModified", "badge"}
            members = {name: value for name, value in old.items() if name not in kept}
            project = checked_project(members | params)
            project |= {name: old[name] for name in kept} | {"lastModified": datetime.now(UTC)}
            self.projects[params["name"]] = project
        return {"project": project}

    def delete_project(self, **params: Any) -> dict[str, Any]:
        # Deleting what is not there succeeds on AWS too; a build that runs, goes on.
        self.projects.pop(_last_part(params["name"]), None)
        return {}

    def batch_get_projects(self, **params: Any) -> dict[str, Any]:
        names = params["names"]
        found = [self.projects[_last_part(name)] for name in names if _last_part(name) in self.projects]
        missing = [name for name in names if _last_part(name) not in self.projects]
        return {"projects": found, "projectsNotFound": missing}

    def list_projects(self, **params: Any) -> dict[str, Any]:
        key = {"NAME": "name", "CREATED_TIME": "created", "LAST_MODIFIED_TIME": "lastModified"}
        sort_by = key[params.get("sortBy", "NAME")]
        projects = sorted(self.projects.values(), key=lambda project: project[sort_by])
        names = [project["name"] for project in ordered(projects, params.get("sortOrder"), "ASCENDING")]
        found, token = page(names, params.get("nextToken"))
        return {"projects": found, "nextToken": token}

    # Builds

    def start_build(self, **params: Any) -> dict[str, Any]:
        return self._start(params, lambda: start_settings(self._project(params["projectName"]), params))

    def retry_build(self, **params: Any) -> dict[str, Any]:
        """Start a build anew, with the settings that it had, whatever became of its project since."""
        before = self._build(params["id"])
        self._project(before.project_name)
        return self._start(params, lambda: copy.deepcopy(before.settings))

    def stop_build(self, **params: Any) -> dict[str, Any]:
        build = self._build(params["id"])
        build.stop_requested.set()
        return {"build": build.describe()}

    def batch_get_builds(self, **params: Any) -> dict[str, Any]:
        ids = params["ids"]
        found = [self.builds[_build_id(each)] for each in ids if _build_id(each) in self.builds]
        missing = [each for each in ids if _build_id(each) not in self.builds]
        return {"builds": [build.describe() for build in found], "buildsNotFound": missing}

    def list_builds(self, **params: Any) -> dict[str, Any]:
        return _ids(list(self.builds.values()), params)

    def list_builds_for_project(self, **params: Any) -> dict[str, Any]:
        name = self._project(params["projectName"])["name"]
        return _ids([build for build in list(self.builds.values()) if build.project_name == name], params)

    def invalidate_project_cache(self, **params: Any) -> dict[str, Any]:
        project = self._project(params["projectName"])
        s3 = self.runtime.client("s3")
        if store := cache_store(project["cache"], project["name"], self.runtime.state_dir, s3):
            store.forget()
        return {}

    def close(self) -> None:
        """Stop all builds and wait until nothing of them runs."""
        with self.lock:
            self.closed = True
            running = [build for build in self.builds.values() if build.end is None]
        for build in running:
            build.stop_requested.set()
        for build in running:
            if build.thread:
                build.thread.join(20)

    def _project(self, name: str) -> dict[str, Any]:
        try:
            return self.projects[_last_part(name)]
        except KeyError as error:
            arn = self.runtime.arn("codebuild", f"project/{_last_part(name)}")
            raise AwsError("ResourceNotFoundException", f"Project cannot be found: {arn}") from error

    def _build(self, id_or_arn: str) -> Build:
        build = self.builds.get(_build_id(id_or_arn))
        if build is None:
            raise AwsError("ResourceNotFoundException", f"Build does not exist: {id_or_arn}")
        return build

    def _start(self, params: dict[str, Any], settings: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Start a build with these settings, or name the one that was started with the same token."""
        with self.lock:
            self._forget_old_tokens()
            token = params.get("idempotencyToken")
            if token in self.tokens:
                _, before, build = self.tokens[token]
                if before != params:
                    message = "Idempotency token was used with other parameters."
                    raise AwsError("InvalidInputException", message)
                return {"build": build.describe()}
            if self.closed:
                raise AwsError("AccountLimitExceededException", "The sandbox is shutting down.")
            build = self._new_build(settings())
            if token:
                self.tokens[token] = (time.monotonic(), params, build)
            self.queue.join(build.id)
            runner = BuildRunner(self.runtime, self.reports, self.queue, build)
            build.thread = threading.Thread(target=runner.run, name=f"build {build.id}", daemon=True)
            build.thread.start()
        return {"build": build.describe()}

    def _new_build(self, settings: dict[str, Any]) -> Build:
        name, identifier = settings["name"], str(uuid.uuid4())
        # The number goes on counting where a project is deleted and made anew, as ids must stay unique.
        self.numbers[name] = self.numbers.get(name, 0) + 1
        build_id = f"{name}:{identifier}"
        build = Build(
            id=build_id,
            arn=self.runtime.arn("codebuild", f"build/{build_id}"),
            number=self.numbers[name],
            project_name=name,
            settings=settings,
            # Without the project's name: a colon in a path breaks PATH and virtual environments.
            folder=self.runtime.state_dir / "builds" / identifier,
            start=datetime.now(UTC),
        )
        self.builds[build_id] = build
        return build

    def _forget_old_tokens(self) -> None:
        oldest = time.monotonic() - TOKEN_SECONDS
        self.tokens = {token: kept for token, kept in self.tokens.items() if kept[0] > oldest}


def _ids(builds: list[Build], params: dict[str, Any]) -> dict[str, Any]:
    ids = [build.id for build in ordered(builds, params.get("sortOrder"))]
    found, token = page(ids, params.get("nextToken"))
    return {"ids": found, "nextToken": token}


def _last_part(name_or_arn: str) -> str:
    """Return a name; operations on projects take ARNs as well."""
    return name_or_arn.rpartition("/")[2]


def _build_id(id_or_arn: str) -> str:
    return id_or_arn.rpartition("/")[2]
