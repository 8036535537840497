"""The steps of a demo, each a stage that is shown and measured."""

import contextlib
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from apps.sandbox import postgres
from apps.sandbox.postgres import PostgresError

from .cloud import ENVIRONMENTS, SERVICE, Cloud, Rollout
from .console import Progress, Stage
from .control import LOOK_SECONDS, ClientRun, Control, make_control, plain_environment
from .errors import DemoError
from .hosts import DemoHost, provision, version
from .production import open_front_door, put_configuration, run_instances
from .services import Service, free_port, run
from .slot import Slot
from .source import Repository

START_TIMEOUT = 60.0  # seconds
RECORDS_TIMEOUT = 20.0
APPROVER = "approver"
PRODUCTION_HOSTS = 2


def cache_folder(root: Path) -> Path:
    """Return where scripts/bootstrap keeps environments and downloads, which builds share."""
    return Path(os.environ.get("LOCKKEEPER_CACHE_DIR") or root / ".local" / "cache").absolute()


def aws_environment() -> dict[str, str]:
    """Return what the embedded AWS is started with: builds inherit the package clients' settings from it."""
    kept = re.compile(
        r"(PIP|UV)_.+|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|\w+_proxy|USER", re.IGNORECASE
    )
    return {name: value for name, value in os.environ.items() if kept.fullmatch(name)} | plain_environment()


def drop_quietly(server: postgres.Server, database: str) -> None:
    """Drop a database at the end; on a server that is going away it does not matter."""
    with contextlib.suppress(PostgresError):
        server.drop_database(database)


def _in_words(migrations: dict[str, Any]) -> str:
    if migrations["result"] == "applied":
        return f"applied {len(migrations['applied'])} in {migrations['seconds']:.1f} s"
    if migrations["result"] == "by-another":
        return f"left them to {migrations['host']}"
    return "found none missing" if migrations["result"] == "nothing" else str(migrations["result"])


@dataclass
class Release:
    """What a build made."""

    id: str
    commit: str
    version: str
    digest: str


@dataclass
class Demo:
    """A demo that is being set up or has been; closing `stack` takes it down."""

    root: Path
    slot: Slot
    progress: Progress
    stack: contextlib.ExitStack
    services: list[Service] = field(default_factory=list)
    hosts: list[DemoHost] = field(default_factory=list)
    front_doors: dict[str, str] = field(default_factory=dict)  # each environment's address
    seen: dict[str, str] = field(default_factory=dict)  # each environment's newest deployment, when last told
    cloud: Cloud = field(init=False)
    control: Control = field(init=False)

    def check(self) -> None:
        """Raise DemoError if one of the processes has ended."""
        for service in self.services:
            service.check()

    def own(self, service: Service) -> Service:
        self.services.append(service)
        self.stack.callback(service.stop)
        return service

    def set_up(self) -> None:
        """Start everything that a commit's way needs."""
        # Entered first, so that it closes last: hosts need their databases until they are down.
        databases_stack = self.stack.enter_context(contextlib.ExitStack())
        manage = [sys.executable, str(self.root / "manage.py")]
        ready = self.slot.folder / "aws.json"
        aws = self.own(
            Service(
                "aws",
                [*manage, "sandbox", "--state", str(self.slot.state), "--ready-file", str(ready)],
                cwd=self.root,
                environment=aws_environment(),
                log=self.slot.logs / "aws.log",
            )
        )
        with self.progress.stage("postgres", "Start PostgreSQL"):
            databases = self._databases(databases_stack)
        with self.progress.stage("aws", "Start the embedded AWS") as stage:
            aws.wait_until(ready.exists, START_TIMEOUT)
            self.cloud = Cloud(json.loads(ready.read_text())["endpoint"], self.slot.state)
            self.cloud.set_up(cache=cache_folder(self.root))
            stage.note = self.cloud.endpoint
        with self.progress.stage("control", "Start the control plane") as stage:
            self.control = make_control(
                root=self.root,
                folder=self.slot.folder,
                logs=self.slot.logs,
                database_url=databases["control"],
                aws=self.cloud.environment,
            )
            self.control.register()
            for service in self.control.start():
                self.own(service)
            stage.note = self.control.url
        with self.progress.stage("hosts", "Provision the hosts") as stage:
            self._set_up_staging(databases["staging"])
            self._set_up_production(databases["production"])
            stage.note = ", ".join(f"{name} {url}" for name, url in self.front_doors.items())

    def _set_up_staging(self, database_url: str) -> None:
        """One host of our own, with everything in its own file."""
        host = self._provision("staging-1", "staging", free_port(), self._secrets(database_url))
        self.cloud.add_staging(host.name)
        self.front_doors["staging"] = host.url

    def _set_up_production(self, database_url: str) -> None:
        """Instances behind a load balancer, with the secrets in SSM."""
        ports = {name: free_port() for name in run_instances(self.cloud, PRODUCTION_HOSTS)}
        url = self.front_doors["production"] = open_front_door(self.cloud, ports)
        place = put_configuration(self.cloud, self._secrets(database_url))
        for name, port in ports.items():
            self._provision(name, "production", port, {"CSRF_TRUSTED_ORIGINS": url}, place)

    @staticmethod
    def _secrets(database_url: str) -> dict[str, str]:
        return {"DATABASE_URL": database_url, "SECRET_KEY": secrets.token_urlsafe(48)}

    def _provision(
        self, name: str, environment: str, port: int, own: dict[str, str], configuration: str = ""
    ) -> DemoHost:
        settings = {
            "ALLOWED_HOSTS": "127.0.0.1,localhost",
            "CSRF_TRUSTED_ORIGINS": f"http://127.0.0.1:{port}",
            "SECURE_COOKIES": "false",
            **self.cloud.environment,
            **own,
        }
        host = provision(
            root=self.root,
            state=self.slot.state,
            logs=self.slot.logs,
            name=name,
            environment=environment,
            port=port,
            settings=settings,
            configuration=configuration,
        )
        self.hosts.append(host)
        return host

    def _databases(self, stack: contextlib.ExitStack) -> dict[str, str]:
        """Make a database for the control plane and for each environment; return their URLs."""
        run_id = secrets.token_hex(4)
        try:
            server = stack.enter_context(postgres.server(self.slot.folder / "postgres"))
            urls = {}
            for name in ("control", *ENVIRONMENTS):
                database = f"lockkeeper_demo_{run_id}_{name}"
                urls[name] = server.create_database(database)
                stack.callback(drop_quietly, server, database)
        except PostgresError as error:
            raise DemoError(str(error)) from error
        return urls

    def build(self, repository: Repository, name: str) -> Release:
        """Build HEAD of a repository, register the build, and wait for its release."""
        commit = repository.head()
        short = commit[:12]
        with self.progress.stage(f"{name}-build", f"Build {short} in CodeBuild") as stage:
            archive = repository.archive(self.slot.folder / "source" / f"{name}.zip")
            build_id = self.cloud.start_build(archive)
            # At once, as the Jenkinsfile does: the client waits for the evidence.
            arguments = ["--service", SERVICE, "--build", build_id, "--commit", commit]
            client = self.control.client(f"{name}-register", "register-build", *arguments)
            self._follow_build(stage, build_id, client)
        with self.progress.stage(f"{name}-evidence", f"Read the evidence of {short}") as stage:
            code, release_id = client.finish(self._looking(stage, lambda: client.last))
            if code:
                raise DemoError(f"registering the build ended with {code}: {client.last}", client.log)
            made = self.control.get(f"releases/{release_id}/")
            release = Release(release_id, commit, made["version"], made["digest"])
            stage.note = f"release {release.version}"
        return release

    def _follow_build(self, stage: Stage, build_id: str, client: ClientRun) -> None:
        while not (build := self.cloud.build(build_id))["buildComplete"]:
            self.check()
            if client.failed:
                raise DemoError(f"the build could not be registered: {client.last}", client.log)
            self.progress.tell(stage, build["currentPhase"])
            time.sleep(LOOK_SECONDS)
        stage.note = build_id
        if build["buildStatus"] != "SUCCEEDED":
            bad = [phase for phase in build["phases"] if phase.get("phaseStatus") in ("FAILED", "FAULT")]
            messages = [context["message"] for phase in bad[:1] for context in phase.get("contexts", [])]
            where = bad[0]["phaseType"] if bad else "no phase"
            raise DemoError(
                f"the build {build['buildStatus']} in {where}: {' '.join(messages)}",
                self.cloud.build_log(build_id),
            )

    def promote(self, release: Release, environment: str, name: str, *, expected: int = 0) -> dict[str, Any]:
        """Promote as the pipeline does, and return the promotion.

        DemoError unless the client ends with the exit code `expected`.
        """
        title = f"Promote {release.commit[:12]} to {environment}"
        with self.progress.stage(f"{name}-{environment}", title) as stage:
            arguments = ["--release", release.id, "--environment", environment, "--wait"]
            client = self.control.client(f"{name}-{environment}", "promote", *arguments)
            promotion_id = self._finish(stage, client, environment, expected)
            promotion = self.control.get(f"promotions/{promotion_id}/")
            stage.note = f"promotion {promotion['id']} {promotion['status']}"
        return promotion

    def wait(
        self,
        promotion: dict[str, Any],
        release: Release,
        name: str,
        watch: Callable[[Rollout], None] = lambda _: None,
    ) -> None:
        """Stay with a promotion that waits for a person until it has arrived, however long that takes.

        `watch` is told how far its deployment is.
        """
        environment = promotion["environment"]
        title = f"Deploy {release.commit[:12]} to {environment}"
        with self.progress.stage(f"{name}-{environment}-deploy", title) as stage:
            arguments = ["--promotion", str(promotion["id"]), "--through", "human", "--timeout", "604800"]
            client = self.control.client(f"{name}-{environment}", "wait", *arguments)
            self._finish(stage, client, environment, 0, watch)
            stage.note = f"promotion {promotion['id']} succeeded"

    def _finish(
        self,
        stage: Stage,
        client: ClientRun,
        environment: str,
        expected: int,
        watch: Callable[[Rollout], None] = lambda _: None,
    ) -> str:
        before = self.seen.get(environment, "")

        def note() -> str:
            # Once the gate has opened, what happens is CodeDeploy's to tell.
            newest = self.cloud.newest_deployment(environment)
            if newest == before:
                return client.last
            rollout = self.cloud.deployment_progress(newest)
            watch(rollout)
            return f"{environment}: {rollout}"

        code, output = client.finish(self._looking(stage, note))
        self.seen[environment] = self.cloud.newest_deployment(environment)
        if code != expected:
            raise DemoError(f"{client.last} (exit code {code}, where {expected} was expected)", client.log)
        return output

    def migrations(self, promotion_id: int) -> dict[str, str]:
        """What each host of a promotion's deployment said of its migrations, by host."""
        deployment = self.control.get(f"promotions/{promotion_id}/")["deployment"]["id"]
        deadline = time.monotonic() + RECORDS_TIMEOUT
        while True:
            targets = self.control.get(f"deployments/{deployment}/")["targets"]
            records = {
                target["target_id"]: event["record"]
                for target in targets
                for event in target["events"]
                if event["name"] == "AfterInstall" and event["record"]
            }
            # Hosts upload them meanwhile, and nothing depends on whether they manage to.
            if len(records) == len(targets) or time.monotonic() > deadline:
                break
            time.sleep(LOOK_SECONDS)
        found = {host: record["migrations"] for host, record in records.items() if record["migrations"]}
        return {host: _in_words(each) for host, each in found.items()}

    def approve(self, promotion: dict[str, Any]) -> None:
        """Approve as the second user."""
        with self.progress.stage("approval", f"Approve as {APPROVER}"):
            command: list[str | Path] = [self.control.manage, "approve", str(promotion["id"])]
            command += ["--user", APPROVER]
            run("the approval", command, cwd=self.root, environment={}, log=self.slot.logs / "approval.log")

    def verify(self, release: Release, environment: str) -> None:
        """See that every host of an environment, and its front door, serves a release."""
        urls = [host.url for host in self.hosts if host.environment == environment]
        wanted = {"digest": release.digest, "version": release.version, "commit": release.commit}
        for url in {*urls, self.front_doors[environment]}:
            if (told := version(url)) != wanted:
                raise DemoError(f"{url}/version says {told} and not {wanted}")

    def _looking(self, stage: Stage, note: Callable[[], str]) -> Callable[[], None]:
        def look() -> None:
            self.check()
            # A look that AWS did not answer is made up for by the next.
            with contextlib.suppress(ClientError, BotoCoreError):
                self.progress.tell(stage, note())

        return look
