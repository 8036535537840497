"""Check that the ledger is as it was written."""

import json
import sys
from dataclasses import replace
from typing import Any

from django.core.management.base import CommandError, CommandParser

from apps.aws.errors import AwsError
from apps.catalog.heads import Comparison, compare
from apps.catalog.models import Service
from apps.commands import DomainCommand
from apps.ledger.verify import Verification, find_chains, verify_chain


class Command(DomainCommand):
    help = (
        "Read the ledger's chain of each SERVICE (of all, if none is named), compare it with the heads that "
        "were copied to S3, and say whether it is whole or where it was changed, is missing an entry or was "
        "reordered, one line per chain. NOT found: what was changed at the end of a chain before its next "
        "head was copied, within a minute or so, and with --offline also entries removed from the end and "
        "history written anew with new hashes. Ends with 0 if all are whole, with 1 if any is broken, with 2 "
        "if they could not be checked or compared."
    )
    # 1 says that somebody tampered with the ledger; that it could not be read must not.
    failure_code = 2

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("services", nargs="*", metavar="SERVICE", help="a service's slug")
        parser.add_argument("--json", action="store_true", help="print one JSON object per chain and line")
        parser.add_argument("--offline", action="store_true", help="do not compare with the heads in S3")

    def handle(self, *args: Any, **options: Any) -> None:
        tell = as_json if options["json"] else as_text
        services = {service.slug: service for service in Service.objects.all()}
        whole = compared = True
        for chain in find_chains(options["services"], expected=services):
            found, comparison = verify_chain(chain=chain), None
            if found.broken is None and not options["offline"]:
                try:
                    comparison = self.compare(found, services.get(chain))
                    found = replace(found, broken=comparison.broken)
                except AwsError as error:
                    compared = False
                    self.stderr.write(f"{chain}: not compared with S3: {error}")
            whole = whole and found.broken is None
            self.stdout.write(tell(found, comparison))
        if not whole:
            sys.exit(1)
        if not compared:
            raise CommandError("Whole in themselves, but not all could be compared with their heads in S3.")

    def compare(self, found: Verification, service: Service | None) -> Comparison:
        if service is None:
            raise AwsError(
                f"there is no service {found.chain}, so its bucket is not known",
                retryable=False,
                code="NoService",
            )
        return compare(service, found)


def as_text(found: Verification, comparison: Comparison | None) -> str:
    entries = f"{found.entries} entr{'y' if found.entries == 1 else 'ies'}"
    if broken := found.broken:
        where = f"BROKEN at {broken.sequence}, {broken.kind}"
        return f"{found.chain}: {where}: {broken.detail} Whole before: {entries}."
    heads = ""
    if comparison and comparison.newest:
        s = "" if comparison.heads == 1 else "s"
        heads = f", as {comparison.heads} head{s} in S3 up to entry {comparison.newest.sequence}"
    elif comparison:
        heads = ", no head in S3 yet"
    return f"{found.chain}: whole, {entries}, last hash {found.head}{heads}"


def as_json(found: Verification, comparison: Comparison | None) -> str:
    broken = found.broken
    return json.dumps(
        {
            "service": found.chain,
            "whole": broken is None,
            "entries": found.entries,
            "last_hash": found.head,
            "heads": comparison and comparison.heads,
            "newest_head": comparison and comparison.newest and comparison.newest.sequence,
            "broken_at": broken and broken.sequence,
            "kind": broken and broken.kind,
            "detail": broken and broken.detail,
        }
    )
