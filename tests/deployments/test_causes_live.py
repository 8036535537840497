"""Known causes caused: the embedded CodeDeploy's agent fails as the real one does, and is understood."""

import psycopg2
import pytest
from django.db import OperationalError, connection

from apps.aws import codedeploy
from apps.deployments.causes import cause_of
from tests.sandbox.deploying import HEADER, Fleet, hooks

pytestmark = pytest.mark.integration


@pytest.fixture
def fleet(aws, versioned_bucket):
    return Fleet(aws, versioned_bucket)


def cause_in(info):
    """The known cause of the one event that failed, as Lockkeeper's own client reads it."""
    (target,) = codedeploy.get_targets(info["deploymentId"])
    (event,) = [event for event in target.events if event.status == "Failed"]
    cause = cause_of(
        event=event.name, error_code=event.error_code, message=event.message, log_tail=event.log_tail
    )
    return event.name, cause and cause.code


@pytest.mark.parametrize(
    ("code", "body"),
    [
        ("no-space", "echo full > /dev/full"),
        ("permission", "/etc/passwd"),
        (
            "platform-mismatch",
            'printf "\\177ELF-of-another-machine\\0" > "$0.bin"; chmod +x "$0.bin"; "$0.bin"',
        ),
        ("missing-interpreter", "python3.0 -V"),
        (None, "echo 'ImportError: no module named shop'; exit 1"),
    ],
)
def test_a_hook_that_fails(fleet, code, body):
    info, _ = fleet.deploy(*hooks(AfterInstall=body))
    assert cause_in(info) == ("AfterInstall", code)


@pytest.mark.parametrize("first_line", ["#!/no/such/bash", "#!/bin/bash\r"])
def test_a_script_without_its_interpreter(fleet, first_line):
    appspec, files = hooks(BeforeInstall="true")
    files = {name: text.replace("#!/bin/bash", first_line) for name, text in files.items()}
    info, _ = fleet.deploy(appspec, files)
    assert cause_in(info) == ("BeforeInstall", "missing-interpreter")


def test_a_file_in_the_way(fleet):
    (fleet.root() / "srv/web").mkdir(parents=True)
    (fleet.root() / "srv/web/a.txt").write_text("mine")
    info, _ = fleet.deploy(
        HEADER + "files:\n  - source: a.txt\n    destination: /srv/web\n", {"a.txt": "new"}
    )
    assert cause_in(info) == ("Install", "file-exists")


def test_the_previous_revisions_application_stop(fleet):
    fleet.deploy(*hooks(ApplicationStop="exit 3"))
    info, _ = fleet.deploy(*hooks(ApplicationStop="true"))
    assert cause_in(info) == ("ApplicationStop", "previous-application-stop")
    # The way out that the cause names.
    revision = info["revision"]
    done = fleet.wait(fleet.start(revision, ignoreApplicationStopFailures=True))
    assert done["status"] == "Succeeded"


def test_a_unit_that_was_started_too_often(fleet):
    unit = (
        "[Unit]\nStartLimitBurst=2\nStartLimitIntervalSec=60\n[Service]\nType=oneshot\nExecStart=/bin/false\n"
    )
    (fleet.root() / "etc/systemd/system/app.service").write_text(unit)
    body = "for _ in 1 2 3; do systemctl start app || true; done; systemctl start app"
    info, _ = fleet.deploy(*hooks(ApplicationStart=body))
    assert cause_in(info) == ("ApplicationStart", "start-limit")


@pytest.mark.django_db(transaction=True)
def test_a_lock_that_postgresql_does_not_grant():
    settings = connection.get_connection_params()
    settings.pop("cursor_factory", None)
    holder = psycopg2.connect(**settings)
    try:
        holder.cursor().execute("LOCK TABLE deployments_target IN ACCESS EXCLUSIVE MODE")
        with connection.cursor() as cursor, pytest.raises(OperationalError) as caught:
            cursor.execute("SET lock_timeout = '50ms'; ALTER TABLE deployments_target ADD COLUMN new integer")
    finally:
        holder.close()
        connection.close()
    log = f"[stdout]django.db.utils.OperationalError: {caught.value}"
    assert cause_of(event="AfterInstall", log_tail=log).code == "lock-not-granted"
