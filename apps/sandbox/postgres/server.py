"""A server as its users see it: an address where databases can be made."""

from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import psycopg2
from psycopg2 import sql

from .errors import PostgresError


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server, by a URL whose user may create databases."""

    url: str

    def url_of(self, name: str) -> str:
        """Return the URL of the database `name` on this server."""
        return urlsplit(self.url)._replace(path=f"/{quote(name)}").geturl()

    def create_database(self, name: str) -> str:
        """Create an empty database and return its URL."""
        self._execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, ending its sessions; one that is not there is no error."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _execute(self, statement: sql.Composed) -> None:
        try:
            connection = psycopg2.connect(self.url, connect_timeout=10)
        except psycopg2.OperationalError as error:
            raise PostgresError(f"PostgreSQL does not answer: {str(error).strip()}") from error
        try:
            connection.autocommit = True  # CREATE DATABASE refuses to run in a transaction
            with connection.cursor() as cursor:
                cursor.execute(statement)
        except psycopg2.Error as error:
            raise PostgresError(f"{str(error).strip()} (database user needs CREATEDB)") from error
        finally:
            connection.close()
