"""A small HTTP server that answers the pipeline's client as a test tells it."""

import importlib.util
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "scripts" / "jenkins" / "lockkeeper.py"


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Reply:
    """What to answer; `cut` closes the connection without an answer."""

    status: int = 200
    data: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    cut: bool = False


class Server:
    """Answers each (method, path) with its replies in turn; the last one stays."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.replies: dict[tuple[str, str], list[Reply]] = {}
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                request = Request(
                    self.command, self.path, dict(self.headers), json.loads(body) if body else None
                )
                owner.requests.append(request)
                replies = owner.replies.get((self.command, self.path.removeprefix("/api/v1/")))
                if not replies:
                    reply = Reply(
                        404, {"title": "Not Found", "status": 404, "detail": f"no {self.path} here"}
                    )
                else:
                    reply = replies.pop(0) if len(replies) > 1 else replies[0]
                if reply.cut:
                    self.close_connection = True
                    return
                etag = reply.headers.get("ETag")
                unchanged = bool(etag) and self.headers.get("If-None-Match") == etag
                content = reply.raw if reply.raw is not None else json.dumps(reply.data).encode()
                self.send_response(304 if unchanged else reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0" if unchanged else str(len(content)))
                self.end_headers()
                if not unchanged:
                    self.wfile.write(content)

            do_GET = do_POST = answer  # noqa: N815  # BaseHTTPRequestHandler's names

            def log_message(self, *arguments: object) -> None:
                """Keep the tests' output to what they say."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def on(self, method: str, path: str, *replies: Reply) -> None:
        self.replies[method, path] = list(replies)

    def paths(self, method: str) -> list[str]:
        return [
            request.path.removeprefix("/api/v1/") for request in self.requests if request.method == method
        ]

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def client_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lockkeeper_client", CLIENT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Result:
    code: int
    out: str
    err: str


@pytest.fixture
def run(
    server: Server,
    client_module: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Result]:
    """Run the client against the server; its pauses are shortened to hundredths."""
    monkeypatch.setenv("LOCKKEEPER_URL", server.url)
    monkeypatch.setenv("LOCKKEEPER_TOKEN", "lk_secret")
    monkeypatch.delenv("LOCKKEEPER_TOKEN_FILE", raising=False)
    sleep = client_module.time.sleep
    monkeypatch.setattr(client_module.time, "sleep", lambda seconds: sleep(seconds / 100))
    monkeypatch.setattr(client_module.signal, "signal", lambda *_: None)  # pytest's own stay

    def run_client(*arguments: str) -> Result:
        with pytest.raises(SystemExit) as ended:
            client_module.main(list(arguments))
        captured = capsys.readouterr()
        return Result(ended.value.code, captured.out, captured.err)

    return run_client
