"""What every test needs that a server gets from its environment."""

import gc
import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import TransactionTestCase

from apps.promotions.remembered import forget
from tests.sandbox.conftest import REGION, Sandbox, start_sandbox


def pytest_configure() -> None:
    """Plain ``pytest`` works with nothing set but DATABASE_URL.

    The settings are changed here and not in the environment, which tests hand on to the programs
    that they start.
    """
    # Reading an empty one is refused, so the environment is asked.
    if not os.environ.get("SECRET_KEY"):
        settings.SECRET_KEY = "a-key-for-tests-that-protects-nothing-at-all-0123456789"
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = False
    # Nobody runs collectstatic for tests.
    settings.STATIC_ROOT = ""
    settings.STORAGES = settings.STORAGES | {
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    }
    # Hashing a password well takes a quarter of a second, in every test that makes a user.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def pytest_collection_finish() -> None:
    """What is there by now stays to the end; to look through it for garbage took a sixth of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """Tests with threads empty every table after themselves, which the ledger refuses.

    So its trigger against TRUNCATE is off in the tests' own database; those against UPDATE and DELETE stay.
    Nor do most tests need TRUNCATE, which makes new files for some 200 tables and indexes.
    """
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute("ALTER TABLE ledger_entry DISABLE TRIGGER ledger_entry_no_truncate")
        cursor.execute("SHOW is_superuser")
        if cursor.fetchone() == ("on",):
            TransactionTestCase._fixture_teardown = delete_all_rows


def delete_all_rows(test: TransactionTestCase) -> None:
    """Leave of the database what migrations made: content types, permissions, and what was applied."""
    kept = {"django_content_type", "auth_permission", "django_migrations"}
    tables = set(connection.introspection.django_table_names(only_existing=True, include_views=False)) - kept
    # For a superuser: without triggers and foreign keys, so in any order.
    statements = ["SET LOCAL session_replication_role = replica"]
    statements += [f"DELETE FROM {connection.ops.quote_name(table)}" for table in sorted(tables)]  # noqa: S608  # names of tables that Django made
    connection.ops.execute_sql_flush(["; ".join(statements)])


@pytest.fixture(autouse=True)
def a_process_that_has_judged_nothing() -> None:
    """A test takes back what it wrote, and its process would still remember it."""
    forget()


@pytest.fixture(scope="session")
def embedded_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One embedded AWS, a real process, for all tests of apps above it: use names of your own in it."""
    running = start_sandbox(tmp_path_factory.mktemp("embedded-aws"))
    yield running
    assert running.stop() == 0


@pytest.fixture
def aws(embedded_aws: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """The embedded AWS as what this process talks to, by boto3's own variables."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", embedded_aws.endpoint)
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return embedded_aws


@pytest.fixture
def versioned_bucket(aws: Sandbox) -> str:
    """An empty versioned bucket."""
    name = f"test-{uuid.uuid4()}"
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name
