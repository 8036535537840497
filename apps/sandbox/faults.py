"""How the sandbox lies: what AWS does on a bad day, switched on from outside, repeatable by a seed.

The n-th call of an operation meets the same fate in every run with the same settings, however the calls of
different operations interleave.
"""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from waitress.channel import ClientDisconnected

from apps.sandbox.protocol import CONTENT_TYPE, AwsError, JsonService, error_body, json_response

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

# What may happen to a call, at most one of them, in the order in which the rates are laid end to end.
KINDS = ("throttled", "error_before", "error_after", "cut_after", "slow")
PATH = "/_sandbox/faults"
MOST_SECONDS = 300.0


class SettingsError(ValueError):
    """Settings that cannot be used; the message says which, and what may be there."""


@dataclass(frozen=True)
class Answer:
    """What goes back; with ``whole`` False the connection is closed before the client has all of it."""

    status: int
    body: bytes
    whole: bool = True


@dataclass(frozen=True)
class Settings:
    """Which calls go wrong. Rates are between 0 and 1, times in seconds."""

    seed: int = 0
    operations: tuple[str, ...] = ()  # none named: all of them
    throttled: float = 0.0  # ThrottlingException; nothing was done
    error_before: float = 0.0  # HTTP 500; nothing was done
    error_after: float = 0.0  # HTTP 500, but it was done
    cut_after: float = 0.0  # it was done; after silent_seconds the connection is cut, without an answer
    slow: float = 0.0  # done and answered, slow_seconds late
    slow_seconds: float = 2.0
    silent_seconds: float = 0.0
    listed_after: float = 0.0  # how long ListDeployments does not show a new deployment
    described_after: float = 0.0  # how long BatchGetDeployments does not know one

    @classmethod
    def parse(cls, document: Any) -> Settings:
        """Check a JSON document; raise SettingsError, which names what is wrong and where."""
        if not isinstance(document, dict):
            raise SettingsError("The settings are not a JSON object.")
        known = [each.name for each in fields(cls)]
        if unknown := sorted(document.keys() - set(known)):
            raise SettingsError(f"There is no setting {', '.join(unknown)}; there are {', '.join(known)}.")
        values = dict(document)
        operations = values.pop("operations", [])
        if not isinstance(operations, list) or not all(isinstance(each, str) for each in operations):
            raise SettingsError('operations is a list of names, such as ["CreateDeployment"].')
        seed = values.pop("seed", 0)
        if type(seed) is not int:
            raise SettingsError("seed is a whole number.")
        for name, value in values.items():
            most = 1.0 if name in KINDS else MOST_SECONDS
            if type(value) not in (int, float) or not 0 <= value <= most:
                raise SettingsError(f"{name} is a number from 0 to {most:g}.")
        if sum(values.get(kind, 0) for kind in KINDS) > 1:
            raise SettingsError(f"The rates of {', '.join(KINDS)} are more than 1 together.")
        return cls(seed=seed, operations=tuple(operations), **values)


@dataclass
class Faults:
    """The faults of one server. Safe to use from several threads."""

    settings: Settings = Settings()
    lock: threading.Lock = field(default_factory=threading.Lock)
    _dice: dict[str, random.Random] = field(default_factory=dict)
    _made: dict[str, float] = field(default_factory=dict)  # deployment id → monotonic time of its making

    def use(self, settings: Settings) -> None:
        """Use these settings from the next call on; the seed begins anew."""
        with self.lock:
            self.settings = settings
            self._dice.clear()

    def answer(self, operation: str, work: Callable[[], Answer]) -> Answer:
        """Answer a call of an operation: do ``work`` or not, and tell the truth about it or not."""
        settings, kind = self._draw(operation)
        if kind == "throttled":
            return _error("ThrottlingException", "Rate exceeded", 400)
        if kind == "error_before":
            return _error("InternalFailure", "The sandbox was told to fail before the work.", 500)
        answer = self._truth(settings, operation, work)
        if kind == "error_after":
            return _error("InternalFailure", "The sandbox was told to fail after the work.", 500)
        if kind == "cut_after":
            time.sleep(settings.silent_seconds)
            return Answer(answer.status, answer.body, whole=False)
        if kind == "slow":
            time.sleep(settings.slow_seconds)
        return answer

    def _draw(self, operation: str) -> tuple[Settings, str]:
        with self.lock:
            settings = self.settings
            if settings.operations and operation not in settings.operations:
                return settings, ""
            if operation not in self._dice:
                self._dice[operation] = random.Random(f"{settings.seed}:{operation}")  # noqa: S311 (dice)
            thrown = self._dice[operation].random()
        for kind in KINDS:
            thrown -= getattr(settings, kind)
            if thrown < 0:
                return settings, kind
        return settings, ""

    def _truth(self, settings: Settings, operation: str, work: Callable[[], Answer]) -> Answer:
        began = time.monotonic()
        answer = work()
        if answer.status != 200:
            return answer
        if operation == "CreateDeployment":
            with self.lock:
                self._made[json.loads(answer.body)["deploymentId"]] = time.monotonic()
        elif operation == "ListDeployments" and settings.listed_after:
            document = json.loads(answer.body)
            hidden = self._younger(began - settings.listed_after)
            document["deployments"] = [each for each in document["deployments"] if each not in hidden]
            return Answer(200, json.dumps(document).encode())
        elif operation == "BatchGetDeployments" and settings.described_after:
            document = json.loads(answer.body)
            hidden = self._younger(began - settings.described_after)
            document["deploymentsInfo"] = [
                each for each in document["deploymentsInfo"] if each["deploymentId"] not in hidden
            ]
            return Answer(200, json.dumps(document).encode())
        return answer

    def _younger(self, moment: float) -> set[str]:
        with self.lock:
            return {key for key, made in self._made.items() if made > moment}


def serve(
    service: JsonService, faults: Faults, environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    """Answer as the service does, unless a fault is due."""
    operation = environ["HTTP_X_AMZ_TARGET"].partition(".")[2]

    def work() -> Answer:
        seen: list[str] = []

        def record(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Callable[[bytes], None]:
            seen[:] = [status]
            return _no_write

        body = b"".join(service(environ, record))
        return Answer(int(seen[0][:3]), body)

    answer = faults.answer(operation, work)
    if not answer.whole:
        # waitress closes the connection without a byte, as if the client had gone.
        raise ClientDisconnected
    start_response(
        f"{answer.status} {HTTPStatus(answer.status).phrase}",
        [
            ("Content-Type", CONTENT_TYPE),
            ("Content-Length", str(len(answer.body))),
            ("x-amzn-RequestId", str(uuid.uuid4())),
        ],
    )
    return [answer.body]


def control(faults: Faults, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """GET the settings, PUT others, or DELETE them, after which the sandbox tells the truth again."""
    method = environ["REQUEST_METHOD"]
    if method == "PUT":
        try:
            faults.use(Settings.parse(json.load(environ["wsgi.input"])))
        except (SettingsError, UnicodeDecodeError, json.JSONDecodeError) as error:
            return json_response(start_response, 400, {"message": str(error)}, "application/json")
    elif method == "DELETE":
        faults.use(Settings())
    elif method != "GET":
        message = f"{method} is not allowed; GET, PUT and DELETE are."
        return json_response(start_response, 405, {"message": message}, "application/json")
    return json_response(start_response, 200, asdict(faults.settings), "application/json")


def _error(code: str, message: str, status: int) -> Answer:
    return Answer(status, json.dumps(error_body(AwsError(code, message))).encode())


def _no_write(data: bytes) -> None:
    raise RuntimeError("our services do not call write()")
