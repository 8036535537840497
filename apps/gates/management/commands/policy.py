"""Policies as YAML: export them, compare a file with what is in force, import it."""

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from apps.access.services import get_user
from apps.catalog.models import Environment
from apps.catalog.services import get_environment, get_service
from apps.commands import DomainCommand
from apps.errors import Invalid, NotFound
from apps.gates.models import Policy
from apps.gates.policy_file import PolicyEntry, difference, read_policies, write_policies
from apps.gates.services import save_policy


class Command(DomainCommand):
    help = (
        "Policies as YAML. `export` prints those in force; `diff FILE` shows what a file would change; "
        "`import FILE` makes it so, all or nothing, as new versions. A rule, parameter or value that is not "
        "known is refused with its file and line. What a file leaves out stays. Exit codes: 0 done (diff: "
        "no difference), 1 an error (diff: there are differences), 2 diff could not compare."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="export|import|diff")
        export = verbs.add_parser("export", help="print the policies in force")
        export.add_argument("names", nargs="*", metavar="SERVICE[/ENVIRONMENT]", help="all, if none is named")
        diff = verbs.add_parser("diff", help="show what a file would change")
        diff.add_argument("file", type=Path, metavar="FILE", help="- is standard input")
        import_ = verbs.add_parser("import", help="bring the policies to what a file says")
        import_.add_argument("file", type=Path, metavar="FILE", help="- is standard input")
        import_.add_argument("--dry-run", action="store_true", help="show what would change, write nothing")
        import_.add_argument("--user", help="who changes them, for the ledger")

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except CommandError as error:
            if options["verb"] == "diff":
                # 1 says that there are differences; that nobody could tell must not.
                error.returncode = 2
            raise

    def handle(self, *args: Any, **options: Any) -> None:
        verb = options["verb"]
        if verb == "export":
            self.stdout.write(write_policies(in_force(options["names"])), ending="")
            return
        entries = read_file(options["file"])
        if verb == "diff":
            changes = [line for entry, environment in entries for line in changed(entry, environment)]
            if changes:
                self.stdout.write("\n".join(changes))
                sys.exit(1)
            return
        user = get_user(options["user"]) if options["user"] else None
        with transaction.atomic():
            for entry, environment in entries:
                if options["dry_run"]:
                    lines = changed(entry, environment)
                    self.stdout.write("\n".join(lines) if lines else f"{entry.name}: unchanged")
                    continue
                before = newest(environment)
                lists = {"rollback" if entry.rollback else "rules": entry.rules}
                after = save_policy(environment=environment, **lists, created_by=user)
                state = "unchanged" if after == before else f"v{after.version} is in force now"
                self.stdout.write(f"{entry.name}: {state}")
        if options["dry_run"]:
            self.stdout.write("Nothing was written.")


def in_force(names: list[str]) -> list[Policy]:
    """The newest policies of the services and environments named, in the order of their places."""
    policies = Policy.objects.filter(pk__in=Policy.objects.newest().values("pk"))
    if names:
        wanted: set[int] = set()
        for name in names:
            slug, slash, environment = name.partition("/")
            service = get_service(slug)
            found = (
                [get_environment(service=service, slug=environment)]
                if slash
                else list(service.environments.all())
            )
            wanted |= {each.pk for each in found}
        policies = policies.filter(environment__in=wanted)
    return list(
        policies.select_related("environment__service").order_by(
            "environment__service__slug", "environment__position", "environment__slug"
        )
    )


def read_file(path: Path) -> list[tuple[PolicyEntry, Environment]]:
    """The file's entries with the environments that they are for."""
    name = "standard input" if str(path) == "-" else str(path)
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    found = []
    for entry in read_policies(text, name=name):
        try:
            service = get_service(entry.service)
            found.append((entry, get_environment(service=service, slug=entry.environment)))
        except NotFound as error:
            raise NotFound(f"{entry.place}: {error}") from error
    return found


def newest(environment: Environment) -> Policy | None:
    return Policy.objects.filter(environment=environment).order_by("-version").first()


def changed(entry: PolicyEntry, environment: Environment) -> list[str]:
    """The diff from what is in force to what the file says."""
    before = newest(environment)
    rules = None if before is None else before.rollback if entry.rollback else before.rules
    if before is None or rules is None:
        # No policy at all and one without rules are shut alike, but the second is a version.
        old, rules = f"{entry.name} without a policy", []
        if not entry.rules:
            return [f"--- {old}", f"+++ {entry.place}", "+  []"]
    else:
        old = f"{entry.name} version {before.version}"
    return difference(rules, entry.rules, old=old, new=f"{entry.name} {entry.place}")
