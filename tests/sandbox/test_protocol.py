"""AWS JSON 1.1: what a handler gets, what is refused before it, what it may answer."""

import io
import json
from datetime import UTC, datetime

import pytest

from apps.sandbox.protocol import AwsError, JsonService, OutputError, serialize_output, service_model


class Handler:
    """A CodeBuild that echoes."""

    def __init__(self):
        self.seen = None
        self.answer = {}

    def batch_get_builds(self, **params):
        self.seen = params
        return self.answer

    def stop_build(self, **params):
        raise AwsError("ResourceNotFoundException", "no such build")

    def list_projects(self, **params):
        raise KeyError("a bug")

    def create_project(self, **params):
        self.seen = params


@pytest.fixture
def handler():
    return Handler()


@pytest.fixture
def call(handler):
    """Call an operation over WSGI: `call("StopBuild", {...})` → (status, answer)."""
    service = JsonService("codebuild", "CodeBuild_20161006", handler)

    def call(operation, params, body=None):
        body = json.dumps(params).encode() if body is None else body
        environ = {
            "HTTP_X_AMZ_TARGET": f"CodeBuild_20161006.{operation}",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
        }
        started = []
        (answer,) = service(environ, lambda status, headers: started.append((status, dict(headers))))
        ((status, headers),) = started
        assert headers["Content-Type"] == "application/x-amz-json-1.1"
        assert headers["Content-Length"] == str(len(answer))
        return int(status[:3]), json.loads(answer)

    return call


def test_a_handler_gets_parameters_and_its_answer_goes_back(call, handler):
    start = datetime(2026, 1, 2, tzinfo=UTC)
    handler.answer = {"builds": [{"id": "a:b", "startTime": start, "endTime": None}], "buildsNotFound": []}
    status, answer = call("BatchGetBuilds", {"ids": ["a:b"]})
    assert handler.seen == {"ids": ["a:b"]}
    assert status == 200
    assert answer == {"builds": [{"id": "a:b", "startTime": start.timestamp()}], "buildsNotFound": []}


@pytest.mark.parametrize(
    ("operation", "params", "code", "message"),
    [
        ("StopBuild", {"id": "x"}, "ResourceNotFoundException", "no such build"),
        ("StopBuild", {}, "ValidationException", 'Missing required parameter in input: "id"'),
        ("StopBuild", {"id": 5}, "ValidationException", "Invalid type for parameter id"),
        ("StopBuild", {"id": "x", "force": True}, "ValidationException", "Unknown parameter in input"),
        ("BatchGetBuilds", {"ids": []}, "ValidationException", "Invalid length for parameter ids"),
        ("BatchGetBuilds", {"ids": ["x"] * 101}, "ValidationException", "length less than or equal to 100"),
        ("ListProjects", {"sortBy": "SIZE"}, "ValidationException", "satisfy enum value set: [NAME"),
        ("CreateProject", {"name": "a b"}, "ValidationException", "Missing required parameter"),
        (
            "StartBuildBatch",
            {"projectName": "x"},
            "UnsupportedOperationException",
            "It supports: BatchGetBuilds",
        ),
        ("Reboot", {}, "UnknownOperationException", "no operation 'Reboot'"),
        ("StopBuild", ["id"], "SerializationException", "not a JSON object"),
    ],
)
def test_errors_are_typed(call, operation, params, code, message):
    status, answer = call(operation, params)
    assert status == 400
    assert answer["__type"] == code
    assert message in answer["message"]


def test_patterns_are_checked(call):
    project = {
        "name": "a b",
        "source": {"type": "NO_SOURCE"},
        "artifacts": {"type": "NO_ARTIFACTS"},
        "environment": {"type": "LINUX_CONTAINER", "image": "x", "computeType": "BUILD_GENERAL1_SMALL"},
        "serviceRole": "role",
    }
    _, answer = call("CreateProject", project)
    assert "Value 'a b' at 'name' failed to satisfy constraint" in answer["message"]
    assert call("CreateProject", project | {"name": "a-b"}) == (200, {})


def test_what_is_not_json_or_too_large_is_refused(call):
    assert call("StopBuild", None, body=b"{")[1]["__type"] == "SerializationException"
    status, answer = call("StopBuild", None, body=b" " * (1 << 20) + b"{}")
    assert (status, answer["__type"]) == (413, "RequestEntityTooLargeException")


def test_a_bug_in_a_handler_is_an_internal_failure(call, handler):
    status, answer = call("ListProjects", {})
    assert (status, answer["__type"]) == (500, "InternalFailure")
    assert "a bug" not in answer["message"]
    handler.answer = {"bilds": []}
    assert call("BatchGetBuilds", {"ids": ["x"]})[0] == 500


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"bilds": []}, "has no bilds"),
        ({"builds": {}}, "not a list"),
        ({"builds": [[]]}, "not a structure"),
        ({"builds": [{"buildNumber": "1"}]}, "is str, not long"),
        ({"builds": [{"buildComplete": 1}]}, "is int, not boolean"),
        ({"builds": [{"buildNumber": True}]}, "is bool, not long"),
        ({"builds": [{"buildStatus": "GREAT"}]}, "not one of"),
        ({"builds": [{"startTime": datetime(2026, 1, 1)}]}, "not a datetime with a time zone"),
        ({"builds": [{"source": {"location": "x"}}]}, "lacks type"),
    ],
)
def test_answers_are_checked_against_the_model(answer, message):
    shape = service_model("codebuild").operation_model("BatchGetBuilds").output_shape
    with pytest.raises(OutputError, match=message):
        serialize_output(shape, answer)


def test_a_wrong_target_prefix_is_noticed(handler):
    with pytest.raises(ValueError, match="target prefix"):
        JsonService("codebuild", "CodeBuild_2016", handler)
