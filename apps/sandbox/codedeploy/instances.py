"""Operations on on-premises instances: registering one boots a sandbox host.

Those of EC2 are made with EC2's own API, and boot when they are first deployed to.
"""

from __future__ import annotations

import re
import threading
from typing import Any

from apps.sandbox.hosts.host import HostError
from apps.sandbox.hosts.names import UnsafeRoot
from apps.sandbox.protocol import AwsError

from .state import Instance, State
from .tags import any_matches

_MAX_TAGS = 10
_SHUTDOWN_SECONDS = 60.0


class InstanceOperations:
    """RegisterOnPremisesInstance and its like."""

    state: State

    def register_on_premises_instance(self, **params: Any) -> dict[str, Any]:
        """Boot the host of that name from hosts/NAME/root; without one, an empty host is made."""
        name = params["instanceName"]
        iam = {key: params[key] for key in ("iamUserArn", "iamSessionArn") if params.get(key)}
        with self.state.lock:
            self._check_registration(name, iam)
            instance = Instance(name, self.state.runtime.arn("codedeploy", f"instance/{name}"), iam)
            try:
                instance.boot(self.state.runtime)
            except (HostError, UnsafeRoot) as error:
                raise AwsError("InternalFailure", str(error), 500) from None
            self.state.instances[name] = instance
        return {}

    def _check_registration(self, name: str, iam: dict[str, str]) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,99}", name):
            raise AwsError(
                "InvalidInstanceNameException",
                f"{name!r} is not a name of a sandbox host: up to 100 letters, digits and ._-",
            )
        if name in self.state.instances:
            raise AwsError("InstanceNameAlreadyRegisteredException", f"{name} is already registered")
        if not iam:
            raise AwsError("IamArnRequiredException", "Give an iamUserArn or an iamSessionArn.")
        if len(iam) > 1:
            raise AwsError(
                "MultipleIamArnsProvidedException", "Give either iamUserArn or iamSessionArn, not both."
            )
        for kind, arn in iam.items():
            if any(each.iam.get(kind) == arn for each in self.state.instances.values()):
                code = f"{kind[0].upper()}{kind[1:]}AlreadyRegisteredException"
                raise AwsError(code, f"{arn} is already that of another instance")

    def deregister_on_premises_instance(self, **params: Any) -> dict[str, Any]:
        """Shut the host down; its files stay."""
        with self.state.lock:
            instance = self.state.instances.pop(params["instanceName"], None)
        if instance:
            shut_down([instance])
        return {}

    def add_tags_to_on_premises_instances(self, **params: Any) -> dict[str, Any]:
        """Set tags; deployment groups find their hosts by them."""
        tags = _tags(params)
        with self.state.lock:
            instances = self._named(params["instanceNames"])
            for instance in instances:
                if len(instance.tags | tags) > _MAX_TAGS:
                    raise AwsError("TagLimitExceededException", f"An instance has at most {_MAX_TAGS} tags.")
            for instance in instances:
                instance.tags |= tags
        return {}

    def remove_tags_from_on_premises_instances(self, **params: Any) -> dict[str, Any]:
        """Remove tags that have exactly the key and value given."""
        tags = _tags(params)
        with self.state.lock:
            for instance in self._named(params["instanceNames"]):
                instance.tags = {key: value for key, value in instance.tags.items() if tags.get(key) != value}
        return {}

    def list_on_premises_instances(self, **params: Any) -> dict[str, Any]:
        """Name instances, all or those with certain tags. Deregistered ones are forgotten here."""
        if params.get("registrationStatus") == "Deregistered":
            return {"instanceNames": []}
        names = []
        for name, instance in sorted(self.state.instances.items()):
            filters = params.get("tagFilters", [])
            if not filters or any_matches(filters, instance.tags):
                names.append(name)
        return {"instanceNames": names}

    def get_on_premises_instance(self, **params: Any) -> dict[str, Any]:
        """Describe an instance."""
        (instance,) = self._named([params["instanceName"]])
        return {"instanceInfo": _info(instance)}

    def batch_get_on_premises_instances(self, **params: Any) -> dict[str, Any]:
        """Describe several instances."""
        return {"instanceInfos": [_info(instance) for instance in self._named(params["instanceNames"])]}

    def shut_down_hosts(self) -> None:
        """Shut all hosts down at once, and wait."""
        shut_down([*self.state.instances.values(), *self.state.ec2_instances.values()])

    def _named(self, names: list[str]) -> list[Instance]:
        if not names:
            raise AwsError("InstanceNameRequiredException", "Name at least one instance.")
        for name in names:
            if name not in self.state.instances:
                raise AwsError("InstanceNotRegisteredException", f"{name} is not registered")
        return [self.state.instances[name] for name in names]


def shut_down(instances: list[Instance]) -> None:
    """Shut hosts down, all at once, and wait; their files stay."""
    threads = [
        threading.Thread(target=instance.host.shut_down, args=(_SHUTDOWN_SECONDS,))
        for instance in instances
        if instance.host
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _tags(params: dict[str, Any]) -> dict[str, str]:
    if not params["tags"]:
        raise AwsError("TagRequiredException", "Give at least one tag.")
    found = {}
    for tag in params["tags"]:
        if not tag.get("Key"):
            raise AwsError("InvalidTagException", "A tag needs a Key.")
        found[tag["Key"]] = tag.get("Value", "")
    return found


def _info(instance: Instance) -> dict[str, Any]:
    return {
        "instanceName": instance.name,
        "instanceArn": instance.arn,
        "registerTime": instance.registered,
        "tags": [{"Key": key, "Value": value} for key, value in instance.tags.items()],
        **instance.iam,
    }
