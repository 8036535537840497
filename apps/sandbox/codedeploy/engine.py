"""Carrying deployments out on several hosts, as many at a time as the deployment configuration allows."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from apps.sandbox.hosts.host import HostError
from apps.sandbox.hosts.names import UnsafeRoot

from .agent import Agent, fail
from .fleet import forget_stopped
from .instances import shut_down
from .rollback import roll_back
from .state import Deployment, State, Target, now

log = logging.getLogger(__name__)

# The service's own words.
NO_INSTANCES = (
    "The deployment failed because no instances were found for your deployment group. Check your deployment "
    "group settings to make sure the tags for your Amazon EC2 instances or Auto Scaling groups correctly "
    "identify the instances you want to deploy to, and then try again."
)
HEALTH_CONSTRAINTS = (
    "The overall deployment failed because too many individual instances failed deployment, too few healthy "
    "instances are available for deployment, or some instances in your deployment group are experiencing "
    "problems."
)

HEALTH_CONSTRAINTS_INVALID = (
    "The deployment cannot start: the deployment configuration {config} wants {minimum} of the {hosts} "
    "instances to stay healthy, so that none may be taken out of service."
)


class Engine:
    """Runs deployments in threads of their own."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, deployment: Deployment) -> None:
        """Begin; the deployment changes state from now on."""
        # Not a daemon: close() joins it, so that no hook is left without its agent.
        thread = threading.Thread(target=self._run, args=(deployment,), name=deployment.id)
        self._threads = [each for each in self._threads if each.is_alive()] + [thread]
        thread.start()

    def close(self) -> None:
        """End running hooks and wait for their deployments."""
        self._closing.set()
        # A deployment that ends may just have started its rollback.
        while running := [each for each in self._threads if each.is_alive()]:
            for thread in running:
                thread.join()

    def _run(self, deployment: Deployment) -> None:
        for message in deployment.messages:
            log.warning("deployment %s: %s", deployment.id, message)
        try:
            with self._state.lock:
                deployment.status, deployment.started = "InProgress", now()
                stopped = forget_stopped(self._state)
            shut_down(stopped)
            error = self._deploy(deployment)
        except Exception:
            log.exception("deployment %s broke", deployment.id)
            error = {"code": "INTERNAL_ERROR", "message": "The sandbox failed; its log has the traceback."}
        with self._state.lock:
            self._end(deployment, error)
            # Under the same lock, so that nobody else's deployment comes in between.
            rollback = None if self._closing.is_set() else roll_back(self._state, deployment)
            if rollback:
                self.start(rollback)

    @staticmethod
    def _end(deployment: Deployment, error: dict[str, str] | None) -> None:
        for target in deployment.targets.values():
            if target.status in {"Pending", "InProgress"}:
                target.skip_rest()
                target.set_status("Skipped" if target.status == "Pending" else "Failed")
            if target.status in {"Succeeded", "Failed"}:
                target.instance.last[deployment.group.id] = (target.status, deployment.revision)
        deployment.completed = now()
        deployment.error = error
        if error:
            deployment.status = "Failed"
        elif deployment.stop.is_set() and deployment.overview()["Skipped"]:
            deployment.status = "Stopped"
        else:
            deployment.status = "Succeeded"
            deployment.group.last_successful = deployment

    def _deploy(self, deployment: Deployment) -> dict[str, str] | None:
        """Returns errorInformation, or None."""
        if not deployment.targets:
            return {"code": "NO_INSTANCES", "message": NO_INSTANCES}
        waiting = list(deployment.targets.values())
        hosts, config = len(waiting), deployment.config
        minimum = config.minimum(hosts)
        if not config.can_succeed(hosts):
            message = HEALTH_CONSTRAINTS_INVALID.format(config=config.name, minimum=minimum, hosts=hosts)
            return {"code": "HEALTH_CONSTRAINTS_INVALID", "message": message}
        running: set[Future[None]] = set()
        with ThreadPoolExecutor(max_workers=hosts, thread_name_prefix=deployment.id) as pool:
            while waiting or running:
                failed = deployment.overview()["Failed"]
                # Every host counts as healthy but those that are being deployed to, and those that failed.
                while waiting and hosts - failed - len(running) > minimum and not deployment.stop.is_set():
                    running.add(pool.submit(self._deploy_to, deployment, waiting.pop(0)))
                if not running:
                    break  # stopped, or no further host may be taken out
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
        counts = deployment.overview()
        if deployment.stop.is_set() and (waiting or counts["Skipped"]):
            return None
        if waiting or not config.is_met(counts["Succeeded"], hosts):
            return {"code": "HEALTH_CONSTRAINTS", "message": HEALTH_CONSTRAINTS}
        return None

    def _deploy_to(self, deployment: Deployment, target: Target) -> None:
        runtime = self._state.runtime
        with target.instance.busy:
            try:
                host = target.instance.boot(runtime)
            except (HostError, UnsafeRoot) as error:
                fail(target, f"The host {target.instance.name} does not boot: {error}")
                return
            agent = Agent(
                host, deployment, runtime.client("s3"), runtime.aws_environment(), self._closing.is_set
            )
            agent.deploy(target)
