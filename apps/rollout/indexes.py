"""What a broken-off CREATE INDEX CONCURRENTLY leaves behind: an INVALID index of the wanted name.

No query uses it, every write pays for it, a unique one still refuses rows, and the same statement fails on it
(or, with IF NOT EXISTS, passes and leaves it as it is). So it is dropped before the index is made again.
"""

import re
from dataclasses import dataclass

from django.db.backends.base.base import BaseDatabaseWrapper

IDENTIFIER = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'
CREATE = re.compile(
    rf"""\bCREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?P<unless>IF\s+NOT\s+EXISTS\s+)?
    (?P<name>{IDENTIFIER})\s+ON\s+(?:ONLY\s+)?(?P<table>{IDENTIFIER}(?:\s*\.\s*{IDENTIFIER})?)""",
    re.IGNORECASE | re.VERBOSE,
)
# These wait for others without anybody waiting for them.
PATIENT = re.compile(r"\b(?:CREATE|DROP|REINDEX|REFRESH|DETACH)\b[^;]*?\bCONCURRENTLY\b", re.IGNORECASE)


@dataclass(frozen=True)
class Index:
    """An index that is there; ``name`` is ready for use in SQL."""

    name: str
    table: str
    valid: bool


@dataclass(frozen=True)
class IndexBuild:
    """A CREATE INDEX CONCURRENTLY; name and table as the statement writes them."""

    name: str
    table: str
    unless_there: bool

    @classmethod
    def of(cls, sql: str) -> "IndexBuild | None":
        found = CREATE.search(sql)
        return cls(found["name"], found["table"], bool(found["unless"])) if found else None

    def existing(self, connection: BaseDatabaseWrapper) -> Index | None:
        """The index of that name on that table, unless somebody is building it right now."""
        with connection.cursor() as cursor:
            cursor.execute(
                f"{_SELECT} WHERE i.indrelid = to_regclass(%s) AND c.relname = (parse_ident(%s))[1]::name"
                f" AND {_IDLE}",
                [self.table, self.name],
            )
            row = cursor.fetchone()
        return Index(*row) if row else None


def invalid_indexes(connection: BaseDatabaseWrapper) -> list[Index]:
    """Every INVALID index of the database that nobody is building."""
    with connection.cursor() as cursor:
        cursor.execute(
            # Of a partitioned table it may be INVALID for as long as a partition lacks its own.
            f"{_SELECT} WHERE NOT i.indisvalid AND c.relkind = 'i' AND n.nspname !~ '^pg_' AND {_IDLE}"
            " ORDER BY 1 LIMIT 20"
        )
        return [Index(*row) for row in cursor.fetchall()]


def drop(connection: BaseDatabaseWrapper, index: Index) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index.name}")


_SELECT = """
    SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), i.indrelid::regclass::text, i.indisvalid
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
"""
_IDLE = "NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)"
