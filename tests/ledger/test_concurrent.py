"""Fifty writers at once, each with a connection of its own."""

import threading
from collections.abc import Callable

import pytest
from django.db import connection, transaction
from django.test import TransactionTestCase

from apps.ledger.models import Entry
from apps.ledger.services import record
from apps.ledger.verify import verify_chain

pytestmark = pytest.mark.integration
WRITERS = 50
EACH = 10
# For all of them together; only a deadlock takes as long.
PATIENCE_S = 120


# Of a writer's number and an act's.
Chain = Callable[[int, int], str]
Fails = Callable[[int, int], bool]


def never(writer: int, number: int) -> bool:
    return False


def every_third(writer: int, number: int) -> bool:
    return (writer + number) % 3 == 0


class ConcurrentWritersTests(TransactionTestCase):
    # One test, since tests run beside each other and a usual PostgreSQL has 100 connections for all.
    def test_fifty_writers_keep_one_chain_and_several_whole(self):
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('max_connections')::int - count(*) FROM pg_stat_activity")
            (free,) = cursor.fetchone()
        assert free > WRITERS, f"PostgreSQL has {free} connections left, see max_connections"

        with self.subTest("one chain"):
            self.write(lambda writer, number: "one")
            self.expect_whole({"one": WRITERS * EACH})

        with self.subTest("several, each writer going from one to the next"):
            self.write(lambda writer, number: f"several-{(writer + number) % 5}")
            self.expect_whole({f"several-{number}": WRITERS * EACH // 5 for number in range(5)})

        with self.subTest("acts that are rolled back leave no gap"):
            self.write(lambda writer, number: "rolled-back", fails=every_third)
            kept = sum(not every_third(writer, number) for writer in range(WRITERS) for number in range(EACH))
            self.expect_whole({"rolled-back": kept})

    def write(self, chain: Chain, fails: Fails = never) -> None:
        """Let every writer append EACH entries, each in a transaction of its own, all beginning at once."""
        # The writers' connections are all open before the first entry is written.
        start = threading.Barrier(WRITERS)
        servers: set[int] = set()
        errors: list[Exception] = []

        def work(writer: int) -> None:
            try:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_backend_pid()")
                    servers.add(cursor.fetchone()[0])
                start.wait(PATIENCE_S)
                for number in range(EACH):
                    with transaction.atomic():
                        record(
                            chain=chain(writer, number),
                            action="a.b",
                            subject=f"c:{writer}",
                            data={"number": number},
                        )
                        transaction.set_rollback(fails(writer, number))
            except Exception as error:  # the test's own thread must see it
                start.abort()
                errors.append(error)
            finally:
                connection.close()

        threads = [threading.Thread(target=work, args=(writer,), daemon=True) for writer in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert not errors, errors[0]
        assert not any(thread.is_alive() for thread in threads)
        assert len(servers) == WRITERS

    def expect_whole(self, entries: dict[str, int]) -> None:
        found = {chain: verify_chain(chain=chain) for chain in entries}
        assert {chain: each.broken for chain, each in found.items()} == dict.fromkeys(entries)
        assert {chain: each.entries for chain, each in found.items()} == entries
        # What one writer wrote stands in the order in which it wrote it.
        for chain in entries:
            last: dict[str, int] = {}
            for subject, number in (
                Entry.objects.filter(chain=chain).order_by("sequence").values_list("subject", "data__number")
            ):
                assert number > last.get(subject, -1)
                last[subject] = number
