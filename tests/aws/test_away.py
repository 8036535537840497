"""AWS away, slow, refusing or broken: one exception that says what happened and whether to try again.

Against real sockets: what matters is what boto3 itself does.
"""

import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from apps.aws import codebuild, codedeploy, s3
from apps.aws.errors import AwsError

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


class Server(ThreadingHTTPServer):
    """Answers every request with ``answer(handler)`` and counts them."""

    daemon_threads = True

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler], None]) -> None:
        server = self
        self.requests = 0

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                server.requests += 1
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer(self)

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):  # do_GET, do_POST and so on
                    return self.handle_any
                raise AttributeError(name)

            def log_message(self, *arguments: object) -> None:
                """Quiet."""

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def serve(monkeypatch) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(answer: Callable[[BaseHTTPRequestHandler], None]) -> Server:
        server = Server(answer)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def json_error(status: int, code: str, message: str = "No.") -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        body = json.dumps({"__type": code, "message": message}).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/x-amz-json-1.1")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return answer


def asked(timeout: float = 10) -> AwsError:
    with pytest.raises(AwsError) as caught:
        codebuild.get_build("web:1", attempts=1, timeout=timeout)
    return caught.value


def test_nobody_there(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    error = asked()
    assert error.retryable
    assert error.code == "EndpointConnectionError"
    assert str(error).startswith("CodeBuild BatchGetBuilds: AWS did not answer")


def test_too_slow(serve):
    answered = threading.Event()
    serve(lambda request: answered.wait(20))
    error = asked(timeout=0.3)
    answered.set()
    assert error.retryable
    assert error.code == "ReadTimeoutError"


def test_cut_off_halfway(serve):
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000000")
        request.send_header("ETag", '"0"')
        request.end_headers()
        request.wfile.write(b"x" * 1000)

    serve(answer)
    with pytest.raises(AwsError) as caught:
        s3.download(bucket="bucket", key="key", into=io.BytesIO(), limit=10**7)
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (400, "ThrottlingException", True),
        (400, "AccessDeniedException", False),
        (400, "InvalidInputException", False),
        (400, "ExpiredTokenException", False),
        (429, "Whatever", True),
        (500, "InternalFailure", True),
        (503, "ServiceUnavailable", True),
    ],
)
def test_refused(serve, status, code, retryable):
    serve(json_error(status, code, "You\n  may not."))
    error = asked()
    assert (error.code, error.retryable) == (code, retryable)
    assert f"CodeBuild BatchGetBuilds: {code}: You may not." in str(error)


def test_what_an_operator_can_do_is_said(serve):
    serve(json_error(400, "AccessDeniedException"))
    assert "Allow the action in the role" in str(asked())


def test_html_instead_of_an_answer(serve):
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(502)
        request.end_headers()
        request.wfile.write(b"<html>Bad gateway</html>")

    serve(answer)
    assert asked().retryable


def test_a_refused_connection_is_tried_again_but_a_refusal_is_not(serve):
    server = serve(json_error(400, "AccessDeniedException"))
    with pytest.raises(AwsError):
        codebuild.get_project("web")
    assert server.requests == 1
    server = serve(json_error(500, "InternalFailure"))
    with pytest.raises(AwsError):
        codebuild.get_project("web")
    assert server.requests == 2


@pytest.mark.parametrize("fault", [json_error(500, "InternalFailure"), lambda request: time.sleep(2)])
def test_create_deployment_is_sent_once(serve, fault):
    server = serve(fault)
    revision = codedeploy.S3Location(bucket="bucket", key="key", version="v", etag="e")
    with pytest.raises(AwsError) as caught:
        codedeploy.create_deployment(
            application="web", group="staging", revision=revision, description="lockkeeper:1", timeout=0.3
        )
    assert caught.value.retryable
    time.sleep(0.5)  # a second one would come by now
    assert server.requests == 1


@pytest.mark.parametrize("body", [b"", b'{"deploymentId": "d-1"', b"{}"])
def test_an_answer_to_create_deployment_that_was_cut_off_tells_nothing(serve, body):
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "application/x-amz-json-1.1")
        request.send_header("Content-Length", "1000")
        request.end_headers()
        request.wfile.write(body)

    serve(answer)
    revision = codedeploy.S3Location(bucket="bucket", key="key", version="v", etag="e")
    with pytest.raises(AwsError, match="cut off") as caught:
        codedeploy.create_deployment(
            application="web", group="staging", revision=revision, description="lockkeeper:1"
        )
    assert caught.value.retryable


def test_no_credentials(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(AwsError, match="no usable AWS credentials") as caught:
        codebuild.get_build("p:1")
    assert not caught.value.retryable


def test_no_region(monkeypatch, tmp_path):
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(AwsError, match="Set AWS_REGION"):
        codebuild.get_project("web")


def test_a_parameter_that_aws_would_refuse_is_not_sent(serve):
    server = serve(json_error(500, "InternalFailure"))
    with pytest.raises(AwsError, match="Invalid length for parameter names") as caught:
        codebuild.get_project("")
    assert not caught.value.retryable
    assert server.requests == 0
