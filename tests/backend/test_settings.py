"""The settings as a server, a laptop and an empty environment load them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
SERVER = {
    "SECRET_KEY": "x9" * 32 + "some-more-characters",
    "ALLOWED_HOSTS": "lockkeeper.example",
    "DATABASE_URL": "postgresql://lockkeeper:hunter2@db.example:5432/lockkeeper",
}


def manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run manage.py with this environment and nothing of ours."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=kept | environment, capture_output=True, text=True, timeout=60, check=False
    )


def show(expression: str, **environment: str) -> str:
    """What ``expression`` is after the settings have been loaded from this environment."""
    code = f"from django.conf import settings; print({expression})"
    result = manage("shell", "--no-imports", "-v0", "-c", code, **environment)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_a_servers_settings_pass_djangos_checks() -> None:
    result = manage("check", "--deploy", "--fail-level", "WARNING", **SERVER)
    assert result.returncode == 0, result.stderr
    assert "no issues" in result.stdout


def test_a_server_without_a_database_is_refused() -> None:
    result = manage("check", "--deploy", **(SERVER | {"DATABASE_URL": ""}))
    assert result.returncode != 0
    assert "DATABASE_URL is not set" in result.stderr


def test_a_command_without_a_database_says_what_to_set() -> None:
    result = manage("showmigrations")
    assert result.returncode != 0
    assert "Is DATABASE_URL set?" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_command_that_asks_aws_nothing_does_not_load_its_libraries() -> None:
    """They would take a sixth of every start, that of each deployment on a host among them."""
    loaded = show("sorted({'boto3', 'botocore.session', 's3transfer'} & __import__('sys').modules.keys())")
    assert loaded == "[]"


def test_nothing_is_needed_to_load_them() -> None:
    result = manage("check")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"DEBUG": "ture"}, "DEBUG='ture' is not a boolean"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL='LOUD' is not one of"),
        ({"CONN_MAX_AGE": "soon", "DATABASE_URL": "postgresql:///x"}, "CONN_MAX_AGE='soon'"),
        ({"DATABASE_URL": "mysql://root:hunter2@db/x"}, "PostgreSQL only"),
        ({"DATABASE_URL": "nonsense:hunter2"}, "not of the form postgresql://"),
        ({"DATABASE_URL": "postgresql://u:hunter2@host:port/x"}, "not of the form postgresql://"),
    ],
)
def test_a_bad_value_stops_the_process_in_one_sentence(environment: dict[str, str], words: str) -> None:
    result = manage("check", **environment)
    assert result.returncode != 0
    assert words in result.stderr
    assert "hunter2" not in result.stderr
    assert "Traceback" not in result.stderr


def test_the_database_is_postgresql_by_psycopg2() -> None:
    code = "__import__('django.db.backends.postgresql.psycopg_any', fromlist=['is_psycopg3']).is_psycopg3"
    default = "settings.DATABASES['default']"
    values = f"{code}, {default}['CONN_MAX_AGE'] > 0, {default}['OPTIONS']['connect_timeout']"
    assert show(values, **SERVER) == "False True 3"


def test_production_is_the_default() -> None:
    cookies = "settings.DEBUG, settings.SESSION_COOKIE_SECURE, settings.CSRF_COOKIE_SECURE"
    assert show(cookies) == "False True True"
