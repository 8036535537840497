"""The sandbox's web server: what moto has of AWS, see MOTO_SERVICES, and our own services on one address.

Requests are told apart as AWS's own front ends do it: the prefix of X-Amz-Target names CodeBuild and
CodeDeploy; the service in the signature's credential scope names one of moto's; an unsigned request is S3's.
Whatever moto cannot do is answered with a typed error in that service's own format.
"""

import fcntl
import json
import logging
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

import waitress.server
from moto.moto_server.werkzeug_app import create_backend_app
from waitress.channel import HTTPChannel

from apps.sandbox import faults
from apps.sandbox.balancer.api import LoadBalancing
from apps.sandbox.balancer.targets import process as balancing
from apps.sandbox.codebuild.service import CodeBuild
from apps.sandbox.codedeploy.service import CodeDeploy
from apps.sandbox.faults import Faults
from apps.sandbox.protocol import AwsError, JsonService, error_body, json_response
from apps.sandbox.runtime import BuildLimits, Runtime

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

# moto's services of which we know how they behave, by the name they are signed for; the rest of moto would be
# half an AWS.
MOTO_SERVICES = ("s3", "sqs", "events", "sts", "ssm", "secretsmanager", "ec2", "elasticloadbalancing")
# Sub-resources of S3 that moto 5.2 does not know: it takes `DELETE /bucket?metrics` for `DELETE /bucket`.
S3_UNKNOWN_TO_MOTO = frozenset(
    (
        "abac",
        "analytics",
        "annotation",
        "intelligent-tiering",
        "metadataAnnotationTable",
        "metadataConfiguration",
        "metadataInventoryTable",
        "metadataJournalTable",
        "metadataTable",
        "metrics",
        "renameObject",
        "requestPayment",
        "session",
        "torrent",
    )
)
MAX_UPLOAD = 5 << 30  # S3's own limit for one PUT
THREADS = 32  # an SQS long poll holds one for up to 20 s


class Service(Protocol):
    """What the server needs of a service's handler beside its operations."""

    def close(self) -> None:
        """Stop everything this service started; return when it is gone."""


# Our own services: botocore's name, the prefix of X-Amz-Target, and what makes the handler.
SERVICES: list[tuple[str, str, Callable[[Runtime], Service]]] = [
    ("codebuild", "CodeBuild_20161006", CodeBuild),
    ("codedeploy", "CodeDeploy_20141006", CodeDeploy),
]


class StartupError(Exception):
    """The sandbox cannot start; the message says why and what to do."""


class MotoApp:
    """A WSGI application for one of moto's services, which never answers HTML."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.app: WSGIApplication = create_backend_app(name)  # type: ignore[arg-type]  # a Literal of names

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if self.name == "s3" and (unknown := S3_UNKNOWN_TO_MOTO & _query(environ).keys()):
            return self._refuse(environ, start_response, ", ".join(sorted(unknown)))
        seen: list[tuple[str, list[tuple[str, str]]]] = []

        def record(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Callable[[bytes], None]:
            seen[:] = [(status, headers)]
            return _no_write

        try:
            body = self.app(environ, record)
        except NotImplementedError as error:
            return self._refuse(environ, start_response, str(error) or "this operation")
        except Exception:
            log.exception("moto's %s failed on %s", self.name, _request_line(environ))
            message = f"moto's {self.name} failed; the sandbox's log has the traceback."
            return send_error(environ, start_response, self.name, AwsError("InternalFailure", message, 500))
        status, headers = seen[0]
        if int(status[:3]) >= 400:
            page = b"".join(body)
            if hasattr(body, "close"):
                body.close()
            if page.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
                return self._refuse(environ, start_response, _text_of(page))
            body = [page]
        start_response(status, headers)
        return body

    def _refuse(
        self, environ: "WSGIEnvironment", start_response: "StartResponse", what: str
    ) -> Iterable[bytes]:
        message = f"The sandbox's {self.name} (moto) does not support {_request_line(environ)}: {what}"
        return send_error(environ, start_response, self.name, AwsError("NotImplemented", message, 501))


@dataclass
class SandboxApp:
    """The WSGI application of a whole sandbox."""

    runtime: Runtime
    services: dict[str, JsonService]
    closers: list[Service]
    moto: dict[str, "WSGIApplication"] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        target = environ.get("HTTP_X_AMZ_TARGET", "").partition(".")[0]
        if target in self.services:
            return faults.serve(self.services[target], self.faults, environ, start_response)
        if environ.get("PATH_INFO") == faults.PATH:
            return faults.control(self.faults, environ, start_response)
        name = signed_service(environ)
        if name is None and target:
            error = AwsError("MissingAuthenticationTokenException", "Missing Authentication Token", 403)
            return send_error(environ, start_response, "", error)
        name = name or "s3"
        if name not in MOTO_SERVICES:
            known = sorted([*MOTO_SERVICES, *(service.service_name for service in self.services.values())])
            error = AwsError(
                "UnsupportedOperationException", f"The sandbox has no {name}; it has {', '.join(known)}."
            )
            return send_error(environ, start_response, name, error)
        return self._moto_app(name)(environ, start_response)

    def _moto_app(self, name: str) -> "WSGIApplication":
        with self.lock:
            if name not in self.moto:
                self.moto[name] = (
                    LoadBalancing(MotoApp("elbv2"), send_error)
                    if name == "elasticloadbalancing"
                    else MotoApp(name)
                )
            return self.moto[name]

    def close(self) -> None:
        """Stop load balancers, builds, deployments and hosts."""
        # First: a deployment that waits for a target to drain ends with it.
        balancing.close()
        for service in self.closers:
            try:
                service.close()
            except Exception:
                log.exception("%s did not close cleanly", type(service).__name__)


def create_app(state_dir: Path, endpoint: str, builds: BuildLimits) -> SandboxApp:
    """Mount our services and moto's. `endpoint` is the address under which the caller will serve the app."""
    runtime = Runtime(state_dir=state_dir, endpoint=endpoint, builds=builds)
    balancing.open(runtime)
    services = {}
    closers = []
    for name, prefix, factory in SERVICES:
        handler = factory(runtime)
        services[prefix] = JsonService(name, prefix, handler)
        closers.append(handler)
    return SandboxApp(runtime, services, closers)


def signed_service(environ: "WSGIEnvironment") -> str | None:
    """Return the service a request is signed for (`Credential=KEY/DATE/REGION/SERVICE/aws4_request`)."""
    credential = re.search(r"Credential=([^,\s]+)", environ.get("HTTP_AUTHORIZATION", ""))
    scope = credential[1] if credential else "".join(_query(environ).get("X-Amz-Credential", []))
    parts = scope.split("/")
    return parts[-2].lower() if len(parts) >= 5 and parts[-1] == "aws4_request" else None


def _query(environ: "WSGIEnvironment") -> dict[str, list[str]]:
    return parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)


def _request_line(environ: "WSGIEnvironment") -> str:
    target = environ.get("HTTP_X_AMZ_TARGET")
    return (
        target
        or f"{environ['REQUEST_METHOD']} {environ.get('PATH_INFO', '')}?{environ.get('QUERY_STRING', '')}"
    )


def _text_of(page: bytes) -> str:
    """Return the words of an HTML error page on one line, for a message."""
    flags = re.DOTALL | re.IGNORECASE
    text = re.sub(r"<(script|style|title).*?</\1>|<[^>]+>", " ", page.decode(errors="replace"), flags=flags)
    return " ".join(unescape(text).split())[:300]


def _no_write(data: bytes) -> None:
    raise RuntimeError("moto's applications do not call write()")


def send_error(
    environ: "WSGIEnvironment", start_response: "StartResponse", service: str, error: AwsError
) -> Iterable[bytes]:
    """Answer with an error in the format of a service: JSON, S3's XML or the query protocol's XML."""
    if environ.get("HTTP_X_AMZ_TARGET") or environ.get("CONTENT_TYPE", "").startswith(
        "application/x-amz-json"
    ):
        return json_response(start_response, error.status, error_body(error))
    code, message = escape(error.code), escape(error.message)
    inner = f"<Code>{code}</Code><Message>{message}</Message>"
    if service == "s3":
        xml = f'<?xml version="1.0" encoding="UTF-8"?><Error>{inner}</Error>'
    else:
        xml = f"<ErrorResponse><Error><Type>Sender</Type>{inner}</Error></ErrorResponse>"
    body = xml.encode()
    headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
    start_response(f"{error.status} {error.code}", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


class Channel(HTTPChannel):
    """waitress's connection, for clients that expect "100 Continue" before an empty body.

    boto3 does that for every upload. waitress answers "100 Continue" and then waits for a body that the
    request's headers have said will not come.
    """

    def send_continue(self) -> None:
        request = self.request
        super().send_continue()
        if request is not None and request.body_rcv is None:
            request.completed = True


class Server:
    """A sandbox on a socket: serving from `run()` until a signal or `stop()`."""

    def __init__(
        self,
        state_dir: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        builds: BuildLimits = BuildLimits(),  # noqa: B008 (frozen)
    ) -> None:
        self.state_dir, self.lock = prepare_state_dir(state_dir)
        self.socket = listen(host, port)
        self.endpoint = f"http://{host}:{self.socket.getsockname()[1]}"
        self.app = create_app(self.state_dir, self.endpoint, builds)
        server = waitress.server.create_server(
            self.app,
            sockets=[self.socket],
            threads=THREADS,
            connection_limit=1000,
            max_request_body_size=MAX_UPLOAD,
            clear_untrusted_proxy_headers=True,
            ident="lockkeeper-sandbox",
            # select() knows no descriptor above 1023, and the load balancers' connections may use those up.
            asyncore_use_poll=True,
        )
        # One socket gives one server.
        self.wsgi = cast("waitress.server.BaseWSGIServer", server)
        self.wsgi.channel_class = Channel

    def run(self, ready_file: Path | None = None) -> None:
        """Serve in the main thread until SIGTERM or SIGINT; then stop what runs, and return."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, _exit_on_signal)
        if ready_file:
            write_ready_file(ready_file, self.endpoint)
        try:
            self.wsgi.run()  # returns on SystemExit
        finally:
            if ready_file:
                ready_file.unlink(missing_ok=True)
            self.stop()

    def stop(self) -> None:
        """Close the socket, then stop builds, deployments and hosts."""
        self.wsgi.close()
        self.app.close()


def _exit_on_signal(signum: int, frame: FrameType | None) -> None:
    # A second signal must not interrupt the shutdown, which is what ends the builds.
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(0)


def prepare_state_dir(state_dir: Path) -> tuple[Path, IO[str]]:
    """Make the state folder and take its lock; return its absolute path and the open lock file.

    Raises StartupError where it cannot be written or another sandbox uses it. The lock goes with the process.
    """
    state_dir = state_dir.absolute()
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        lock = (state_dir / "sandbox.lock").open("a")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StartupError(
            f"Another sandbox uses the state folder {state_dir}. Stop it, or name another one with --state."
        ) from error
    except OSError as error:
        raise StartupError(
            f"The state folder {state_dir} cannot be written ({error.strerror}). "
            "Name another with --state, or give this user the right to write there."
        ) from error
    return state_dir, lock


def listen(host: str, port: int) -> socket.socket:
    """Bind and listen; port 0 takes a free one. Raise StartupError where that cannot be."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except (OSError, OverflowError) as error:
        sock.close()
        raise StartupError(
            f"The sandbox cannot listen on {host}:{port} ({getattr(error, 'strerror', None) or error}). "
            "Stop what uses that port, name another with --port, or leave --port out for a free one."
        ) from error
    sock.listen(1024)
    sock.setblocking(False)
    return sock


def write_ready_file(path: Path, endpoint: str) -> None:
    """Say, in one step, where the sandbox answers: {"endpoint": "http://127.0.0.1:PORT"}."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({"endpoint": endpoint}) + "\n")
        temporary.replace(path)
    except OSError as error:
        raise StartupError(f"The ready file {path} cannot be written ({error.strerror}).") from error
