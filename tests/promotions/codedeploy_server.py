"""CodeDeploy on a real socket, for tests of processes: it holds answers back, and lies as the sandbox can.

Only what the reconciler calls, in memory; apps/sandbox is the one that really deploys. This one exists
because a test must decide between which two instructions a process dies.
"""

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from apps.sandbox.faults import Answer, Faults


@dataclass
class Server:
    deployments: dict[str, dict[str, Any]] = field(default_factory=dict)
    # CreateDeployment: how many were received; whether answers are held back after the deployment was made.
    asked: int = 0
    hold: threading.Event = field(default_factory=threading.Event)
    made: threading.Event = field(default_factory=threading.Event)
    # ListDeployments: whether answers are held back, and whether one was asked for.
    hold_list: threading.Event = field(default_factory=threading.Event)
    listing: threading.Event = field(default_factory=threading.Event)
    status: str = "Succeeded"
    faults: Faults = field(default_factory=Faults)

    def __enter__(self) -> Self:
        self.hold.set()  # not held
        self.hold_list.set()
        server = self
        self.lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                operation = self.headers["X-Amz-Target"].partition(".")[2]
                request = json.loads(self.rfile.read(length))

                def work() -> Answer:
                    return Answer(200, json.dumps(getattr(server, operation)(request)).encode())

                answer = server.faults.answer(operation, work)
                if not answer.whole:
                    self.close_connection = True
                    return
                body = answer.body
                try:
                    self.send_response(answer.status)
                    self.send_header("Content-Type", "application/x-amz-json-1.1")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    self.close_connection = True  # the client was killed, as tests do

            def do_GET(self) -> None:
                # S3, where the reconciler looks for flight records: there are none.
                body = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
                self.send_response(200)
                self.send_header("Content-Type", "application/xml")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass  # pytest shows failures; each request would be noise

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.05,))
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.hold.set()
        self.hold_list.set()
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"

    def CreateDeployment(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802  # AWS's name
        with self.lock:
            self.asked += 1
            key = f"d-{len(self.deployments) + 1:09d}"
            self.deployments[key] = {
                "deploymentId": key,
                "applicationName": request["applicationName"],
                "deploymentGroupName": request["deploymentGroupName"],
                "description": request["description"],
                "createTime": time.time(),
            }
        self.made.set()
        self.hold.wait(60)
        return {"deploymentId": key}

    def ListDeployments(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802  # AWS's name
        self.listing.set()
        self.hold_list.wait(60)
        group = request["deploymentGroupName"]
        found = [key for key, each in self.deployments.items() if each["deploymentGroupName"] == group]
        return {"deployments": found}

    def BatchGetDeployments(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802  # AWS's name
        known = [self.deployments[key] for key in request["deploymentIds"] if key in self.deployments]
        return {"deploymentsInfo": [{**each, "status": self.status} for each in known]}

    def ListDeploymentTargets(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802  # AWS's name
        return {"targetIds": ["staging-1"]}

    def BatchGetDeploymentTargets(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802  # AWS's name
        event = {"lifecycleEventName": "ValidateService", "status": self.status}
        target = {"targetId": "staging-1", "status": self.status, "lifecycleEvents": [event]}
        return {"deploymentTargets": [{"deploymentTargetType": "InstanceTarget", "instanceTarget": target}]}
