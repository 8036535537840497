"""Appends to the ledger per second, by 1 and by 50 writers, to one chain and to 50, against plain INSERTs.

Each writer is a process with a connection of its own, as a worker of gunicorn is, and commits each entry by
itself: `record` in a transaction. Against it stands the limit: one INSERT of the same row, computed before,
in autocommit, with no lock, no look at the last entry and no hash. Both write to the same table, with its
indexes and triggers, in turns. Afterwards every chain is verified.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from bench import _django

_django.set_up()

from django.db import connection, connections, transaction
from django.utils import timezone

from apps.ledger.hashing import GENESIS
from apps.ledger.models import Entry
from apps.ledger.services import record
from apps.ledger.verify import verify_chain

CASES = ((1, 1), (1, 50), (50, 1), (50, 50))  # writers, chains
# As of an approval.
DATA = {"comment": "Looked at the failures: they are known.", "release": "1.4.2+0f3a9c81d2b7"}
INSERT = (
    "INSERT INTO ledger_entry (chain, sequence, at, actor_id, action, subject, data, previous_hash, hash) "
    "VALUES (%s, %s, %s, NULL, 'promotion.approved', 'promotion:17', %s, %s, %s)"
)
PATIENCE_S = 120.0


def append(chain: str, number: int) -> None:
    """What a service does at the end of its transaction."""
    with transaction.atomic():
        record(chain=chain, action="promotion.approved", subject="promotion:17", data=DATA)


def insert(chain: str, number: int) -> None:
    """The same row as a plain INSERT."""
    row = (f"plain-{chain}", number, timezone.now(), json.dumps(DATA), GENESIS, GENESIS)
    with connection.cursor() as cursor:
        cursor.execute(INSERT, row)


def write(
    act: Callable[[str, int], None], writer: int, writers: int, chains: int, each: int, label: str, start: Any
) -> None:
    """One writer, from chain to chain; numbers are its own, so that plain rows do not collide."""
    connection.ensure_connection()
    start.wait(PATIENCE_S)
    for number in range(each):
        act(f"{label}-{(writer + number) % chains}", writer * each + number)
    connection.close()


def per_second(
    act: Callable[[str, int], None], *, writers: int, chains: int, entries: int, label: str
) -> float:
    """Rows per second of all writers together, from the moment when all are connected."""
    context = multiprocessing.get_context("fork")
    start = context.Barrier(writers + 1)
    # A connection that a child inherits would be shared with it.
    connections.close_all()
    each = entries // writers
    processes = [
        context.Process(target=write, args=(act, writer, writers, chains, each, label, start))
        for writer in range(writers)
    ]
    for process in processes:
        process.start()
    start.wait(PATIENCE_S)
    began = time.perf_counter()
    for process in processes:
        process.join(PATIENCE_S)
    seconds = time.perf_counter() - began
    assert all(process.exitcode == 0 for process in processes), "a writer failed"
    return each * writers / seconds


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench ledger", description=__doc__)
    parser.add_argument("--entries", type=int, default=4000, help="of each run; 4,000 unless given")
    parser.add_argument("--rounds", type=int, default=3, help="of each case; 3 unless given")
    options = parser.parse_args()
    figures = []
    print(f"{'writers':>7}{'chains':>8}{'appends/s':>12}{'INSERTs/s':>12}{'ratio':>8}")
    for writers, chains in CASES:
        ours, plain = [], []
        for number in range(options.rounds):
            shape = {"writers": writers, "chains": chains, "entries": options.entries}
            label = f"w{writers}-c{chains}-r{number}"
            plain.append(per_second(insert, label=label, **shape))
            ours.append(per_second(append, label=label, **shape))
        figure = {
            "writers": writers,
            "chains": chains,
            "appends_per_s": round(statistics.median(ours)),
            "inserts_per_s": round(statistics.median(plain)),
            "ratio_to_insert": round(statistics.median(plain) / statistics.median(ours), 2),
        }
        figures.append(figure)
        print(
            f"{writers:>7}{chains:>8}{figure['appends_per_s']:>12,}{figure['inserts_per_s']:>12,}"
            f"{figure['ratio_to_insert']:>8}"
        )
    began = time.perf_counter()
    ours_only = Entry.objects.exclude(chain__startswith="plain-").order_by("chain")
    written = ours_only.values_list("chain", flat=True).distinct()
    found = [verify_chain(chain=chain) for chain in written]
    broken = [each.broken for each in found if each.broken]
    entries, seconds = sum(each.entries for each in found), time.perf_counter() - began
    print(f"{len(found)} chains with {entries:,} entries verified in {seconds:.1f} s, {len(broken)} broken")
    verified = {"entries": entries, "broken": len(broken), "verified_per_s": round(entries / seconds)}
    print(json.dumps({"bench": "ledger", "cases": figures, **verified}))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
