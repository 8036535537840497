"""Each known cause, from the words of those who say it."""

import pytest

from apps.deployments.causes import BY_CODE, KNOWN, cause_of

SAID = [
    ("file-exists", "a specified file already exists at this location: /srv/app/config.py"),
    ("no-space", "No space left on device - /srv/lockkeeper/incoming/apps/api.py"),
    ("no-space", "/srv/lockkeeper has 40 MiB free and this release needs 310: free some space"),
    ("lock-not-granted", "psycopg2.errors.LockNotAvailable: canceling statement due to lock timeout"),
    ("lock-not-granted", "Another process has held the migration lock for 600 s."),
    ("lock-not-granted", "Another deployment is at work on this host (process 41 holds it)"),
    ("permission", "rm: cannot remove '/srv/app/x': Permission denied"),
    ("permission", "django.db.utils.ProgrammingError: permission denied for schema public"),
    ("permission", "Unable to set script at specified location: a.sh as executable"),
    (
        "missing-interpreter",
        "No such file or directory - /opt/codedeploy-agent/5d/d-1/deployment-archive/a.sh",
    ),
    ("missing-interpreter", "a.sh: /usr/bin/python3.12: bad interpreter: No such file"),
    ("missing-interpreter", "/usr/bin/env: 'bash\\r': No such file or directory"),
    ("missing-interpreter", "deploy.sh: line 3: python3.12: command not found"),
    ("missing-interpreter", "PYTHON=/usr/bin/python3 in etc/host is not a Python of 3.11 or later"),
    ("platform-mismatch", "The bundle was built for another platform: abi is cp312 here."),
    ("platform-mismatch", "bash: ./app: cannot execute binary file: Exec format error"),
    ("platform-mismatch", "libc.so.6: version `GLIBC_2.38' not found"),
    ("start-limit", "app.service: Failed with result 'start-limit-hit'."),
    ("start-limit", "app.service: Start request repeated too quickly."),
    ("start-limit", "start of the service was attempted too often."),
]


@pytest.mark.parametrize(("code", "text"), SAID)
def test_it_is_recognised_in_the_message_and_in_the_log(code, text):
    in_message = cause_of(event="AfterInstall", message=text)
    log = f"[stdout]hm\n[stderr]{text}\n"
    in_log = cause_of(event="AfterInstall", message="a.sh failed with exit code 1", log_tail=log)
    assert in_message
    assert in_log
    assert (in_message.code, in_log.code) == (code, code)


def test_every_cause_is_tested_here_and_says_the_way_out():
    tested = {code for code, _text in SAID} | {"previous-application-stop"}
    assert tested == set(BY_CODE)
    for cause in KNOWN:
        assert cause.sentence.endswith(".")
        assert cause.way_out.endswith(".")


@pytest.mark.parametrize("event", ["ApplicationStop", "BeforeBlockTraffic", "AfterBlockTraffic"])
def test_hooks_of_the_previous_revision_are_told_as_such_whatever_they_say(event):
    cause = cause_of(event=event, message="No space left on device", recorded="no-space")
    assert cause
    assert cause.code == "previous-application-stop"
    assert "the previous revision's" in cause.sentence
    assert "--ignore-application-stop-failures" in cause.way_out
    assert "ignoreApplicationStopFailures" in cause.way_out
    assert not cause.by_release


def test_what_the_host_names_wins_and_what_nobody_knows_does_not():
    said = "No space left on device"
    assert cause_of(event="AfterInstall", message=said, recorded="start-limit").code == "start-limit"
    assert cause_of(event="AfterInstall", message=said, recorded="gremlins").code == "no-space"


def test_words_far_above_the_end_of_a_log_are_not_the_cause():
    log = (
        "find: '/root': Permission denied\n" + "[stdout]at work\n" * 8 + "ImportError: no module named shop\n"
    )
    assert cause_of(event="ApplicationStart", message="failed with exit code 1", log_tail=log) is None


def test_the_last_line_that_tells_something_is_believed():
    log = "rm: Permission denied\ntar: write error: No space left on device\n"
    assert cause_of(event="AfterInstall", log_tail=log).code == "no-space"


def test_whose_fault_it_is():
    """Another release would go through: file_exists_behavior, the build's image and a crash are its own."""
    assert {cause.code for cause in KNOWN if cause.by_release} == {
        "file-exists",
        "platform-mismatch",
        "start-limit",
    }
