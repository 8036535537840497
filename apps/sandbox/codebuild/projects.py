"""What a build project may say here, and the settings of one build made from it."""

import copy
import re
from typing import Any

from apps.sandbox.codebuild.paging import refuse_members
from apps.sandbox.codebuild.source import is_inline, split_location
from apps.sandbox.protocol import AwsError

DEFAULT_TIMEOUT_MINUTES = 60
DEFAULT_QUEUED_MINUTES = 480

_PROJECT = {
    "name",
    "description",
    "source",
    "secondarySources",
    "sourceVersion",
    "secondarySourceVersions",
    "artifacts",
    "secondaryArtifacts",
    "cache",
    "environment",
    "serviceRole",
    "timeoutInMinutes",
    "queuedTimeoutInMinutes",
    "encryptionKey",
    "tags",
    "logsConfig",
}
_SOURCE = {"type", "location", "buildspec", "sourceIdentifier"}
_ARTIFACTS = {"type", "location", "path", "namespaceType", "name", "packaging", "encryptionDisabled"}
_ARTIFACTS |= {"artifactIdentifier"}
_ENVIRONMENT = {"type", "image", "computeType", "environmentVariables", "imagePullCredentialsType"}
_LOGS = {"cloudWatchLogs", "s3Logs"}
_OVERRIDES = {
    # StartBuild's member → where it goes in the settings
    "sourceVersion": ("sourceVersion",),
    "sourceTypeOverride": ("source", "type"),
    "sourceLocationOverride": ("source", "location"),
    "buildspecOverride": ("source", "buildspec"),
    "artifactsOverride": ("artifacts",),
    "secondarySourcesOverride": ("secondarySources",),
    "secondarySourcesVersionOverride": ("secondarySourceVersions",),
    "secondaryArtifactsOverride": ("secondaryArtifacts",),
    "environmentTypeOverride": ("environment", "type"),
    "imageOverride": ("environment", "image"),
    "computeTypeOverride": ("environment", "computeType"),
    "imagePullCredentialsTypeOverride": ("environment", "imagePullCredentialsType"),
    "cacheOverride": ("cache",),
    "serviceRoleOverride": ("serviceRole",),
    "timeoutInMinutesOverride": ("timeoutInMinutes",),
    "queuedTimeoutInMinutesOverride": ("queuedTimeoutInMinutes",),
    "encryptionKeyOverride": ("encryptionKey",),
    "logsConfigOverride": ("logsConfig",),
}


def checked_project(members: dict[str, Any]) -> dict[str, Any]:
    """Return a project's members with defaults; refuse what this sandbox would ignore.

    The image is kept but not pulled: builds run on this machine. Of a LOCAL cache the mode LOCAL_CUSTOM_CACHE
    keeps files; the others are for Git sources and Docker layers, of which there are none here.
    """
    refuse_members(members, _PROJECT, "these members of a project")
    project = copy.deepcopy(members)
    project.setdefault("timeoutInMinutes", DEFAULT_TIMEOUT_MINUTES)
    project.setdefault("queuedTimeoutInMinutes", DEFAULT_QUEUED_MINUTES)
    project.setdefault("cache", {"type": "NO_CACHE"})
    project.setdefault("tags", [])
    project.setdefault("encryptionKey", "alias/aws/s3")
    check_settings(project)
    return project


def check_settings(settings: dict[str, Any]) -> None:
    """Refuse sources, artifacts, environments, caches and logs that cannot work here."""
    _check_source(settings["source"])
    _check_artifacts(settings["artifacts"])
    _check_secondary(settings)
    _check_environment(settings["environment"])
    _check_cache(settings["cache"])
    logs = settings.get("logsConfig") or {}
    refuse_members(logs, _LOGS, "in logsConfig")
    s3_logs = logs.get("s3Logs") or {}
    if s3_logs.get("status") == "ENABLED" and not s3_logs.get("location"):
        raise _invalid("Invalid logs config: S3 logs need a location, bucket/prefix.")


def start_settings(project: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of one build: the project's, changed by StartBuild's overrides."""
    known = {*_OVERRIDES, "projectName", "environmentVariablesOverride", "idempotencyToken"}
    refuse_members(overrides, known, "these parameters of StartBuild")
    settings = copy.deepcopy(project)
    for member, path in _OVERRIDES.items():
        if member in overrides:
            target = settings
            for part in path[:-1]:
                target = target[part]
            target[path[-1]] = overrides[member]
    # A variable that is overridden keeps its place in the list, as BatchGetBuilds shows it.
    variables = {v["name"]: v for v in settings["environment"].get("environmentVariables", [])}
    variables |= {v["name"]: v for v in overrides.get("environmentVariablesOverride", [])}
    settings["environment"]["environmentVariables"] = [{"type": "PLAINTEXT", **v} for v in variables.values()]
    check_settings(settings)
    return settings


def _check_source(source: dict[str, Any]) -> None:
    refuse_members(source, _SOURCE, "in source")
    if source["type"] == "NO_SOURCE":
        if not is_inline(source.get("buildspec", "")):
            raise _invalid(
                "Invalid project source: a buildspec must be given inline when there is no source."
            )
        return
    if source["type"] != "S3":
        raise _invalid(f"The sandbox does not support the source type {source['type']}; use S3 or NO_SOURCE.")
    bucket, key = split_location(source.get("location", ""))
    if not bucket or not key or key.endswith("/"):
        raise _invalid("Invalid project source: location must be bucket/path/to/archive.zip.")


def _check_secondary(settings: dict[str, Any]) -> None:
    sources, artifacts = settings.get("secondarySources", []), settings.get("secondaryArtifacts", [])
    for items, key in ((sources, "sourceIdentifier"), (artifacts, "artifactIdentifier")):
        names = [item.get(key, "") for item in items]
        for name in names:
            if not re.fullmatch(r"[A-Za-z0-9_]{1,127}", name) or names.count(name) > 1:
                raise _invalid(f"Invalid {key} {name!r}: each has one of its own, of letters, digits and _.")
    for source in sources:
        if source["type"] != "S3":
            raise _invalid(
                f"The sandbox does not support the secondary source type {source['type']}; use S3."
            )
        _check_source(source)
    for each in artifacts:
        if each["type"] != "S3":
            raise _invalid(
                f"The sandbox does not support secondary artifacts of type {each['type']}; use S3."
            )
        _check_artifacts(each)
    known = {source["sourceIdentifier"] for source in sources}
    for version in settings.get("secondarySourceVersions", []):
        if version["sourceIdentifier"] not in known:
            raise _invalid(f"There is no secondary source {version['sourceIdentifier']}.")


def _check_cache(cache: dict[str, Any]) -> None:
    if cache["type"] == "S3" and not split_location(cache.get("location", ""))[0]:
        raise _invalid("Invalid cache: location must name a bucket, or bucket/prefix.")
    if cache["type"] == "LOCAL" and not cache.get("modes"):
        raise _invalid("Invalid cache: a LOCAL cache needs modes, such as LOCAL_CUSTOM_CACHE.")


def _check_artifacts(artifacts: dict[str, Any]) -> None:
    refuse_members(artifacts, _ARTIFACTS, "in artifacts")
    if artifacts["type"] == "CODEPIPELINE":
        raise _invalid("The sandbox does not support artifacts of type CODEPIPELINE; use S3 or NO_ARTIFACTS.")
    if artifacts["type"] == "S3" and not artifacts.get("location"):
        raise _invalid("Invalid artifacts: location must name a bucket.")


def _check_environment(environment: dict[str, Any]) -> None:
    refuse_members(environment, _ENVIRONMENT, "in environment")
    if environment["type"] not in ("LINUX_CONTAINER", "ARM_CONTAINER"):
        raise _invalid(f"The sandbox does not support the environment type {environment['type']}.")
    for variable in environment.get("environmentVariables", []):
        name = variable["name"]
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise _invalid(f"Invalid environment variable name: {name!r}.")
        if name.startswith("CODEBUILD_"):
            raise _invalid(f"Environment variable {name}: names beginning with CODEBUILD_ are reserved.")
        if "\0" in variable["value"]:
            raise _invalid(f"Environment variable {name}: a value cannot hold a NUL character.")
        if variable.get("type") == "SECRETS_MANAGER":
            raise _invalid(f"Environment variable {name}: the sandbox has no Secrets Manager.")


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidInputException", message)
