"""What somebody with the database's own rights can do to the ledger."""
# ruff: noqa: S608  (only the tests' own numbers go into the SQL)

from django.db import connection

from apps.ledger.models import Entry
from apps.ledger.services import record


def make_chain(chain: str = "web", length: int = 5) -> list[Entry]:
    """A chain of this many entries."""
    return [
        record(chain=chain, action="a.b", subject=f"c:{number}", data={"number": number})
        for number in range(1, length + 1)
    ]


def tamper(*statements: str) -> None:
    """Run SQL with the triggers off that refuse it; for tests inside a transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # ALTER TABLE wants no pending checks
        cursor.execute("ALTER TABLE ledger_entry DISABLE TRIGGER USER")
        for statement in statements:
            cursor.execute(statement)
            assert cursor.rowcount, f"changed nothing: {statement}"
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE ledger_entry ENABLE TRIGGER USER")
        # Off in the tests' database, see tests/conftest.py.
        cursor.execute("ALTER TABLE ledger_entry DISABLE TRIGGER ledger_entry_no_truncate")


def update(what: str, sequence: int = 3) -> str:
    """SQL that changes an entry of the chain web."""
    return f"UPDATE ledger_entry SET {what} WHERE chain = 'web' AND sequence = {sequence}"


def delete(*sequences: int) -> str:
    """SQL that removes entries of the chain web."""
    return f"DELETE FROM ledger_entry WHERE chain = 'web' AND sequence IN ({', '.join(map(str, sequences))})"


def copy(*, of: int, to: int) -> str:
    """SQL that adds an entry of the chain web once more, at another sequence."""
    columns = "chain, at, actor_id, action, subject, data, previous_hash, hash"
    return (
        f"INSERT INTO ledger_entry (sequence, {columns}) "
        f"SELECT {to}, {columns} FROM ledger_entry WHERE chain = 'web' AND sequence = {of}"
    )


def swap(one: int, other: int) -> tuple[str, ...]:
    """SQL that lets two entries of the chain web change places."""
    return (
        update("sequence = 1000", one),
        update(f"sequence = {one}", other),
        update(f"sequence = {other}", 1000),
    )
