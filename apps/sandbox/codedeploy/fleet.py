"""Which hosts a deployment goes to, and in which order."""

from __future__ import annotations

from collections.abc import Iterable

from moto.backends import get_backend

from apps.sandbox.runtime import Runtime

from .state import EVENTS, EVENTS_WITH_TRAFFIC, Group, Instance, LifecycleEvent, State, Target


def running_ec2_instances(runtime: Runtime) -> dict[str, dict[str, str]]:
    """The tags of EC2 instances that run, by id; moto has them in this process."""
    ec2 = get_backend("ec2")[runtime.account_id][runtime.region]
    found: dict[str, dict[str, str]] = {instance.id: {} for instance in ec2.all_running_instances()}
    for tag in ec2.describe_tags(filters={"resource-type": ["instance"]}):
        if tag["resource_id"] in found:
            found[tag["resource_id"]][tag["key"]] = tag["value"]
    return found


def instances_of(state: State, group: Group) -> list[Instance]:
    """The instances of a group, in the order in which CodeDeploy goes to them.

    First those where the last deployment failed, then those that it knows nothing of, then those with an
    older revision than the group's, then the rest; hold the state's lock.
    """
    found = [each for each in state.instances.values() if group.matches(each.tags, "onPremises")]
    ec2 = group.settings.get("ec2TagFilters") or group.settings.get("ec2TagSet")
    # moto takes its time to make up a region, so it is asked only where that matters.
    for name, tags in running_ec2_instances(state.runtime).items() if ec2 else ():
        if group.matches(tags, "ec2"):
            arn = state.runtime.arn("ec2", f"instance/{name}")
            found.append(state.ec2_instances.setdefault(name, Instance(name, arn)))
    return sorted(found, key=lambda instance: (_rank(instance, group), instance.name))


def new_targets(instances: Iterable[Instance], group: Group) -> dict[str, Target]:
    """The targets of a new deployment to a group, by id."""
    events = EVENTS_WITH_TRAFFIC if group.target_groups else EVENTS
    return {each.name: Target(each, [LifecycleEvent(event) for event in events]) for each in instances}


def forget_stopped(state: State) -> list[Instance]:
    """Take out the EC2 instances that no longer run, and return them: their hosts are to be shut down.

    Hold the state's lock.
    """
    if not state.ec2_instances:
        return []
    running = running_ec2_instances(state.runtime)
    return [state.ec2_instances.pop(name) for name in [*state.ec2_instances] if name not in running]


def _rank(instance: Instance, group: Group) -> int:
    status, revision = instance.last.get(group.id, ("", {}))
    if not status:
        return 1
    if status == "Failed":
        return 0
    current = group.last_successful
    return 3 if current and revision == current.revision else 2
