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

from tests.rollout.fleet import Fleet

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
        atomic = {atomic}
        dependencies = [("tide", "{after}")]
        operations = [{python}*[migrations.RunSQL(sql, migrations.RunSQL.noop) for sql in {sql!r}]]
"""


class MigrationFolder:
    """The migrations of the app ``tide``."""

    def __init__(self, folder):
        self.folder = folder

    def add(self, name, *sql, python=None, after="0001_initial", contract=False, atomic=True):
        """Write one more: an expression of ``apps`` and ``editor``, and statements."""
        python = f"migrations.RunPython(lambda apps, editor: {python}), " if python else ""
        content = NEXT.format(python=python, sql=sql, after=after, contract=contract, atomic=atomic)
        (self.folder / f"{name}.py").write_text(textwrap.dedent(content))
        self.forget()

    @staticmethod
    def forget():
        """Have Python import the migrations anew."""
        importlib.invalidate_caches()
        for name in [name for name in sys.modules if name.startswith(f"{APP}.")]:
            del sys.modules[name]


@pytest.fixture
def folder(tmp_path):
    """The migrations of an app in a folder outside of the project, with one of them."""
    package = tmp_path / "source" / APP
    (package / "migrations").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "migrations/__init__.py").touch()
    (package / "migrations/0001_initial.py").write_text(textwrap.dedent(FIRST))
    return MigrationFolder(package / "migrations")


@pytest.fixture
def tide(folder, tmp_path, monkeypatch):
    """The only app with migrations beside rollout itself, in this process."""
    monkeypatch.syspath_prepend(str(tmp_path / "source"))
    folder.forget()
    with override_settings(INSTALLED_APPS=["django.contrib.staticfiles", "apps.rollout", APP]):
        yield folder
    folder.forget()
    sys.modules.pop(APP, None)


@pytest.fixture
def database():
    """The name of an empty database, which goes away with the test."""
    name = f"rollout_{uuid.uuid4().hex[:12]}"
    server = {**connections["default"].get_connection_params(), "dbname": "postgres"}
    server.pop("cursor_factory")
    with closing(psycopg2.connect(**server)) as admin:
        admin.autocommit = True
        with admin.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
            yield name
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def scratch(database, django_db_blocker):
    """A connection of Django's to an empty database."""
    connections.databases[SCRATCH] = {**connections.databases["default"], "NAME": database}
    try:
        with django_db_blocker.unblock():
            yield connections[SCRATCH]
            connections[SCRATCH].close()
    finally:
        del connections[SCRATCH]
        del connections.databases[SCRATCH]


@pytest.fixture
def others(scratch):
    """A session of somebody else's on that database."""
    parameters = scratch.get_connection_params()
    parameters.pop("cursor_factory")
    with closing(psycopg2.connect(**parameters, application_name="a forgotten shell")) as connection:
        connection.autocommit = True
        yield connection


@pytest.fixture
def fleet(folder, database, tmp_path):
    """Hosts that deploy the app ``tide`` to an empty database, each in a process of its own."""
    settings = connections["default"].settings_dict
    fleet = Fleet(
        tmp_path,
        host=settings["HOST"],
        port=settings["PORT"],
        user=settings["USER"],
        password=settings["PASSWORD"],
        database=database,
    )
    yield fleet
    fleet.end()
