"""An empty database of its own, and an app with migrations of both kinds, made for each test."""

import importlib
import sys
import textwrap
import uuid
from contextlib import closing

import psycopg2
import pytest
from django.db import connections
from django.test import override_settings

APP = "tide"
SCRATCH = "scratch"
FIRST = """
    from django.db import migrations, models

    class Migration(migrations.Migration):
        initial = True
        dependencies = []
        operations = [migrations.CreateModel("Mark", [("id", models.BigAutoField(primary_key=True))])]
"""
NEXT = """
    from django.db import migrations

    contract = {contract}

    class Migration(migrations.Migration):
        dependencies = [("tide", "{after}")]
        operations = [migrations.RunSQL({sql!r}, migrations.RunSQL.noop)]
"""


class MigrationFolder:
    """The migrations of the app ``tide``; `add` writes one more."""

    def __init__(self, folder):
        self.folder = folder

    def add(self, name, *, after="0001_initial", contract=False, sql="SELECT 1"):
        content = NEXT.format(after=after, contract=contract, sql=sql)
        (self.folder / f"{name}.py").write_text(textwrap.dedent(content))
        self.forget()

    @staticmethod
    def forget():
        """Have Python import the migrations anew."""
        importlib.invalidate_caches()
        for name in [name for name in sys.modules if name.startswith(f"{APP}.")]:
            del sys.modules[name]


@pytest.fixture
def tide(tmp_path, monkeypatch):
    """The only app with migrations, with one of them."""
    package = tmp_path / "source" / APP
    (package / "migrations").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "migrations/__init__.py").touch()
    (package / "migrations/0001_initial.py").write_text(textwrap.dedent(FIRST))
    monkeypatch.syspath_prepend(str(tmp_path / "source"))
    folder = MigrationFolder(package / "migrations")
    folder.forget()
    with override_settings(INSTALLED_APPS=["django.contrib.staticfiles", "apps.rollout", APP]):
        yield folder
    folder.forget()
    sys.modules.pop(APP, None)


@pytest.fixture
def scratch(django_db_blocker):
    """A connection to an empty database, which goes away with the test."""
    name = f"rollout_{uuid.uuid4().hex[:12]}"
    server = {**connections["default"].get_connection_params(), "dbname": "postgres"}
    server.pop("cursor_factory")
    with closing(psycopg2.connect(**server)) as admin:
        admin.autocommit = True
        with admin.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
        connections.databases[SCRATCH] = {**connections.databases["default"], "NAME": name}
        try:
            with django_db_blocker.unblock():
                yield connections[SCRATCH]
                connections[SCRATCH].close()
        finally:
            del connections[SCRATCH]
            del connections.databases[SCRATCH]
            with admin.cursor() as cursor:
                cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
