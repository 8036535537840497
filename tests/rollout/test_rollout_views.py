"""/healthz, /readyz and /version."""

import pytest
from django.db import OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.recorder import MigrationRecorder

from apps.rollout import version


def test_healthz_needs_no_database(client):
    # pytest-django refuses any query here.
    response = client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert "no-store" in response["Cache-Control"]


def test_version_needs_no_database_and_says_the_three_things(client):
    response = client.get("/version")
    release = version.current_release()
    assert response.json() == {"digest": None, "version": release.version, "commit": release.commit}


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/version"])
def test_only_reading_is_allowed(client, path):
    assert client.post(path).status_code == 405


@pytest.mark.parametrize("path", ["/healthz", "/version"])
def test_a_load_balancer_asks_by_address_and_without_tls(client, settings, path):
    settings.ALLOWED_HOSTS = ["lockkeeper.example"]
    settings.SECURE_SSL_REDIRECT = True
    assert client.get(path, headers={"host": "10.0.3.7"}).status_code == 200


@pytest.mark.django_db
def test_readyz_says_ready_on_a_migrated_database(client, django_assert_max_num_queries):
    # 1: is there a table of migrations?  2: what it holds
    with django_assert_max_num_queries(2):
        response = client.get("/readyz")
    assert (response.status_code, response.json()) == (200, {"status": "ready"})


@pytest.mark.django_db
def test_readyz_names_the_migration_that_is_missing(client):
    MigrationRecorder(connection).record_unapplied("sessions", "0001_initial")
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["reason"] == "1 migrations are not applied: sessions.0001_initial"


@pytest.mark.django_db
def test_readyz_ignores_what_a_newer_release_applied(client):
    MigrationRecorder(connection).record_applied("sessions", "0099_from_the_future")
    assert client.get("/readyz").status_code == 200


@pytest.mark.django_db
def test_readyz_does_not_ask_who_migrated(client):
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE rollout_migrationrun")
    assert client.get("/readyz").status_code == 200


@pytest.mark.django_db
def test_readyz_of_the_first_release_with_records_waits_for_their_table(client):
    MigrationRecorder(connection).record_unapplied("rollout", "0001_migrationrun")
    assert client.get("/readyz").json()["reason"] == "1 migrations are not applied: rollout.0001_migrationrun"


def test_readyz_says_when_the_database_is_away(client, monkeypatch):
    def refuse(_self):
        raise OperationalError("connection refused")

    # Not cursor: Django leaves one of its own at the connection after a SimpleTestCase.
    monkeypatch.setattr(BaseDatabaseWrapper, "ensure_connection", refuse)
    response = client.get("/readyz")
    assert (response.status_code, response.json()["reason"]) == (503, "PostgreSQL does not answer.")
    assert response["Retry-After"] == "5"
