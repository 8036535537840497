"""Appspecs for Amazon ECS and AWS Lambda: one resource, and Lambda functions as hooks. No agent reads them.

https://docs.aws.amazon.com/codedeploy/latest/userguide/reference-appspec-file-structure-resources.html
"""

from __future__ import annotations

import re

from .document import Document, Mapping, Node, Scalar, Sequence, is_null, key_text, plain
from .duplicates import note_duplicates, note_second_document
from .findings import Findings, closest, quoted
from .ruby import text_of

_EVENTS = {
    "AWS::ECS::Service": (
        "BeforeInstall",
        "AfterInstall",
        "AfterAllowTestTraffic",
        "BeforeAllowTraffic",
        "AfterAllowTraffic",
    ),
    "AWS::Lambda::Function": ("BeforeAllowTraffic", "AfterAllowTraffic"),
}
_PROPERTIES = {
    "AWS::ECS::Service": (
        "TaskDefinition",
        "LoadBalancerInfo",
        "PlatformVersion",
        "NetworkConfiguration",
        "CapacityProviderStrategy",
    ),
    "AWS::Lambda::Function": ("Name", "Alias", "CurrentVersion", "TargetVersion"),
}
_REQUIRED = {
    "AWS::ECS::Service": ("TaskDefinition", "LoadBalancerInfo"),
    "AWS::Lambda::Function": ("Name", "Alias", "CurrentVersion", "TargetVersion"),
}
_SECTIONS = ("version", "Resources", "Hooks")
_EXAMPLES = {
    "TaskDefinition": "TaskDefinition: <TASK_DEFINITION>",
    "LoadBalancerInfo": "LoadBalancerInfo: {ContainerName: web, ContainerPort: 80}",
    "Name": "Name: my-function",
    "Alias": "Alias: live",
    "CurrentVersion": 'CurrentVersion: "1"',
    "TargetVersion": 'TargetVersion: "2"',
}


def is_for_resources(document: Document) -> bool:
    """Whether this is meant for ECS or Lambda and not for a server's agent."""
    return isinstance(document.root, Mapping) and document.root.get("Resources") is not None


def check_resources(document: Document, findings: Findings) -> None:
    """Find what CodeDeploy refuses of an appspec for ECS or Lambda."""
    root = document.root
    if not isinstance(root, Mapping):
        return
    note_second_document(document, findings)
    note_duplicates(root, findings)
    for key, _ in root.pairs:
        word = key_text(key)
        if word not in _SECTIONS:
            meant = closest(word, _SECTIONS)
            findings.warn(
                "unknown-key",
                key,
                f"The key {quoted(word)} has no effect for ECS and Lambda.",
                f"Did you mean {meant}?" if meant else f"Remove it; known here are {', '.join(_SECTIONS)}.",
            )
    _version(root, findings)
    kind = _resources(root.get("Resources"), findings)
    _hooks(root.get("Hooks"), kind, findings)


def _version(root: Mapping, findings: Findings) -> None:
    node = root.get("version")
    value = plain(node)
    try:
        if not isinstance(value, bool) and float(str(value)) == 0:
            return
    except ValueError:
        pass
    findings.error(
        "version",
        node or root,
        "version is missing."
        if node is None
        else f"version is {quoted(text_of(node))}, and CodeDeploy takes 0.0 alone.",
        "Write it as a number, first in the file: version: 0.0",
    )


def _resources(node: Node | None, findings: Findings) -> str:
    """The type of the resource, or nothing where it is not known."""
    form = "Write: Resources:, and below it one item: - TargetService:, with Type and Properties below it."
    if not isinstance(node, Sequence):
        if node is not None:
            findings.error("resources-form", node, "Resources must be a list of one resource.", form)
        return ""
    if len(node.items) != 1:
        at = node.items[1] if node.items else node
        what = "more than one resource" if node.items else "no resource"
        findings.error("one-resource", at, f"Resources has {what}; a deployment has exactly one.", form)
    kind = ""
    for item in node.items:
        if not isinstance(item, Mapping) or len(item.pairs) != 1:
            findings.error("resources-form", item, "A resource must be a map of one name to its Type.", form)
            continue
        ((name, resource),) = item.pairs
        if not isinstance(resource, Mapping):
            findings.error(
                "resources-form",
                name,
                f"The resource {quoted(key_text(name))} has no Type and Properties.",
                form,
            )
            continue
        kind = _resource(name, resource, findings) or kind
    return kind


def _resource(name: Node, resource: Mapping, findings: Findings) -> str:
    node = resource.get("Type")
    kind = text_of(node)
    if kind not in _PROPERTIES:
        meant = closest(kind, _PROPERTIES)
        findings.error(
            "resource-type",
            node or name,
            f"The Type {quoted(kind)} is nothing that CodeDeploy deploys."
            if kind
            else "The resource has no Type.",
            f"Write: Type: {meant or ' or '.join(_PROPERTIES)}",
        )
        return ""
    properties = resource.get("Properties")
    if not isinstance(properties, Mapping):
        findings.error(
            "resource-properties",
            properties or name,
            "The resource has no Properties.",
            f"Write below Properties: {', '.join(_REQUIRED[kind])}",
        )
        return kind
    for key, _ in properties.pairs:
        word = key_text(key)
        if word not in _PROPERTIES[kind]:
            meant = closest(word, _PROPERTIES[kind])
            findings.warn(
                "unknown-key",
                key,
                f"The property {quoted(word)} is not one of {kind}.",
                f"Did you mean {meant}?" if meant else f"Known are {', '.join(_PROPERTIES[kind])}.",
            )
    for required in _REQUIRED[kind]:
        value = properties.get(required)
        if value is None or is_null(value) or _is_empty(value):
            findings.error(
                "property-missing",
                value or properties,
                f"{required} is missing: CodeDeploy needs it for {kind}.",
                f"Write: {_EXAMPLES[required]}",
            )
    if kind == "AWS::ECS::Service":
        _load_balancer(properties.get("LoadBalancerInfo"), findings)
    return kind


def _is_empty(node: Node) -> bool:
    return isinstance(node, Scalar) and not node.text.strip()


def _load_balancer(node: Node | None, findings: Findings) -> None:
    if node is None or is_null(node):
        return
    if not isinstance(node, Mapping):
        findings.error(
            "resources-form",
            node,
            "LoadBalancerInfo must be a map.",
            f"Write: {_EXAMPLES['LoadBalancerInfo']}",
        )
        return
    for key, example in (("ContainerName", "web"), ("ContainerPort", "80")):
        value = node.get(key)
        if value is None or is_null(value):
            findings.error(
                "property-missing",
                node,
                f"{key} is missing in LoadBalancerInfo.",
                f"Write: {key}: {example}",
            )
    port = node.get("ContainerPort")
    if not isinstance(port, Scalar) or port.tag in ("int", "null"):
        return
    digits = re.fullmatch(r"\d{1,5}", port.text)
    findings.warn(
        "port-is-text",
        port,
        f"ContainerPort is the text {quoted(port.text)}; CodeDeploy documents a number.",
        f"Write the number without quotes: ContainerPort: {port.text if digits else '80'}",
    )


def _hooks(node: Node | None, kind: str, findings: Findings) -> None:
    if node is None or is_null(node):
        return
    form = "Write: Hooks:, and below it a list: - BeforeAllowTraffic: NAME_OF_A_LAMBDA_FUNCTION"
    if not isinstance(node, Sequence):
        findings.error("hook-form", node, "Hooks must be a list of events with a Lambda function each.", form)
        return
    known = _EVENTS.get(kind) or _EVENTS["AWS::ECS::Service"]
    for item in node.items:
        if not isinstance(item, Mapping):
            findings.error("hook-form", item, "A hook must be a map of an event to a Lambda function.", form)
            continue
        for key, value in item.pairs:
            event = key_text(key)
            if event not in known:
                meant = closest(event, known)
                findings.error(
                    "unknown-event",
                    key,
                    f"There is no lifecycle event {quoted(event)} for {kind or 'this resource'}.",
                    f"Did you mean {meant}?" if meant else f"Known events are {', '.join(known)}.",
                )
            elif not isinstance(value, Scalar) or not value.text.strip():
                findings.error("hook-form", key, f"The hook {event} names no Lambda function.", form)
