"""How the agent runs hooks: each rule of agent 1.8.1 that this project builds on has a test."""

import os
import time

import pytest

from apps.sandbox.codedeploy.hooks import HookRunner, ScriptError
from apps.sandbox.hosts.process import processes_with
from apps.sandbox.hosts.supervisor import HOST_VARIABLE
from apps.specs.appspec import parse_appspec
from tests.sandbox.deploying import EVENTS, HEADER, Fleet, bundle, hooks, statuses, tar
from tests.sandbox.hosts import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def fleet(sandbox, bucket):
    return Fleet(sandbox, bucket)


def diagnostics(events, event):
    return events[event]["diagnostics"]


def test_events_run_in_order_without_those_for_traffic(fleet):
    appspec, files = hooks(
        BeforeBlockTraffic="echo no >&2; exit 1",
        BeforeInstall="echo one >> /dev/stdout",
        AfterInstall="echo two",
        ApplicationStart="echo three",
        ValidateService="echo four",
    )
    info, events = fleet.deploy(appspec, files)
    assert info["status"] == "Succeeded"
    assert list(events) == EVENTS
    assert statuses(events) == ["Succeeded"] * 7
    ran = {"BeforeInstall", "AfterInstall", "ApplicationStart", "ValidateService"}
    assert [diagnostics(events, name)["logTail"].splitlines()[-1] for name in EVENTS if name in ran] == [
        "[stdout]one",
        "[stdout]two",
        "[stdout]three",
        "[stdout]four",
    ]
    assert diagnostics(events, "AfterInstall")["errorCode"] == "Success"
    starts = [events[name]["startTime"] for name in EVENTS]
    assert starts == sorted(starts)


def test_environment_of_a_hook(fleet):
    appspec, files = hooks(
        AfterInstall='env | sort; echo "cwd=$(pwd) umask=$(umask) zero=$0"; cat; ps -o pgid= $$'
    )
    revision = fleet.upload(tar({"appspec.yml": appspec, **files}))
    deployment = fleet.start(revision)
    assert fleet.wait(deployment)["status"] == "Succeeded"
    log = (fleet.folder(deployment) / "logs/scripts.log").read_text()
    lines = [line.partition("[stdout]")[2] for line in log.splitlines()]
    location = revision["s3Location"]
    for expected in (
        "LIFECYCLE_EVENT=AfterInstall",
        f"DEPLOYMENT_ID={deployment}",
        f"APPLICATION_NAME={fleet.name}",
        "DEPLOYMENT_GROUP_NAME=group",
        f"DEPLOYMENT_GROUP_ID={fleet.group_id}",
        f"BUNDLE_BUCKET={fleet.bucket}",
        f"BUNDLE_KEY={location['key']}",
        f"BUNDLE_VERSION={location['version']}",
        f"BUNDLE_ETAG={location['eTag']}",
        f"AWS_ENDPOINT_URL={fleet.sandbox.endpoint}",
        f"HOME={fleet.root()}/root",
        f"cwd=/ umask=0022 zero={fleet.folder(deployment)}/deployment-archive/scripts/AfterInstall.sh",
    ):
        assert expected in lines
    assert next(line for line in lines if line.startswith("PATH=")).startswith(
        f"PATH={fleet.root().parent}/bin:"
    )


def test_a_hook_reaches_the_hosts_own_systemctl(fleet):
    (fleet.root() / "etc/systemd/system/app.service").write_text("[Service]\nExecStart=/bin/sleep 1000\n")
    appspec, files = hooks(ApplicationStart="systemctl start app && systemctl is-active app")
    _, events = fleet.deploy(appspec, files)
    assert diagnostics(events, "ApplicationStart")["logTail"].endswith("[stdout]active\n")


def test_layout_on_the_host(fleet):
    appspec, files = hooks(AfterInstall="echo hello")
    content = tar({"appspec.yml": appspec, **files}, mode="w:gz")
    deployment = fleet.start(fleet.upload(content, "tgz"))
    assert fleet.wait(deployment)["status"] == "Succeeded"
    folder = fleet.folder(deployment)
    # bundle.tar keeps its name whatever it is, and is the object that was downloaded.
    assert (folder / "bundle.tar").read_bytes() == content
    assert (folder / "deployment-archive/appspec.yml").read_text() == appspec
    assert "LifecycleEvent - AfterInstall\n" in (folder / "logs/scripts.log").read_text()


def test_application_stop_comes_from_the_previous_revision(fleet):
    appspec, files = hooks(ApplicationStop="echo stop of one, $DEPLOYMENT_ID", AfterInstall="true")
    _, events = fleet.deploy(appspec, files)
    assert diagnostics(events, "ApplicationStop")["logTail"] == ""  # there was none before
    appspec, files = hooks(ApplicationStop="echo stop of two")
    info, events = fleet.deploy(appspec, files)
    log = diagnostics(events, "ApplicationStop")["logTail"]
    assert f"[stdout]stop of one, {info['deploymentId']}\n" in log
    # What it prints is kept with the deployment under way.
    assert "stop of one" in (fleet.folder(info["deploymentId"]) / "logs/scripts.log").read_text()
    assert "stop of two" not in log


def test_previous_is_the_last_that_finished_install_not_the_last_that_succeeded(fleet):
    appspec, files = hooks(ApplicationStop="echo stop of one")
    assert fleet.deploy(appspec, files)[0]["status"] == "Succeeded"
    appspec, files = hooks(ApplicationStop="echo stop of two", ValidateService="exit 1")
    assert fleet.deploy(appspec, files)[0]["status"] == "Failed"
    appspec, files = hooks(ApplicationStop="echo stop of three", BeforeInstall="exit 1")
    _, events = fleet.deploy(appspec, files)
    assert "stop of two" in diagnostics(events, "ApplicationStop")["logTail"]
    _, events = fleet.deploy(*hooks(AfterInstall="true"))
    assert "stop of two" in diagnostics(events, "ApplicationStop")["logTail"]


def test_a_failing_application_stop_blocks_the_next_deployment(fleet):
    appspec, files = hooks(ApplicationStop="exit 7")
    assert fleet.deploy(appspec, files)[0]["status"] == "Succeeded"
    info, events = fleet.deploy(*hooks(AfterInstall="true"))
    assert info["status"] == "Failed"
    assert statuses(events) == ["Failed", *["Skipped"] * 6]


def test_failures_of_application_stop_can_be_ignored(fleet):
    appspec, files = hooks(ApplicationStop="exit 7")
    fleet.deploy(appspec, files)
    info, events = fleet.deploy(*hooks(AfterInstall="true"), ignoreApplicationStopFailures=True)
    assert info["status"] == "Succeeded"
    assert statuses(events) == ["Failed", *["Succeeded"] * 6]


def test_a_failing_hook_fails_the_target_and_the_rest_is_skipped(fleet):
    appspec, files = hooks(
        BeforeInstall="true", AfterInstall="echo out; echo err >&2; exit 3", ValidateService="true"
    )
    info, events = fleet.deploy(appspec, files)
    assert info["status"] == "Failed"
    assert info["errorInformation"]["code"] == "HEALTH_CONSTRAINTS"
    assert statuses(events) == ["Succeeded"] * 4 + ["Failed", "Skipped", "Skipped"]
    found = diagnostics(events, "AfterInstall")
    assert (found["errorCode"], found["scriptName"]) == ("ScriptFailed", "scripts/AfterInstall.sh")
    assert found["message"] == "Script at specified location: scripts/AfterInstall.sh failed with exit code 3"
    assert found["logTail"].startswith("LifecycleEvent - AfterInstall\nScript - scripts/AfterInstall.sh\n")
    assert {"[stdout]out", "[stderr]err"} <= set(found["logTail"].splitlines())
    assert "diagnostics" not in events["ValidateService"]


def test_several_scripts_run_in_order_until_one_fails(fleet):
    appspec = HEADER + "hooks:\n  AfterInstall:\n" + "".join(f"    - location: {n}.sh\n" for n in "abc")
    files = {"a.sh": "#!/bin/sh\necho A\n", "b.sh": "#!/bin/sh\nexit 1\n", "c.sh": "#!/bin/sh\necho C\n"}
    _, events = fleet.deploy(appspec, files)
    log = diagnostics(events, "AfterInstall")["logTail"]
    assert "[stdout]A" in log
    assert "Script - c.sh" not in log


def test_a_missing_script(fleet):
    info, events = fleet.deploy(HEADER + "hooks:\n  AfterInstall:\n    - location: a/../no.sh\n")
    found = diagnostics(events, "AfterInstall")
    assert found["errorCode"] == "ScriptMissing"
    place = fleet.folder(info["deploymentId"]) / "deployment-archive/no.sh"
    assert found["message"] == f"Script does not exist at specified location: {place}"


def test_a_script_that_is_not_executable_is_made_so(fleet):
    appspec = HEADER + "hooks:\n  AfterInstall:\n    - location: plain\n"
    info, events = fleet.deploy(appspec, {"plain": "#!/bin/sh\necho ran\n"})
    assert info["status"] == "Succeeded"
    assert "[stdout]ran" in diagnostics(events, "AfterInstall")["logTail"]


def test_a_script_that_cannot_be_made_executable(fleet):
    location = f"{'../' * 40}proc/self/status"  # whose mode not even root can change
    _, events = fleet.deploy(f"{HEADER}hooks:\n  AfterInstall:\n    - location: {location}\n")
    found = diagnostics(events, "AfterInstall")
    assert found["errorCode"] == "ScriptNotExecutable"
    assert found["message"] == f"Unable to set script at specified location: {location} as executable"


@pytest.mark.parametrize(
    ("location", "text", "code", "message"),
    [
        ("a.sh argument", "#!/bin/sh\n", "ScriptMissing", "does not exist"),
        ("a.sh", "#!/bin/sh\r\necho hi\r\n", "ScriptFailed", "Errno::ENOENT with message No such file"),
        ("a.sh", "echo a shell took it\n", "Success", "Succeeded"),
        ("a b.sh", "#!/bin/sh\n", "ScriptFailed", "deployment-archive/a"),
        ("a;b.sh", "#!/bin/sh\n", "ScriptFailed", "exit code 127"),
    ],
    ids=["arguments", "CRLF", "no shebang", "a space", "a character of the shell"],
)
def test_what_a_location_may_be(fleet, location, text, code, message):
    appspec = HEADER + f"hooks:\n  AfterInstall:\n    - location: {location}\n"
    _, events = fleet.deploy(appspec, {"a.sh": text, "a b.sh": text, "a;b.sh": text})
    found = diagnostics(events, "AfterInstall")
    assert found["errorCode"] == code
    assert message in found["message"]


def test_a_timeout_ends_the_whole_process_group(fleet):
    mark = fleet.root() / "tmp/child"
    body = f"(trap 'echo gone > {mark}; exit' TERM; while :; do sleep 0.1; done) & echo waiting; sleep 100"
    began = time.monotonic()
    _, events = fleet.deploy(*hooks(timeout=1, AfterInstall=body))
    assert time.monotonic() - began < 20
    found = diagnostics(events, "AfterInstall")
    assert found["errorCode"] == "ScriptTimedOut"
    assert (
        found["message"]
        == "Script at specified location: scripts/AfterInstall.sh failed to complete in 1 seconds"
    )
    assert "[stdout]waiting" in found["logTail"]
    deadline = time.monotonic() + 5
    while not mark.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_script_that_ignores_term_hangs_the_agent(fleet):
    gate = fleet.root() / "tmp/gate"
    body = f"trap 'echo had TERM' TERM; until [ -e {gate} ]; do sleep 0.05; done"
    deployment = fleet.start(fleet.upload(tar(bundle(timeout=1, AfterInstall=body))))
    log = fleet.folder(deployment) / "logs/scripts.log"
    wait_until(lambda: log.exists() and "had TERM" in log.read_text(), 60)
    assert fleet.events(deployment)["AfterInstall"]["status"] == "InProgress"
    gate.touch()
    _, events = fleet.finish(deployment)
    assert diagnostics(events, "AfterInstall")["errorCode"] == "ScriptTimedOut"


def test_the_sandbox_bounds_that_and_says_so(tmp_path):
    """A real agent waits for ever; here a test that does would hold up all others."""
    text, files = hooks(timeout=1, AfterInstall="trap '' TERM; while :; do sleep 0.05; done")
    script = tmp_path / "deployment-archive/scripts/AfterInstall.sh"
    script.parent.mkdir(parents=True)
    script.write_text(files["scripts/AfterInstall.sh"])
    runner = HookRunner({"PATH": os.environ["PATH"]}, lambda: True, hang_seconds=0.2)
    with pytest.raises(
        ScriptError, match=r"hangs until it ends\. The sandbox killed it after 0\.2"
    ) as caught:
        runner.run("AfterInstall", parse_appspec(text), script.parents[1], tmp_path / "logs")
    assert caught.value.code == "ScriptTimedOut"


def test_a_background_child_that_holds_stdout_fails_a_hook_that_exited_0(fleet):
    info, events = fleet.deploy(*hooks(timeout=1, AfterInstall="sleep 100 & exit 0"))
    assert info["status"] == "Failed"
    found = diagnostics(events, "AfterInstall")["message"]
    assert found == "Script at specified location: scripts/AfterInstall.sh failed to close STDOUT"


def test_so_does_one_that_holds_stderr_only_and_the_agent_leaves_it_alone(fleet):
    body = "sleep 100 < /dev/null > /dev/null & echo $! > ${0%%/opt/*}/tmp/pid"
    _, events = fleet.deploy(*hooks(timeout=1, AfterInstall=body))
    assert diagnostics(events, "AfterInstall")["message"].endswith("failed to close STDERR")
    os.kill(int((fleet.root() / "tmp/pid").read_text()), 0)  # it is there


def test_a_background_child_with_its_descriptors_redirected_does_not(fleet):
    body = "setsid sleep 100 </dev/null >/dev/null 2>&1 &"
    info, _ = fleet.deploy(*hooks(timeout=5, AfterInstall=body))
    assert info["status"] == "Succeeded"
    # It goes on, until its host goes down.
    assert len(processes_with(HOST_VARIABLE, str(fleet.root()))) == 1
    fleet.codedeploy.deregister_on_premises_instance(instanceName=fleet.hosts[0])
    assert processes_with(HOST_VARIABLE, str(fleet.root())) == []


def test_diagnostics_keep_the_last_whole_lines_under_2048_characters(fleet):
    _, events = fleet.deploy(*hooks(AfterInstall="for i in {1..500}; do echo line $i; done; exit 1"))
    log = diagnostics(events, "AfterInstall")["logTail"]
    assert 1900 < len(log) < 2048
    assert log.startswith("[stdout]line ")
    assert log.endswith("[stdout]line 500\n")


def test_one_long_last_line_gives_an_empty_log(fleet):
    _, events = fleet.deploy(
        *hooks(AfterInstall="echo short; head -c 3000 /dev/zero | tr '\\0' x; echo; exit 1")
    )
    assert diagnostics(events, "AfterInstall")["logTail"] == ""


@pytest.mark.parametrize("event", ["DownloadBundle", "Install", "BlockTraffic", "AllowTraffic"])
def test_a_script_under_an_event_that_has_none_is_silently_ignored(fleet, event):
    info, events = fleet.deploy(*hooks(**{event: "exit 1"}))
    assert info["status"] == "Succeeded"
    assert diagnostics(events, "Install")["logTail"] == ""


def test_an_unknown_event_with_scripts_fails_at_install_after_before_install(fleet):
    info, events = fleet.deploy(*hooks(BeforeInstall="echo ran", ApplicatiionStart="true"))
    assert info["status"] == "Failed"
    assert "[stdout]ran" in diagnostics(events, "BeforeInstall")["logTail"]
    assert events["Install"]["status"] == "Failed"
    expected = 'appspec.yml file contains unknown lifecycle events: ["ApplicatiionStart"]'
    assert diagnostics(events, "Install")["message"] == expected


@pytest.mark.parametrize(
    ("appspec", "message"),
    [
        ("version: 1.0\nos: linux\n", "invalid version value (1.0)"),
        ('version: "0.0"\nos: linux\n', "invalid version value (0.0)"),
        ("version: 0.0\nos: ubuntu\n", "unsupported operating system (ubuntu)"),
        ("version: 0.0\nos: windows\n", "is for windows"),
        ("version: [\n", "not YAML"),
    ],
)
def test_a_wrong_appspec_fails_before_install(fleet, appspec, message):
    _, events = fleet.deploy(appspec)
    assert statuses(events)[:3] == ["Succeeded", "Succeeded", "Failed"]
    assert message in diagnostics(events, "BeforeInstall")["message"]


def test_an_appspec_with_another_name_is_not_found(fleet):
    _, events = fleet.finish(fleet.start(fleet.upload(tar({"appspec.yaml": HEADER}))))
    assert "did not find an AppSpec file" in diagnostics(events, "BeforeInstall")["message"]


@pytest.mark.skipif(os.geteuid() != 0, reason="su needs root")
def test_runas_runs_as_that_user_and_fails_without_a_shell(fleet):
    for folder in [fleet.root(), *fleet.root().parents][:-1]:
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(folder.stat().st_mode | 0o055)
    _, events = fleet.deploy(*hooks(runas="root", AfterInstall="id -un"))
    assert "[stdout]root" in diagnostics(events, "AfterInstall")["logTail"]
    _, events = fleet.deploy(*hooks(runas="nobody", AfterInstall="id -un"))
    found = diagnostics(events, "AfterInstall")
    assert found["message"].endswith("run as user nobody failed with exit code 1")
    assert "This account is currently not available" in found["logTail"]


def test_sudo_strips_the_environment_and_keeps_the_hosts_systemctl(fleet):
    appspec = HEADER + "hooks:\n  AfterInstall:\n    - location: a.sh\n      sudo: true\n"
    info, events = fleet.deploy(appspec, {"a.sh": "#!/bin/sh\nenv; command -v systemctl\n"})
    assert info["status"] == "Succeeded"
    log = diagnostics(events, "AfterInstall")["logTail"]
    assert f"[stdout]{fleet.root().parent}/bin/systemctl\n" in log
    for name in ("LIFECYCLE_EVENT", "DEPLOYMENT_ID", "BUNDLE_KEY", "AWS_ENDPOINT_URL"):
        assert f"]{name}=" not in log
