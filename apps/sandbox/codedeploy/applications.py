"""Operations on applications and their revisions."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from apps.sandbox.protocol import AwsError

from .state import Application, Group, State, now, refuse_unsupported

_BATCH_LIMIT = 25
_NEVER = datetime.min.replace(tzinfo=UTC)
BUNDLE_TYPES = ("tar", "tgz", "zip")


class ApplicationOperations:
    """CreateApplication and its like."""

    state: State

    def create_application(self, **params: Any) -> dict[str, Any]:
        """Make an application for EC2/on-premises deployments."""
        refuse_unsupported("CreateApplication", params, ("applicationName", "computePlatform"))
        if params.get("computePlatform", "Server") != "Server":
            raise AwsError(
                "UnsupportedOperationException",
                f"The sandbox's CodeDeploy has no {params['computePlatform']} platform, only Server.",
            )
        name = params["applicationName"]
        with self.state.lock:
            if name in self.state.applications:
                raise AwsError("ApplicationAlreadyExistsException", f"Application already exists: {name}")
            application = self.state.applications[name] = Application(name)
        return {"applicationId": application.id}

    def get_application(self, **params: Any) -> dict[str, Any]:
        """Describe an application."""
        application = self.state.application(params["applicationName"])
        return {
            "application": {
                "applicationId": application.id,
                "applicationName": application.name,
                "createTime": application.created,
                "linkedToGitHub": False,
                "computePlatform": "Server",
            }
        }

    def list_applications(self, **params: Any) -> dict[str, Any]:
        """Name every application."""
        return {"applications": sorted(self.state.applications)}

    def delete_application(self, **params: Any) -> dict[str, Any]:
        """Forget an application; forgetting one that does not exist is no error."""
        with self.state.lock:
            self.state.applications.pop(params["applicationName"], None)
        return {}

    def register_application_revision(self, **params: Any) -> dict[str, Any]:
        """Make a revision known without deploying it."""
        revision = check_revision(params["revision"])
        with self.state.lock:
            application = self.state.application(params["applicationName"])
            remember_revision(application, revision, params.get("description"))
        return {}

    def get_application_revision(self, **params: Any) -> dict[str, Any]:
        """Describe a revision that was registered or deployed."""
        application = self.state.application(params["applicationName"])
        known = application.revisions.get(_key(params["revision"]))
        if known is None:
            raise AwsError("RevisionDoesNotExistException", "The revision is not registered.")
        return {
            "applicationName": application.name,
            "revision": known["revision"],
            "revisionInfo": known["info"],
        }

    def batch_get_application_revisions(self, **params: Any) -> dict[str, Any]:
        """Describe several revisions; the errorMessage says if some are not known."""
        revisions = params["revisions"]
        if not revisions:
            raise AwsError("RevisionRequiredException", "Give at least one revision.")
        if len(revisions) > _BATCH_LIMIT:
            raise AwsError("BatchLimitExceededException", f"At most {_BATCH_LIMIT} revisions may be given.")
        application = self.state.application(params["applicationName"])
        found = [
            application.revisions[key] for each in revisions if (key := _key(each)) in application.revisions
        ]
        missing = len(revisions) - len(found)
        return {
            "applicationName": application.name,
            "errorMessage": f"{missing} of the revisions are not registered." if missing else None,
            "revisions": [
                {"revisionLocation": known["revision"], "genericRevisionInfo": known["info"]}
                for known in found
            ],
        }

    def list_application_revisions(self, **params: Any) -> dict[str, Any]:
        """Name an application's revisions, by bucket, key and use, sorted by a time."""
        bucket, prefix = params.get("s3Bucket"), params.get("s3KeyPrefix")
        if prefix and not bucket:
            raise AwsError("BucketNameFilterRequiredException", "With an s3KeyPrefix give an s3Bucket.")
        with self.state.lock:
            application = self.state.application(params["applicationName"])
            current = [group.target_revision for group in application.groups.values()]
            deployed = params.get("deployed", "ignore")
            found = [
                known
                for known in application.revisions.values()
                if bucket in (None, known["revision"]["s3Location"]["bucket"])
                and known["revision"]["s3Location"]["key"].startswith(prefix or "")
                # "deployed" means that it is the target revision of a group.
                and (deployed == "ignore" or (known["revision"] in current) == (deployed == "include"))
            ]
        if sort := params.get("sortBy"):
            found.sort(key=lambda known: known["info"].get(sort, _NEVER))
            if params.get("sortOrder") == "descending":
                found.reverse()
        return {"revisions": [known["revision"] for known in found]}


def check_revision(revision: dict[str, Any] | None) -> dict[str, Any]:
    """Return a revision the agent can download. Raises AwsError for any other."""
    if not revision:
        raise AwsError("RevisionRequiredException", "A revision must be specified.")
    kind = revision.get("revisionType")
    if kind != "S3":
        if kind is None:
            raise AwsError("InvalidRevisionException", "The revision has no revisionType.")
        raise AwsError(
            "UnsupportedOperationException",
            f"The sandbox's CodeDeploy deploys revisions of type S3 only, not {kind}.",
        )
    location = revision.get("s3Location") or {}
    if missing := [key for key in ("bucket", "key", "bundleType") if not location.get(key)]:
        raise AwsError("InvalidRevisionException", f"The s3Location lacks {', '.join(missing)}.")
    if location["bundleType"] not in BUNDLE_TYPES:
        raise AwsError(
            "InvalidRevisionException",
            f"bundleType {location['bundleType']} is not for EC2/on-premises; use {', '.join(BUNDLE_TYPES)}.",
        )
    return revision


def remember_revision(
    application: Application, revision: dict[str, Any], description: str | None, group: Group | None = None
) -> None:
    """Note a revision, and its use by a group."""
    known = application.revisions.setdefault(
        _key(revision),
        {"revision": revision, "info": {"deploymentGroups": [], "registerTime": now()}},
    )["info"]
    if description is not None:
        known["description"] = description
    if group is not None:
        known.setdefault("firstUsedTime", now())
        known["lastUsedTime"] = now()
        if group.name not in known["deploymentGroups"]:
            known["deploymentGroups"].append(group.name)


def _key(revision: dict[str, Any]) -> str:
    return json.dumps(revision, sort_keys=True)
