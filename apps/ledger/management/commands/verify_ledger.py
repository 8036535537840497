"""Check that the ledger is as it was written."""

import json
import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser

from apps.commands import DomainCommand
from apps.ledger.verify import Verification, find_chains, verify_chain


class Command(DomainCommand):
    help = (
        "Read the ledger's chain of each SERVICE (of all, if none is named) and say whether it is whole or "
        "where it was changed, is missing an entry or was reordered, one line per chain. NOT found: entries "
        "removed from the end of a chain, a chain removed as a whole, and a chain rewritten from some entry "
        "to its end with new hashes; for these, compare the number of entries and the last hash with those "
        "printed before. Ends with 0 if all are whole, with 1 if any is broken, with 2 if they could not be "
        "checked, such as a service that has no chain."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("services", nargs="*", metavar="SERVICE", help="a service's slug")
        parser.add_argument("--json", action="store_true", help="print one JSON object per chain and line")

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except CommandError as error:
            # 1 says that somebody tampered with the ledger; that it could not be read must not.
            error.returncode = 2
            raise

    def handle(self, *args: Any, **options: Any) -> None:
        tell = as_json if options["json"] else as_text
        whole = True
        for chain in find_chains(options["services"]):
            found = verify_chain(chain=chain)
            whole = whole and found.broken is None
            self.stdout.write(tell(found))
        if not whole:
            sys.exit(1)


def as_text(found: Verification) -> str:
    entries = f"{found.entries} entr{'y' if found.entries == 1 else 'ies'}"
    if broken := found.broken:
        where = f"BROKEN at {broken.sequence}, {broken.kind}"
        return f"{found.chain}: {where}: {broken.detail} Whole before: {entries}."
    return f"{found.chain}: whole, {entries}, last hash {found.head}"


def as_json(found: Verification) -> str:
    broken = found.broken
    return json.dumps(
        {
            "service": found.chain,
            "whole": broken is None,
            "entries": found.entries,
            "last_hash": found.head,
            "broken_at": broken and broken.sequence,
            "kind": broken and broken.kind,
            "detail": broken and broken.detail,
        }
    )
