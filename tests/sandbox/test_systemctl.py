"""The `systemctl` of a sandbox host: exit codes and texts of the real one."""

import subprocess

import pytest

from apps.sandbox.hosts.host import create_host, start_host
from tests.sandbox.hosts import show, wait_until, write_unit

pytestmark = pytest.mark.integration

SLEEPER = """\
[Unit]
Description=Sleeps
[Service]
ExecStart=/bin/sleep 1000
[Install]
WantedBy=multi-user.target
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    layout = create_host(tmp_path_factory.mktemp("host") / "root")
    write_unit(layout, "sleeper.service", SLEEPER)
    write_unit(layout, "sleeper@.service", SLEEPER)
    write_unit(
        layout,
        "broken.service",
        "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo the reason >&2; exit 3'\n",
    )
    write_unit(layout, "slow.service", "[Service]\nType=oneshot\nExecStart=/bin/sleep 0.5\n")
    write_unit(layout, "endless.service", "[Service]\nType=oneshot\nExecStart=/bin/sleep 600\n")
    host = start_host("h", layout.root)
    yield host
    host.power_off()


@pytest.fixture(autouse=True)
def at_rest(host):
    yield
    host.systemctl("stop", "sleeper*", "sleeper")
    host.systemctl("reset-failed")


def test_start_stop_and_is_active(host):
    assert host.systemctl("is-active", "sleeper").stdout == "inactive\n"
    assert host.systemctl("is-active", "sleeper").returncode == 3
    assert host.systemctl("start", "sleeper").returncode == 0
    result = host.systemctl("is-active", "sleeper", "broken")
    assert (result.stdout, result.returncode) == ("active\ninactive\n", 0)
    assert host.systemctl("is-active", "--quiet", "sleeper").stdout == ""
    assert host.systemctl("stop", "sleeper").returncode == 0
    assert host.systemctl("is-active", "sleeper").returncode == 3


def test_an_unknown_unit(host):
    result = host.systemctl("start", "nope")
    assert (result.returncode, result.stderr) == (
        5,
        "Failed to start nope.service: Unit nope.service not found.\n",
    )
    result = host.systemctl("stop", "nope")
    assert (result.returncode, result.stderr) == (
        5,
        "Failed to stop nope.service: Unit nope.service not loaded.\n",
    )
    assert host.systemctl("restart", "nope").returncode == 5
    assert host.systemctl("status", "nope").returncode == 4
    assert host.systemctl("show", "-p", "LoadState", "nope").stdout == "LoadState=not-found\n"


def test_start_waits_and_a_failure_shows_the_reason(host):
    result = host.systemctl("start", "broken")
    assert result.returncode == 1
    assert "Job for broken.service failed: exit-code." in result.stderr
    assert "the reason" in result.stderr
    assert host.systemctl("is-failed", "broken").returncode == 0
    assert host.systemctl("is-failed", "sleeper").returncode == 1
    assert host.systemctl("status", "broken").returncode == 3
    assert host.systemctl("reset-failed", "broken").returncode == 0
    assert host.systemctl("is-failed", "broken").returncode == 1


def test_no_block_does_not_wait(host):
    assert host.systemctl("start", "--no-block", "slow").returncode == 0
    assert show(host, "slow", "ActiveState") == "activating"
    wait_until(lambda: show(host, "slow", "ActiveState") == "inactive")


def test_a_start_waits_for_one_under_way(host):
    host.systemctl("start", "--no-block", "slow")
    assert host.systemctl("start", "slow").returncode == 0
    assert show(host, "slow", "ActiveState") == "inactive"


def test_a_restart_of_a_oneshot_under_way_begins_it_anew(host):
    """Unlike a start, which waits for the one under way; measured with systemd 252."""
    begun = host.layout.root / "tmp/begun"
    script = f"/bin/sh -c 'echo begun >>{begun}; exec sleep 1'"
    write_unit(host.layout, "counted.service", f"[Service]\nType=oneshot\nExecStart={script}\n")
    host.systemctl("daemon-reload")
    for count in (1, 2, 3):
        assert host.systemctl("restart", "--no-block", "counted").returncode == 0
        wait_until(lambda count=count: begun.exists() and begun.read_text().count("begun") == count)
    wait_until(lambda: show(host, "counted", "ActiveState") == "inactive")
    assert show(host, "counted", "Result") == "success"


def test_a_stop_cancels_a_start(host):
    waiting = subprocess.Popen(
        [host.layout.bin / "systemctl", "start", "endless"], stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: show(host, "endless", "ActiveState") == "activating")
    host.systemctl("stop", "endless")
    _, stderr = waiting.communicate(timeout=10)
    assert (waiting.returncode, stderr) == (1, "Job for endless.service canceled.\n")


def test_reset_failed_of_a_unit_that_is_not_loaded(host):
    result = host.systemctl("reset-failed", "sleeper@x")
    assert result.returncode == 1
    assert "Unit sleeper@x.service not loaded." in result.stderr
    assert host.systemctl("reset-failed", "sleeper@*").returncode == 0


def test_list_units_by_pattern_and_state(host):
    host.systemctl("start", "sleeper@a", "sleeper@b")
    rows = host.systemctl("list-units", "--plain", "--no-legend", "sleeper@*").stdout.splitlines()
    assert [row.split() for row in rows] == [
        ["sleeper@a.service", "loaded", "active", "running", "Sleeps"],
        ["sleeper@b.service", "loaded", "active", "running", "Sleeps"],
    ]
    assert host.systemctl("list-units", "--plain", "--no-legend", "--state=failed", "sleeper@*").stdout == ""
    assert "2 loaded units listed." in host.systemctl("list-units", "--type", "service").stdout
    host.systemctl("stop", "sleeper@*")
    assert host.systemctl("list-units", "--plain", "--no-legend", "sleeper@*").stdout == ""


def test_show_gives_properties_in_the_order_asked(host):
    host.systemctl("start", "sleeper")
    lines = host.systemctl("show", "-p", "SubState,ActiveState", "--property=NRestarts", "sleeper").stdout
    assert lines == "SubState=running\nActiveState=active\nNRestarts=0\n"
    assert int(show(host, "sleeper", "MainPID")) > 1


def test_restart_gives_a_new_process_and_try_restart_only_to_what_runs(host):
    assert host.systemctl("try-restart", "sleeper").returncode == 0
    assert show(host, "sleeper", "ActiveState") == "inactive"
    assert host.systemctl("restart", "sleeper").returncode == 0
    before = show(host, "sleeper", "MainPID")
    assert host.systemctl("restart", "sleeper").returncode == 0
    assert show(host, "sleeper", "MainPID") not in {before, "0"}


def test_kill_signals_the_main_process(host):
    host.systemctl("start", "sleeper")
    assert host.systemctl("kill", "-s", "KILL", "--kill-whom=main", "sleeper").returncode == 0
    wait_until(lambda: show(host, "sleeper", "Result") == "signal")
    assert host.systemctl("is-failed", "sleeper").stdout == "failed\n"


def test_enable_and_disable(host):
    link = host.layout.units / "multi-user.target.wants/sleeper.service"
    assert host.systemctl("is-enabled", "sleeper").returncode == 1
    assert host.systemctl("enable", "--now", "sleeper").returncode == 0
    assert link.resolve() == host.layout.units / "sleeper.service"
    assert host.systemctl("is-active", "sleeper").returncode == 0
    assert host.systemctl("is-enabled", "sleeper").stdout == "enabled\n"
    assert host.systemctl("disable", "--now", "sleeper").returncode == 0
    assert not link.is_symlink()
    assert host.systemctl("is-active", "sleeper").returncode == 3
    assert host.systemctl("is-enabled", "broken").stdout == "static\n"


def test_a_changed_unit_file_counts_at_the_next_start(host):
    write_unit(host.layout, "changing.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n")
    assert host.systemctl("start", "changing").returncode == 1
    write_unit(host.layout, "changing.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n")
    assert host.systemctl("daemon-reload").returncode == 0
    assert host.systemctl("start", "changing").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frobnicate", "a"], "Unknown command verb frobnicate"),
        (["start"], "Too few arguments."),
        (["start", "--frobnicate", "a"], "unrecognized arguments: --frobnicate"),
        (["start", "a b"], "Invalid unit name"),
        (["kill", "-s", "NOPE", "sleeper"], "Failed to parse signal string NOPE."),
    ],
)
def test_a_wrong_command_line_is_said(host, arguments, message):
    result = host.systemctl(*arguments)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_bad_unit_is_named_with_file_and_line(host):
    write_unit(host.layout, "bad.service", "[Service]\nExecStart=/bin/true\nWatchdogSec=1\n")
    result = host.systemctl("start", "bad")
    assert result.returncode == 1
    assert "bad.service:3: WatchdogSec=" in result.stderr


def test_journalctl_shows_the_units_output(host):
    host.systemctl("start", "broken")
    result = subprocess.run(
        [host.layout.bin / "journalctl", "-u", "broken", "-n", "20", "--no-pager"],
        capture_output=True,
        text=True,
    )
    assert "the reason" in result.stdout


def test_it_works_whatever_the_callers_environment_is(host):
    result = subprocess.run(
        [host.layout.bin / "systemctl", "is-active", "sleeper"],
        env={"PYTHONPATH": "/nonexistent", "PYTHONHOME": "/nonexistent"},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (result.stdout, result.stderr) == ("inactive\n", "")


def test_while_the_host_is_down_only_files_can_be_changed(tmp_path):
    layout = create_host(tmp_path / "root")
    write_unit(layout, "sleeper.service", SLEEPER)

    def systemctl(*arguments):
        return subprocess.run([layout.bin / "systemctl", *arguments], capture_output=True, text=True)

    assert systemctl("enable", "sleeper").returncode == 0
    assert systemctl("is-enabled", "sleeper").stdout == "enabled\n"
    assert systemctl("daemon-reload").returncode == 0
    result = systemctl("start", "sleeper")
    assert (result.returncode, "the sandbox host is down" in result.stderr) == (1, True)
