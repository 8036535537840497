"""AWS JSON 1.1 on the wire: requests and answers checked against botocore's service models.

https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html
"""

import base64
import binascii
import json
import logging
import re
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore import xform_name
from botocore.model import ListShape, MapShape, ServiceModel, Shape, StringShape, StructureShape
from botocore.validate import ParamValidator

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/x-amz-json-1.1"
# AWS refuses JSON requests above 1 MiB with the same status.
MAX_BODY = 1 << 20


class AwsError(Exception):
    """An error an AWS service answers with: its code, a message for people, the HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


class OutputError(Exception):
    """A handler's answer that the service model does not allow: a bug of the sandbox."""


@cache
def service_model(service_name: str) -> ServiceModel:
    """Return botocore's model of a service, such as `codebuild`."""
    return botocore.session.get_session().get_service_model(service_name)


class JsonService:
    """A WSGI application that speaks AWS JSON 1.1 for one service.

    `handler` has a method for each supported operation, named in snake_case (`start_build` for StartBuild),
    which takes the validated parameters as keywords with their names on the wire (`projectName`) and
    returns the answer as a dict; members that are None are left out. Errors are raised as `AwsError`. An
    operation without a method is refused by name.
    """

    def __init__(self, service_name: str, target_prefix: str, handler: object) -> None:
        self.model = service_model(service_name)
        if self.model.metadata.get("targetPrefix") != target_prefix:
            raise ValueError(f"{service_name} has target prefix {self.model.metadata.get('targetPrefix')}")
        self.service_name = service_name
        self.target_prefix = target_prefix
        self.handler = handler

    def operations(self) -> list[str]:
        """Return the names of the operations this sandbox supports, as AWS spells them."""
        return [name for name in self.model.operation_names if self._method(name)]

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        try:
            status, answer = 200, self.call(target.partition(".")[2], read_json(environ))
        except AwsError as error:
            status, answer = error.status, error_body(error)
        except Exception:
            log.exception("%s failed", target)
            message = f"{target} failed in the sandbox; its log has the traceback."
            status, answer = 500, error_body(AwsError("InternalFailure", message))
        return json_response(start_response, status, answer)

    def call(self, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        """Run one operation on parameters as they came over the wire; return the answer as it goes back."""
        if operation not in self.model.operation_names:
            raise AwsError(
                "UnknownOperationException", f"{self.service_name} has no operation {operation!r}."
            )
        method = self._method(operation)
        if method is None:
            raise AwsError(
                "UnsupportedOperationException",
                f"The sandbox does not support {self.service_name} {operation}. "
                f"It supports: {', '.join(self.operations())}.",
            )
        model = self.model.operation_model(operation)
        answer = method(**parse_input(model.input_shape, params))
        return serialize_output(model.output_shape, answer or {})

    def _method(self, operation: str) -> Callable[..., dict[str, Any] | None] | None:
        return getattr(self.handler, xform_name(operation), None)


def read_json(environ: "WSGIEnvironment") -> dict[str, Any]:
    """Return the request's JSON object; raise SerializationException where there is none."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if length > MAX_BODY:
        raise AwsError("RequestEntityTooLargeException", f"The request is over {MAX_BODY} bytes.", 413)
    try:
        params = json.loads(environ["wsgi.input"].read(length) or b"{}")
    except ValueError as error:
        raise AwsError("SerializationException", f"The request is not JSON: {error}.") from error
    if not isinstance(params, dict):
        raise AwsError("SerializationException", "The request is not a JSON object.")
    return params


def error_body(error: AwsError) -> dict[str, Any]:
    """Return an error as JSON services send it."""
    return {"__type": error.code, "message": error.message}


def json_response(
    start_response: "StartResponse",
    status: int,
    answer: dict[str, Any],
    content_type: str = CONTENT_TYPE,
) -> Iterable[bytes]:
    """Send an answer as AWS JSON."""
    body = json.dumps(answer).encode()
    headers = [
        ("Content-Type", content_type),
        ("Content-Length", str(len(body))),
        ("x-amzn-RequestId", str(uuid.uuid4())),
    ]
    start_response(f"{status} {HTTPStatus(status).phrase}", headers)
    return [body]


def parse_input(shape: StructureShape | None, params: dict[str, Any]) -> dict[str, Any]:
    """Check wire parameters against an input shape and return them, named as on the wire (`projectName`).

    Timestamps become datetimes and blobs bytes. Members the service does not know are refused: AWS
    ignores them, which would hide a misspelt parameter.

    Raises AwsError ValidationException.
    """
    if shape is None:
        return {}
    value = _from_wire(shape, params, "")
    report = ParamValidator().validate(value, shape)
    problems = report.generate_report() if report.has_errors() else ""
    constraints = [] if problems else list(_broken_constraints(shape, value, ""))
    if problems or constraints:
        raise AwsError("ValidationException", problems or " ".join(constraints))
    return {name: member for name, member in value.items() if member is not None}


def serialize_output(shape: StructureShape | None, answer: dict[str, Any]) -> dict[str, Any]:
    """Turn a handler's answer into JSON values, checked against the output shape.

    Raises OutputError for a member the model does not have, a wrong type, or a value outside an enum:
    boto3 would drop the first silently.
    """
    if shape is None:
        if answer:
            raise OutputError(f"no answer is expected, got {sorted(answer)}")
        return {}
    return _structure_to_wire(shape, answer, shape.name)


def _from_wire(shape: Shape, value: Any, place: str) -> Any:
    """Convert what JSON cannot say; leave everything else for the validator to judge."""
    if value is None:
        return None
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        known = shape.members
        items = ((k, v) for k, v in value.items() if v is not None)
        return {k: _from_wire(known[k], v, f"{place}.{k}") if k in known else v for k, v in items}
    if isinstance(shape, ListShape) and isinstance(value, list):
        return [_from_wire(shape.member, item, f"{place}[{i}]") for i, item in enumerate(value)]
    if isinstance(shape, MapShape) and isinstance(value, dict):
        return {k: _from_wire(shape.value, v, f"{place}.{k}") for k, v in value.items()}
    try:
        if shape.type_name == "timestamp":
            return datetime.fromtimestamp(value, UTC)
        if shape.type_name == "blob":
            return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, OverflowError, OSError, binascii.Error) as error:
        raise AwsError("SerializationException", f"{place.lstrip('.')}: not a {shape.type_name}.") from error
    return value


def _broken_constraints(shape: Shape, value: Any, place: str) -> Iterable[str]:
    """Say which enum, length and pattern constraints a value breaks, as AWS words it.

    botocore's own validator leaves these to the service. Patterns with Java's `\\p{..}` classes, which
    `re` does not know, are not checked.
    """
    if isinstance(shape, StructureShape | MapShape):
        for name, member in value.items():
            inner = shape.value if isinstance(shape, MapShape) else shape.members[name]
            yield from _broken_constraints(inner, member, f"{place}.{name}")
        return
    if isinstance(shape, ListShape):
        for index, item in enumerate(value):
            yield from _broken_constraints(shape.member, item, f"{place}[{index}]")
    if constraint := _broken_constraint(shape, value):
        shown = value if len(repr(value)) < 200 else f"{str(value)[:200]}…"
        where = place.lstrip(".")
        yield f"Value '{shown}' at '{where}' failed to satisfy constraint: Member must {constraint}."


def _broken_constraint(shape: Shape, value: Any) -> str:
    sized = isinstance(value, str | bytes | list)
    limit = shape.metadata.get("max")
    if limit is not None and (len(value) if sized else value) > limit:
        return f"have {'length' if sized else 'value'} less than or equal to {limit}"
    if isinstance(shape, StringShape) and shape.enum and value not in shape.enum:
        return f"satisfy enum value set: [{', '.join(shape.enum)}]"
    pattern = shape.metadata.get("pattern")
    if pattern and isinstance(value, str) and r"\p" not in pattern and not re.fullmatch(pattern, value):
        return f"satisfy regular expression pattern: {pattern}"
    return ""


_WIRE_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "character": str,
    "boolean": bool,
    "integer": int,
    "long": int,
    "float": (int, float),
    "double": (int, float),
}


def _structure_to_wire(shape: StructureShape, value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise OutputError(f"{place} is {type(value).__name__}, not a structure")
    if unknown := value.keys() - shape.members.keys():
        raise OutputError(f"{place} has no {', '.join(sorted(unknown))}")
    if missing := [name for name in shape.required_members if value.get(name) is None]:
        raise OutputError(f"{place} lacks {', '.join(missing)}")
    items = ((k, v) for k, v in value.items() if v is not None)
    return {k: _to_wire(shape.members[k], v, f"{place}.{k}") for k, v in items}


def _to_wire(shape: Shape, value: Any, place: str) -> Any:
    if isinstance(shape, StructureShape):
        return _structure_to_wire(shape, value, place)
    if isinstance(shape, ListShape):
        if not isinstance(value, list | tuple):
            raise OutputError(f"{place} is {type(value).__name__}, not a list")
        return [_to_wire(shape.member, item, f"{place}[{i}]") for i, item in enumerate(value)]
    if isinstance(shape, MapShape):
        if not isinstance(value, dict):
            raise OutputError(f"{place} is {type(value).__name__}, not a map")
        return {str(k): _to_wire(shape.value, v, f"{place}.{k}") for k, v in value.items()}
    return _scalar_to_wire(shape, value, place)


def _scalar_to_wire(shape: Shape, value: Any, place: str) -> Any:
    if shape.type_name == "timestamp":
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise OutputError(f"{place} is not a datetime with a time zone")
        return round(value.timestamp(), 3)
    if shape.type_name == "blob":
        return base64.b64encode(value).decode()
    expected = _WIRE_TYPES[shape.type_name]
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        raise OutputError(f"{place} is {type(value).__name__}, not {shape.type_name}")
    if isinstance(shape, StringShape) and shape.enum and value not in shape.enum:
        raise OutputError(f"{place} is {value!r}, not one of {', '.join(shape.enum)}")
    return value
