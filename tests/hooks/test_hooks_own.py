"""This repository, deployed by its own hooks: Django, PostgreSQL, migrations and static files."""

import json
import re
from contextlib import closing
from uuid import uuid4

import psycopg2
import pytest
from django.db import connections

from tests.hooks import trees
from tests.hooks.agent import Deployment, Machine

pytestmark = pytest.mark.integration
SECRET_KEY = "a-key-for-this-test-alone-0123456789-abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def database_url():
    """An empty database of its own; the URL of it as a service's environment has it."""
    server = {**connections["default"].get_connection_params(), "dbname": "postgres"}
    server.pop("cursor_factory")
    name = f"hooks_{uuid4().hex[:12]}"
    with closing(psycopg2.connect(**server)) as admin:
        admin.autocommit = True
        with admin.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
            host = server.get("host") or ""
            login = f"{server.get('user', '')}:{server.get('password', '')}".rstrip(":")
            place = host.replace("/", "%2F") + (f":{server['port']}" if server.get("port") else "")
            yield f"postgresql://{login}@{place}/{name}"
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def own_bundles(tmp_path_factory):
    return trees.own_bundles(tmp_path_factory.mktemp("own"))


def test_it_deploys_itself_twice(own_bundles, database_url, tmp_path):
    one, two = own_bundles
    environment = (
        f"DATABASE_URL={database_url}\nSECRET_KEY={SECRET_KEY}\nALLOWED_HOSTS=127.0.0.1\n"
        # Nothing of AWS is asked: there are no rows to reconcile.
        "AWS_DEFAULT_REGION=eu-central-1\nAWS_ACCESS_KEY_ID=none\nAWS_SECRET_ACCESS_KEY=none\n"
    )
    machine = Machine(tmp_path / "staging-1/root", environment=environment)
    try:
        first = Deployment(machine, one)
        first.run_until("Install")
        output = first.run("AfterInstall").output
        assert re.search(r"applied \d+: ", output), output
        assert re.search(r"[1-9]\d* static files added", output), output
        for event in ("ApplicationStart", "ValidateService"):
            result = first.run(event)
            assert result.code == 0, result.output
        assert json.loads(machine.get("/version")) == {
            "digest": one.digest,
            "version": one.document["version"],
            "commit": one.document["commit"],
        }
        second = Deployment(machine, two)
        second.run_until("Install")
        output = second.run("AfterInstall").output
        assert "no migrations to apply" in output
        assert "\n       0 static files added" in output
        for event in ("ApplicationStart", "ValidateService"):
            result = second.run(event)
            assert result.code == 0, result.output
        assert machine.serving() == two.digest
        # A page whose stylesheet the release's own manifest names, served under its hashed name.
        style = re.search(r'href="(/static/[^"]+\.[0-9a-f]{12}\.css)"', machine.get("/admin/login/"))
        assert style is not None
        assert "{" in machine.get(style[1])
        assert machine.leftovers() == []
    finally:
        machine.up.shut_down()
