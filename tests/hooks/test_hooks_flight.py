"""What a hook leaves behind: a record of each event, and a summary that fits CodeDeploy's log tail."""

import errno
import json
import os
import sys
from pathlib import Path

import pytest
from deploy import flight, process
from deploy.errors import Failure, failure_of
from deploy.host import Host
from deploy.redaction import REDACTED, Redactor
from deploy.steps import STEPS, step

from apps.sandbox.codedeploy.hooks import ScriptLog
from tests.hooks.agent import EVENTS, Deployment, Machine

integration = pytest.mark.integration
CANARY = "c4n4ry-9f31"
PASSWORD = "p%40ss-word%2F1"
ENVIRONMENT = f"""\
SECRET_KEY={CANARY}-key
DATABASE_URL=postgresql://user:{PASSWORD}@127.0.0.1/name
SMTP_PASSWORD="{CANARY} \\"quoted\\""
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """One host for all of these, each of which leaves it serving."""
    machine = Machine(tmp_path_factory.mktemp("flight") / "staging-1" / "root", environment=ENVIRONMENT)
    yield machine
    machine.up.power_off()


def record_path(machine, deployment, event):
    return machine.home / "state/flight" / deployment.id / f"{event}.json"


def record(machine, deployment, event):
    return json.loads(record_path(machine, deployment, event).read_text())


def log_tail(event, output):
    """What CodeDeploy keeps of a hook's output."""
    log = ScriptLog()
    log.append(f"LifecycleEvent - {event}\n")
    for line in output.splitlines(keepends=True):
        log.append(f"[stdout]{line}")
    return str(log)


@integration
def test_each_event_leaves_a_record_and_a_link_to_upload(machine, make_bundle):
    one = make_bundle("one")
    deployment = machine.deploy(one)
    hooks = [event for event in EVENTS if event not in {"ApplicationStop", "Install"}]
    for event in hooks:
        path = record_path(machine, deployment, event)
        found = json.loads(path.read_text())
        assert path.stat().st_mode & 0o777 == 0o600
        assert (machine.home / f"state/outbox/{deployment.id}.{event}.json").samefile(path)
        assert (found["schema"], found["event"]) == (1, event)
        assert (found["result"], found["exit_code"]) == ("succeeded", 0)
        assert (found["error"], found["cause"]) == ("", None)
        assert (found["deployment_id"], found["host"]) == (deployment.id, "staging-1")
        assert (found["application"], found["group"]) == ("lockkeeper", "staging")
        assert (found["digest"], found["bundle"]["key"]) == (one.digest, deployment.key)
        assert found["steps"][0]["name"] == "check-deployment"
        assert {each["result"] for each in found["steps"]} == {"succeeded"}
        assert {each["name"] for each in found["steps"]} <= set(STEPS)
        assert sum(each["seconds"] for each in found["steps"]) <= found["seconds"] + 0.01
        assert found["tail"]
    migrations = record(machine, deployment, "AfterInstall")["migrations"]
    assert (migrations["plan"], migrations["host"]) == (["tiny.0001"], "staging-1")
    assert record(machine, deployment, "BeforeInstall")["migrations"] is None
    written = (machine.home / "state/flight" / deployment.id).iterdir()
    assert {path.name for path in written} == {f"{event}.json" for event in hooks}


@integration
def test_a_killed_hook_leaves_a_record_that_names_the_step_it_was_in(machine, make_bundle):
    bundle = make_bundle("asleep", in_prepare="open(os.environ['UNREADY_FILE'] + '.in', 'w'); time.sleep(60)")
    begun = machine.unready.with_suffix(".in")
    deployment = Deployment(machine, bundle)
    deployment.run_until("Install")
    assert deployment.kill("AfterInstall", begun.exists)
    begun.unlink()
    found = record(machine, deployment, "AfterInstall")
    assert (found["result"], found["exit_code"]) == ("running", None)
    assert (found["steps"][-1]["name"], found["steps"][-1]["result"]) == ("prepare", "running")
    assert (machine.home / f"state/outbox/{deployment.id}.AfterInstall.json").exists()


@integration
def test_no_secret_is_printed_or_recorded_and_the_summary_fits(machine, make_bundle):
    talk = "\n    ".join(
        [
            "print('x' * 30000)",
            "print(os.environ['SECRET_KEY'], os.environ['DATABASE_URL'], os.environ['SMTP_PASSWORD'])",
            "print(json.dumps(dict(os.environ)), repr(dict(os.environ)))",
            "print('https://other:hidden-one@example.com/ AKIAIOSFODNN7EXAMPLE token=abcdef123456')",
            "[print('é' * 3000, number) for number in range(60)]",
            "about['error'] = os.environ['DATABASE_URL']",
            "report.write_text(json.dumps(about))",
            "sys.exit('OperationalError: ' + os.environ['DATABASE_URL'] + ' is away ' + 'y' * 3000)",
        ]
    )
    deployment = Deployment(machine, make_bundle("talkative", in_prepare=talk))
    result = deployment.run_until("AfterInstall")
    assert result.code == 1
    path = record_path(machine, deployment, "AfterInstall")
    for text in (result.output, path.read_text()):
        for secret in (CANARY, PASSWORD, "p@ss-word", "hidden-one", "AKIAIOSFODNN7EXAMPLE", "abcdef123456"):
            assert secret not in text
        assert REDACTED in text, text
    assert max(map(len, result.output.splitlines())) <= 500
    tail = log_tail("AfterInstall", result.output)
    assert len(tail) < 2048
    assert " !     AfterInstall failed in step prepare: `manage.py prepare` failed (exit 1)" in tail
    assert path.stat().st_size <= 64 * 1024
    found = json.loads(path.read_text())
    assert (found["result"], found["exit_code"]) == ("failed", 1)
    assert found["migrations"]["error"] == f"postgresql://user:{REDACTED}@127.0.0.1/name"
    assert len(found["tail"]) <= 40
    assert max(map(len, found["tail"])) <= 300


@integration
def test_a_record_that_cannot_be_written_changes_nothing(machine, make_bundle):
    """What is in the way here is a file; a full disk is in test_hooks_disk_full."""
    folder = machine.home / "state/flight"
    aside = folder.rename(folder.with_name("aside"))
    folder.touch()
    try:
        deployment = machine.deploy(make_bundle("one"))
        assert "There is no complete flight record" in deployment.run("ValidateService").output
        bad = Deployment(machine, make_bundle("bad", in_prepare="sys.exit('the real reason')"))
        assert "the real reason" in bad.run_until("AfterInstall").reason
    finally:
        folder.unlink()
        aside.rename(folder)


@integration
def test_without_tools_records_stay_on_the_host_which_is_said(machine, make_bundle):
    result = Deployment(machine, make_bundle("one")).run("BeforeInstall")
    assert "Flight records stay on this host" in result.output


@integration
def test_a_lock_that_another_deployment_holds_is_a_known_cause(machine):
    host = Host.read(machine.root)
    refused = pytest.raises(Failure, match="Another deployment is at work")
    with host.locked(), refused as failed, host.locked(wait_s=0.1):
        pass
    assert failed.value.cause == "lock-not-granted"


@integration
def test_an_interpreter_that_has_gone_is_a_known_cause(machine, make_bundle):
    bundle = make_bundle("one")
    deployment = Deployment(machine, bundle)
    deployment.run_until("Install")
    machine.configure("PYTHON", "/nowhere/python3")
    try:
        result = deployment.run("AfterInstall")
    finally:
        machine.configure("PYTHON", sys.executable)
    assert result.code == 1
    assert "PYTHON=/nowhere/python3 in" in result.output
    assert "Known cause: missing-interpreter" in result.output
    with pytest.raises(Failure, match="run scripts/provision-host again") as failed:
        process.run_shown(["/nowhere/python"], folder=Path("/"), environ={}, label="it", timeout_s=5)
    assert failed.value.cause == "missing-interpreter"


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (errno.ENOSPC, "no-space"),
        (errno.EDQUOT, "no-space"),
        (errno.EACCES, "permission"),
        (errno.EPERM, "permission"),
        (errno.EROFS, "permission"),
        (errno.EIO, ""),
    ],
)
def test_errors_of_the_system_are_sentences_with_a_way_out(number, cause):
    failure = failure_of(OSError(number, os.strerror(number), "/srv/lockkeeper/current"))
    assert failure.cause == cause
    assert str(failure).startswith(f"/srv/lockkeeper/current: {os.strerror(number)}")
    assert "deploy" in str(failure)


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("error: failed to copy file: No space left on device (os error 28)", "no-space"),
        ("canceling statement due to lock timeout", "lock-not-granted"),
        ("/usr/bin/env: bad interpreter: No such file or directory", "missing-interpreter"),
        ("PermissionError: [Errno 13] Permission denied: '/srv'", "permission"),
        ("uv: /lib/libc.so.6: version `GLIBC_2.99' not found", "platform-mismatch"),
        ("Job failed: start request repeated too quickly", "start-limit"),
        ("the database is away", ""),
    ],
)
def test_known_causes_are_found_in_what_programs_print(said, cause):
    with pytest.raises(Failure) as failed:
        process.run([sys.executable, "-c", f"import sys; sys.exit({said!r})"], timeout_s=30)
    assert failed.value.cause == cause


def test_a_program_that_may_not_be_run_is_a_matter_of_rights(tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    with pytest.raises(PermissionError) as refused:
        process.run([str(program)], timeout_s=5)
    assert failure_of(refused.value).cause == "permission"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("psql postgresql://me:tiny@db/x", "tiny"),
        ("amqp://me:a:b@c@db/x", "a:b@c"),
        ('{"SECRET_KEY": "0123456789"}', "0123456789"),
        ("Authorization: Bearer abc.def-123", "abc.def-123"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "wJalrXUtnFEMI/K7MDENG"),
        ("?X-Amz-Security-Token=FwoGZXIvYXdzE", "FwoGZXIvYXdzE"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "eyJzdWIiOiIxIn0"),
        ("ghp_0123456789abcdefghijABCDEFGHIJ", "0123456789abcdefghij"),
    ],
)
def test_what_looks_like_a_secret_is_one(text, hidden):
    assert hidden not in Redactor()(text)


@pytest.mark.parametrize(
    "text",
    [
        "-----> Environment 0f3e: building from the wheelhouse",
        "http://127.0.0.1:8000/readyz answers 503",
        "Applying access.0002_token... OK",
        "secret: no",
        "releases/lockkeeper/0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8.tar",
        "git@github.com:team/service.git",
    ],
)
def test_ordinary_lines_stay_as_they_are(text):
    redact = Redactor()
    redact.learn({"DEBUG": "false", "SECRET_SHORT": "abc", "HOME": "/srv/lockkeeper/state"})
    assert redact(text) == text


def test_every_value_of_a_configuration_from_aws_counts():
    redact = Redactor()
    redact.learn({"LOG_LEVEL": "WARNING", "PORT": "8000", "PARTNER": "x91-zz-0"}, all_secret=True)
    assert redact("WARNING on 8000: x91-zz-0") == f"WARNING on 8000: {REDACTED}"


def test_a_step_must_be_a_known_one():
    with pytest.raises(ValueError, match="not among"), step("swap", "Swapping"):
        pass


def test_a_record_that_would_be_too_large_loses_its_oldest_lines():
    large = {"tail": [f"{number} " + "日" * 290 for number in range(40)], "migrations": None, "steps": []}
    large["error"] = "日" * 15000
    body = flight._encoded(large)
    assert len(body) <= 64 * 1024
    assert json.loads(body)["tail"][-1].startswith("39 ")


def test_a_long_reason_becomes_lines_that_codedeploy_keeps(tmp_path):
    this = flight.Flight("BeforeInstall", root=tmp_path, environ={"DEPLOYMENT_ID": "d-1"})
    lines = this.summary(Failure("word " * 1000, "no-space"))
    assert max(map(len, lines)) < 500
    assert sum(len(f"[stdout] !     {line}\n") for line in lines) < 1600
    assert "Known cause: no-space" in lines[-1]


def test_a_deployment_id_that_is_no_name_leaves_no_record(tmp_path):
    (tmp_path / "srv/lockkeeper/state").mkdir(parents=True)
    this = flight.Flight("BeforeInstall", root=tmp_path, environ={"DEPLOYMENT_ID": "../../etc"})
    this.end(None)
    assert list((tmp_path / "srv/lockkeeper/state").iterdir()) == []
