"""Set up a control plane: `python -m apps.sandbox.demo.register`, with its environment set.

Runs the very commands that a person would, in one process because starting Django takes a second each time.
Prints {"passwords": {user: password}, "token": secret} on standard output; what the commands say goes to
standard error.
"""

import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import django
from django.core.management import call_command

from apps.sandbox.demo.cloud import BUCKET, ENVIRONMENTS, SERVICE

PEOPLE = {"requester": "developer", "approver": "approver"}
PIPELINE = "jenkins"

ALWAYS = [
    {"rule": "built_as_defined"},
    {"rule": "required_reports", "parameters": {"groups": [f"{SERVICE}-unit"]}},
    {"rule": "evidence_complete"},
    {"rule": "max_failures", "parameters": {"maximum": 0}},
]
# What each environment asks for beyond that.
POLICIES = {
    "staging": ALWAYS,
    "production": [*ALWAYS, {"rule": "verified_upstream"}, {"rule": "approved"}],
}


def definition() -> dict[str, object]:
    """Return the service as `manage.py register_service` reads it."""
    environments = [
        {
            "slug": slug,
            "application": SERVICE,
            "deployment_group": slug,
            "upstreams": list(ENVIRONMENTS[:position][-1:]),
            "policy": POLICIES[slug],
        }
        for position, slug in enumerate(ENVIRONMENTS)
    ]
    return {
        "slug": SERVICE,
        "name": "Lockkeeper",
        "bucket": BUCKET,
        "codebuild_project": SERVICE,
        "environments": environments,
        "members": {**{user: [role] for user, role in PEOPLE.items()}, PIPELINE: ["developer"]},
    }


def command(*arguments: str, **options: Any) -> str:
    """Run a management command and return its standard output."""
    output = io.StringIO()
    call_command(*arguments, stdout=output, stderr=sys.stderr, **options)
    return output.getvalue().strip()


def main() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "backend.settings"
    django.setup()
    print(command("migrate", verbosity=0), file=sys.stderr)
    passwords = {user: command("create_user", user, "--generate-password", "--staff") for user in PEOPLE}
    command("create_user", PIPELINE, "--service-account")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(definition(), file)
        file.flush()
        print(command("register_service", str(Path(file.name))), file=sys.stderr)
    token = command("create_token", PIPELINE, "demo", "--scope", "read", "--scope", "ci", "--days", "1")
    json.dump({"passwords": passwords, "token": token}, sys.stdout)


if __name__ == "__main__":
    main()
