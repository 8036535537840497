"""Copies of the ledger's heads in S3: a chain in one database proves nothing against the database's owner.

A head is the last entry of a chain when it was copied: an object under ledger/SERVICE/heads/ in the service's
bucket whose name says all, so that a listing is enough to compare. None is ever written over.
"""

import hashlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from apps.aws import s3
from apps.aws.errors import AwsError
from apps.catalog.models import LedgerCopy, Service
from apps.leases import Lease
from apps.ledger.models import Entry
from apps.ledger.verify import Break, Kind, Verification

# What is written within that time of a copy could be changed unnoticed by whoever can switch triggers off.
COPY_EVERY = timedelta(minutes=1)
NAME = re.compile(r"(?P<sequence>[0-9]{12})-(?P<hash>[0-9a-f]{64})\.json")


@dataclass(frozen=True)
class Head:
    """That this entry of the chain had this hash, at the latest when S3 took it."""

    sequence: int
    hash: str
    copied_at: datetime | None


@dataclass(frozen=True)
class Comparison:
    """A chain beside the heads that were copied from it."""

    heads: int
    newest: Head | None
    broken: Break | None


def folder_of(service: Service) -> str:
    """Where the heads of a service's chain are in its bucket."""
    return f"ledger/{service.slug}/heads/"


def begin_copies() -> None:
    """Have a LedgerCopy for each service."""
    if missing := list(Service.objects.filter(ledger_copy=None)):
        LedgerCopy.objects.bulk_create([LedgerCopy(service=each) for each in missing], ignore_conflicts=True)


def copy_head(*, copy: LedgerCopy, lease: Lease) -> timedelta:
    """Put the chain's head into S3 and note how far that was; returns when to come again."""
    service = copy.service
    head = Entry.objects.filter(chain=service.slug).order_by("sequence").last()
    if head is None:
        return COPY_EVERY
    about = {"service": service.slug, "sequence": head.sequence, "hash": head.hash, "at": head.at.isoformat()}
    body = json.dumps(about).encode()
    try:
        s3.put_if_absent(
            bucket=service.bucket,
            key=f"{folder_of(service)}{head.sequence:012d}-{head.hash}.json",
            body=io.BytesIO(body),
            sha256=hashlib.sha256(body).hexdigest(),
        )
    except AwsError as error:
        if error.code != "PreconditionFailed":
            raise
        # A worker that was killed before it could note it.
    lease.update(sequence=head.sequence)
    return COPY_EVERY


def read_heads(service: Service) -> Iterator[Head]:
    """The heads in S3, oldest first; AwsError where S3 does not answer."""
    for found in s3.list_objects(bucket=service.bucket, prefix=folder_of(service)):
        if name := NAME.fullmatch(found.key.removeprefix(folder_of(service))):
            yield Head(int(name["sequence"]), name["hash"], found.modified_at)


def compare(service: Service, found: Verification) -> Comparison:
    """Hold a chain that is whole in itself against its heads in S3; AwsError where S3 does not answer.

    Finds what a chain cannot show of itself: entries removed from its end, the whole of it removed, and
    history written anew with new hashes.
    """
    count, newest = 0, None
    copied_heads = read_heads(service)
    while heads := list(islice(copied_heads, 1000)):
        count, newest = count + len(heads), heads[-1]
        numbers = [head.sequence for head in heads]
        entries = dict(
            Entry.objects.filter(chain=service.slug, sequence__in=numbers).values_list("sequence", "hash")
        )
        for head in heads:
            when = f" on {head.copied_at:%Y-%m-%d %H:%M} UTC" if head.copied_at else ""
            if head.sequence not in entries:
                detail = f"It was copied to S3{when}; the chain ends at {found.entries}."
                return Comparison(count, newest, Break(head.sequence, Kind.MISSING, detail))
            if entries[head.sequence] != head.hash:
                detail = (
                    f"It was copied to S3{when} with another hash: the chain was written anew up to here."
                )
                return Comparison(count, newest, Break(head.sequence, Kind.CHANGED, detail))
    return Comparison(count, newest, None)
