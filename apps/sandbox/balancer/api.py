"""Elastic Load Balancing's API: moto's, but for what it gets wrong.

Only what the balancer does is accepted: network load balancers that forward TCP. moto leaves the limits of
numbers unchecked, and calls every target healthy.
"""

import io
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from apps.sandbox.protocol import AwsError, service_model

from . import targets
from .balancer import Balancer
from .config import MotoConfiguration
from .target import Health

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

# What a parameter of an operation may be, where AWS has more than the balancer does; the first is meant
# where none is given, except that AWS means an application load balancer, so a type must be.
SUPPORTED: dict[str, dict[str, tuple[str, ...]]] = {
    "CreateLoadBalancer": {"Type": ("network",)},
    "CreateListener": {"Protocol": ("TCP",), "DefaultActions.member.1.Type": ("forward",)},
    "ModifyListener": {"Protocol": ("TCP", ""), "DefaultActions.member.1.Type": ("forward", "")},
    "CreateTargetGroup": {
        "Protocol": ("TCP",),
        "TargetType": ("instance", "ip", ""),
        "HealthCheckProtocol": ("TCP", "HTTP", ""),
        "HealthCheckEnabled": ("true", ""),
    },
    "ModifyTargetGroup": {"HealthCheckProtocol": ("TCP", "HTTP", ""), "HealthCheckEnabled": ("true", "")},
}
UNSUPPORTED = ("CreateRule", "ModifyRule", "SetRulePriorities")
WITHOUT_EFFECT = ("Describe", "AddTags", "RemoveTags")
MAX_BODY = 1 << 20

Refuse = Callable[["WSGIEnvironment", "StartResponse", str, AwsError], Iterable[bytes]]


class LoadBalancing:
    """A WSGI application around moto's, which the balancer obeys before the caller hears of it."""

    def __init__(self, moto: "WSGIApplication", refuse: Refuse) -> None:
        self._moto = moto
        self._refuse = refuse
        self._balancer, self._configuration = targets.process.get()
        tell_the_truth(self._balancer, self._configuration)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        body = environ["wsgi.input"].read(min(int(environ.get("CONTENT_LENGTH") or 0), MAX_BODY))
        environ["wsgi.input"] = io.BytesIO(body)
        form = {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}
        operation = form.get("Action", "")
        known = {each.arn for each in self._configuration().listeners}
        try:
            check(operation, form)
        except AwsError as error:
            return self._refuse(environ, start_response, "elbv2", error)
        seen: list[tuple[Any, ...]] = []
        answer = self._moto(environ, lambda *told: seen.append(told))  # type: ignore[arg-type]
        problems = {} if operation.startswith(WITHOUT_EFFECT) else self._balancer.reconcile()
        for arn in problems.keys() - known:
            self._configuration.elb.delete_listener(arn)
            text = f"{problems[arn]}. Choose another: all load balancers of the sandbox share this machine."
            refusal = AwsError("InvalidConfigurationRequest", text)
            return self._refuse(environ, start_response, "elbv2", refusal)
        start_response(*seen[-1])
        return answer


def check(operation: str, form: dict[str, str]) -> None:
    """Raise AwsError for what AWS refuses and moto does not, and for what the balancer does not do."""
    if operation in UNSUPPORTED:
        raise _unsupported(f"{operation}: network load balancers have no rules")
    for name, values in SUPPORTED.get(operation, {}).items():
        if (value := form.get(name, "")) not in values:
            wanted = " or ".join(each for each in values if each)
            raise _unsupported(f"{name} {value or 'by default'} in {operation}, but {wanted}")
    model = service_model("elbv2")
    if operation not in model.operation_names:
        return  # moto says so
    shape = model.operation_model(operation).input_shape
    members = shape.members if shape else {}
    for name in form.keys() & members.keys():
        member = members[name]
        if member.type_name == "integer":
            low, high = member.metadata.get("min", 0), member.metadata.get("max", 1 << 31)
            if not form[name].isdigit() or not low <= int(form[name]) <= high:
                raise AwsError("ValidationError", f"{name} '{form[name]}' must be between {low} and {high}")


def _unsupported(what: str) -> AwsError:
    return AwsError(
        "UnsupportedOperation",
        f"The sandbox's Elastic Load Balancing forwards TCP through network load balancers; not {what}.",
    )


def tell_the_truth(balancer: Balancer, configuration: MotoConfiguration) -> None:
    """Have moto's DescribeTargetHealth answer with the balancer's health instead of "healthy"."""
    from moto.elbv2.exceptions import TargetGroupNotFoundError
    from moto.elbv2.models import FakeHealthStatus

    def describe(target_group_arn: str, asked: list[dict[str, Any]]) -> list[Any]:
        group = configuration.elb.target_groups.get(target_group_arn)
        if group is None:
            raise TargetGroupNotFoundError
        names = [str(each["Id"]) for each in asked] or None
        return [
            _status(FakeHealthStatus, group, name, health)
            for name, health in balancer.health(target_group_arn, names).items()
        ]

    configuration.elb.describe_target_health = describe


def _status(kind: Any, group: Any, name: str, health: Health) -> Any:
    known = group.targets.get(name) or group.deregistered_targets.get(name) or {}
    port = known.get("Port", group.port)
    checked = str(port if group.health_check_port == "traffic-port" else group.health_check_port)
    return kind(name, port, checked, health.state, health.reason, health.description)
