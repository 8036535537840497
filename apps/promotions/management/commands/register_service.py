"""Set up a service from a file.

It lives here and not in catalog because the file holds the environments' policies and windows too.
"""

from pathlib import Path
from typing import Any

import yaml
from django.core.management.base import CommandParser
from django.db import transaction

from apps.access.services import get_user
from apps.catalog.groups import add_to_group, register_group
from apps.catalog.models import Environment
from apps.catalog.services import grant_role, keep_evidence, register_environment, register_service
from apps.commands import DomainCommand
from apps.errors import Invalid
from apps.gates.services import save_policy
from apps.gates.starter import give_starter_policy
from apps.promotions.windows import set_windows

SERVICE: dict[str, type] = {"slug": str, "name": str, "bucket": str, "codebuild_project": str}
SERVICE_MAY_HAVE: dict[str, type] = {
    "repository": str,
    "evidence_days": int,
    "environments": list,
    "members": dict,
    "groups": dict,
}
ENVIRONMENT: dict[str, type] = {"slug": str, "application": str, "deployment_group": str}

ENVIRONMENT_MAY_HAVE: dict[str, type] = {
    "upstreams": list,
    "upstream_mode": str,
    "auto_promote": bool,
    "policy": list,
    "rollback_policy": list,
    "windows": list,
}
WINDOW: dict[str, type] = {"name": str, "kind": str, "starts_at": str, "timezone": str, "minutes": int}
WINDOW_MAY_HAVE: dict[str, type] = {"rrule": str}


class Command(DomainCommand):
    help = (
        "Set up a service, its environments and their policies from FILE (YAML or JSON), all or nothing. "
        "Running it again with a changed file brings them up to date; what the file leaves out stays. An "
        "environment that has no policy gets the one to begin with. "
        "Keys: slug, name, bucket, codebuild_project, repository, evidence_days, environments (slug, "
        "application, deployment_group, upstreams, upstream_mode, auto_promote, policy, rollback_policy, "
        "windows; in deploy order), members (user name: list of roles), groups of approvers (name: list of "
        "user names). A window has name, kind, starts_at, timezone, minutes and rrule."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["file"]
        data = _read(path)
        _check(data, SERVICE, SERVICE_MAY_HAVE, str(path))
        with transaction.atomic():
            service = register_service(
                **{key: data[key] for key in SERVICE}, repository=data.get("repository", "")
            )
            if "evidence_days" in data:
                keep_evidence(service=service, days=data["evidence_days"])
            environments: dict[str, Environment] = {}
            for position, entry in enumerate(data.get("environments", [])):
                where = f"{path}: environments[{position}]"
                _check(entry, ENVIRONMENT, ENVIRONMENT_MAY_HAVE, where)
                upstreams = entry.get("upstreams", [])
                if unknown := [str(slug) for slug in upstreams if slug not in environments]:
                    raise Invalid(f"{where}: its upstream {', '.join(unknown)} is not listed before it.")
                environment = register_environment(
                    service=service,
                    **{key: entry[key] for key in ENVIRONMENT},
                    position=position,
                    upstreams=[environments[slug] for slug in upstreams],
                    auto_promote=entry.get("auto_promote", False),
                    upstream_mode=entry.get("upstream_mode", Environment.UpstreamMode.ALL),
                )
                environments[environment.slug] = environment
                state = f"policy {set_policy(environment, entry)}{_set_windows(environment, entry, where)}"
                self.stdout.write(f"{service.slug}/{environment.slug}: {state}")
            for username, roles in data.get("members", {}).items():
                user = get_user(str(username))
                for role in roles if isinstance(roles, list) else [roles]:
                    grant_role(user=user, service=service, role=str(role))
            for name, usernames in data.get("groups", {}).items():
                group = register_group(service=service, name=str(name))
                for username in usernames if isinstance(usernames, list) else [usernames]:
                    add_to_group(group=group, user=get_user(str(username)))
        self.stdout.write(f"Service {service.slug} is set up.")


def set_policy(environment: Environment, entry: dict[str, Any]) -> str:
    """Give an environment the policy of its entry, or the one to begin with; returns what is in force."""
    lists = {"rules": "policy", "rollback": "rollback_policy"}
    given = {name: entry[key] for name, key in lists.items() if key in entry}
    begun = None if "policy" in entry else give_starter_policy(environment=environment)
    if given:
        policy = save_policy(environment=environment, **given, created_by=None)
        return f"v{policy.version}"
    return "v1, the one to begin with" if begun else "unchanged"


def _set_windows(environment: Environment, entry: dict[str, Any], where: str) -> str:
    """Give an environment the windows of its entry, if it names any or none; returns what to say of it."""
    if "windows" not in entry:
        return ""
    for position, window in enumerate(entry["windows"]):
        _check(window, WINDOW, WINDOW_MAY_HAVE, f"{where}: windows[{position}]")
    try:
        changed = set_windows(environment=environment, windows=entry["windows"])
    except Invalid as error:
        raise Invalid(f"{where}: {error}") from error
    number = len(entry["windows"])
    return f", {number or 'no'} window{'' if number == 1 else 's'}{'' if changed else ' as before'}"


def _read(path: Path) -> Any:
    try:
        # JSON is YAML as well.
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} is neither YAML nor JSON: {' '.join(str(error).split())}") from error


def _check(data: Any, required: dict[str, type], optional: dict[str, type], where: str) -> None:
    if not isinstance(data, dict):
        raise Invalid(f"{where}: an object with {', '.join(required)} is expected.")
    if missing := [key for key in required if key not in data]:
        raise Invalid(f"{where}: {', '.join(missing)} is missing.")
    known = required | optional
    if unknown := [str(key) for key in data if key not in known]:
        raise Invalid(f"{where}: unknown key {', '.join(unknown)}. Known: {', '.join(known)}.")
    for key, value in data.items():
        # To Python a bool is an int, too.
        if not isinstance(value, known[key]) or (known[key] is int and isinstance(value, bool)):
            raise Invalid(f"{where}: {key} must be a {known[key].__name__}, not {value!r}.")
