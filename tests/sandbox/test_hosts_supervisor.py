"""A host's supervisor: the facts of a swap that works, boot, restarts and the end of everything."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from apps.sandbox.hosts.host import HostError, create_host, start_host
from apps.sandbox.hosts.process import processes_with
from apps.sandbox.hosts.supervisor import HOST_VARIABLE
from tests.sandbox.hosts import (
    enable,
    free_port,
    get,
    journal,
    point_current,
    show,
    wait_until,
    write_app,
    write_unit,
)

pytestmark = pytest.mark.integration


@pytest.fixture
def layout(tmp_path):
    return create_host(tmp_path / "h/root")


@pytest.fixture
def boot(layout):
    hosts = []

    def run(environment=None):
        hosts.append(start_host("h", layout.root, environment))
        return hosts[-1]

    yield run
    for host in hosts:
        host.power_off()


@pytest.fixture
def app(layout):
    """The port of an application with its four units, release `one` being current."""
    port = free_port()
    write_app(layout, port)
    point_current(layout, "one")
    return port


def test_boot_starts_the_release_that_current_names(boot, layout, app):
    host = boot()
    assert get(app).startswith("one ")
    host.shut_down()
    point_current(layout, "two")
    boot()
    assert get(app).startswith("two ")


def test_a_service_gets_every_socket_it_names(boot, app):
    boot()
    assert sorted(get(app).removeprefix("one ").split(":")) == ["private", "public"]


def test_a_new_release_takes_over_and_no_request_is_lost(boot, app):
    host = boot()
    seen: set[str] = set()
    served: list[str] = []
    failed: list[str] = []
    done = threading.Event()

    def client():
        while not done.is_set():
            try:
                served.append(get(app).split()[0])
                seen.add(served[-1])
            except OSError as error:
                failed.append(str(error))

    clients = [threading.Thread(target=client) for _ in range(4)]
    for each in clients:
        each.start()
    try:
        wait_until(lambda: "one" in seen)
        assert host.systemctl("start", "app@two").returncode == 0
        assert host.systemctl("stop", "app@one", "app-private@one.socket").returncode == 0
        seen_before = len(served)
        wait_until(lambda: len(served) > seen_before + 50)
    finally:
        done.set()
        for each in clients:
            each.join()
    # The test's server dies in the middle of a request when told to stop, which gunicorn does not.
    assert [text for text in failed if "refused" in text] == []
    assert seen == {"one", "two"}


def test_stopping_a_release_leaves_the_public_socket_and_takes_its_private_one(boot, layout, app):
    host = boot()
    get(app)
    host.systemctl("start", "app@two")
    assert (layout.root / "run/lockkeeper/one.sock").exists()
    host.systemctl("stop", "app@one")
    assert not (layout.root / "run/lockkeeper/one.sock").exists()
    assert show(host, "app-private@one.socket", "ActiveState") == "inactive"
    assert show(host, "app-private@two.socket", "ActiveState") == "active"
    assert show(host, "app.socket", "ActiveState") == "active"
    assert get(app).startswith("two ")


def test_the_private_socket_answers_for_one_release_only(boot, layout, app):
    host = boot()
    get(app)
    host.systemctl("start", "app@two")
    for release in ("one", "two", "one", "two"):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(layout.root / f"run/lockkeeper/{release}.sock"))
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert release in sock.makefile().read()


def test_a_killed_service_comes_back(boot, app):
    host = boot()
    get(app)
    os.kill(int(show(host, "app@one", "MainPID")), signal.SIGKILL)
    wait_until(lambda: show(host, "app@one", "NRestarts") == "1")
    assert get(app).startswith("one ")


def test_a_connection_starts_the_pointer_when_no_release_runs(boot, layout, app):
    (layout.units / "multi-user.target.wants/app.service").unlink()
    host = boot()
    assert show(host, "app.service", "ActiveState") == "inactive"
    assert get(app).startswith("one ")
    assert "Connection arrived" in journal(layout, "app.socket")


def test_no_release_is_started_by_a_connection_while_another_runs(boot, layout, app):
    host = boot()
    get(app)
    host.systemctl("start", "app@two")
    host.systemctl("stop", "app@one")
    host.systemctl("stop", "app.service")
    for _ in range(5):
        assert get(app).startswith("two ")
    assert show(host, "app.service", "ActiveState") == "inactive"
    assert show(host, "app@one", "ActiveState") == "inactive"


def test_before_the_first_deployment_nothing_runs_and_nothing_failed(boot, layout, app):
    (layout.root / "srv/lockkeeper/current").unlink()
    host = boot()
    wait_until(lambda: show(host, "app.service", "SubState") == "exited")
    assert host.systemctl("is-system-running").stdout == "running\n"


def test_a_socket_whose_service_runs_cannot_be_started(boot, layout):
    write_unit(layout, "a.socket", "[Socket]\nListenStream=/run/lockkeeper/a.sock\n")
    write_unit(layout, "a.service", "[Service]\nExecStart=/bin/sleep 1000\n")
    host = boot()
    host.systemctl("start", "a.service")
    result = host.systemctl("start", "a.socket")
    assert result.returncode == 1
    assert "Socket service a.service already active, refusing." in result.stderr


def test_restarting_the_public_socket_fails_and_starting_the_pointer_mends_it(boot, app):
    host = boot()
    get(app)
    result = host.systemctl("restart", "app.socket")
    assert result.returncode == 1
    assert "Address already in use" in result.stderr
    host.systemctl("stop", "app.socket")
    assert host.systemctl("start", "app.service").returncode == 0
    assert get(app).startswith("one ")


def test_a_taken_port_fails_the_socket_and_says_so(boot, layout):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        write_unit(layout, "a.socket", f"[Socket]\nListenStream=127.0.0.1:{port}\n")
        write_unit(layout, "a.service", "[Service]\nExecStart=/bin/true\n")
        result = boot().systemctl("start", "a.socket")
    assert result.returncode == 1
    assert "Address already in use" in result.stderr


def test_the_default_start_limit_fails_the_socket_and_closes_the_port(boot, layout):
    port = free_port()
    write_unit(layout, "a.socket", f"[Socket]\nListenStream=127.0.0.1:{port}\n")
    write_unit(layout, "a.service", "[Service]\nExecStart=/bin/false\n")
    host = boot()
    host.systemctl("start", "a.socket")
    with socket.create_connection(("127.0.0.1", port)):
        wait_until(lambda: show(host, "a.socket", "ActiveState") == "failed")
    assert show(host, "a.socket", "Result") == "service-start-limit-hit"
    with pytest.raises(ConnectionRefusedError):
        get(port)


def test_restart_stops_at_the_start_limit_and_not_without_one(boot, layout):
    text = "[Unit]\nStartLimitIntervalSec={}\n[Service]\nExecStart=/bin/{}\nRestart=always\nRestartSec=10ms\n"
    write_unit(layout, "limited.service", text.format(10, "false"))
    # Ends well: one that ends badly in the moment in which it is stopped has failed.
    write_unit(layout, "unlimited.service", text.format(0, "true"))
    host = boot()
    host.systemctl("start", "limited", "unlimited")
    wait_until(lambda: show(host, "limited", "Result") == "start-limit-hit")
    assert show(host, "limited", "NRestarts") == "5"
    wait_until(lambda: int(show(host, "unlimited", "NRestarts")) > 7)
    host.systemctl("stop", "unlimited")
    assert show(host, "unlimited", "ActiveState") == "inactive"


def test_mixed_terms_the_main_process_and_kills_the_rest(boot, layout):
    script = (
        "trap 'echo main got TERM; exit 0' TERM; "
        "(trap 'echo child got TERM' TERM; while :; do sleep 0.1; done) & "
        "echo started; while :; do sleep 0.05; done"
    )
    write_unit(layout, "a.service", f'[Service]\nKillMode=mixed\nExecStart=/bin/sh -c "{script}"\n')
    host = boot()
    host.systemctl("start", "a")
    wait_until(lambda: "started" in journal(layout, "a.service"))
    invocation = show(host, "a", "InvocationID")
    assert len(processes_with("INVOCATION_ID", invocation)) > 1
    host.systemctl("stop", "a")
    assert "main got TERM" in journal(layout, "a.service")
    assert "child got TERM" not in journal(layout, "a.service")
    assert processes_with("INVOCATION_ID", invocation) == []


def test_a_service_that_ignores_term_is_killed_after_timeoutstopsec(boot, layout):
    write_unit(
        layout,
        "a.service",
        "[Service]\nTimeoutStopSec=300ms\n"
        "ExecStart=/bin/sh -c \"trap '' TERM; echo started; while :; do sleep 0.1; done\"\n",
    )
    host = boot()
    host.systemctl("start", "a")
    wait_until(lambda: "started" in journal(layout, "a.service"))
    began = time.monotonic()
    host.systemctl("stop", "a")
    assert time.monotonic() - began >= 0.3
    assert (show(host, "a", "ActiveState"), show(host, "a", "Result")) == ("failed", "timeout")


def test_a_daemon_that_left_its_session_ends_with_its_service(boot, layout):
    write_unit(layout, "a.service", '[Service]\nExecStart=/bin/sh -c "setsid sleep 1000 & exec sleep 1000"\n')
    host = boot()
    host.systemctl("start", "a")
    invocation = show(host, "a", "InvocationID")
    wait_until(lambda: len(processes_with("INVOCATION_ID", invocation)) == 2)
    host.systemctl("stop", "a")
    assert processes_with("INVOCATION_ID", invocation) == []


def test_notify_without_ready_fails_after_timeoutstartsec(boot, layout):
    write_unit(
        layout, "a.service", "[Service]\nType=notify\nTimeoutStartSec=200ms\nExecStart=/bin/sleep 100\n"
    )
    host = boot()
    assert host.systemctl("start", "a").returncode == 1
    assert show(host, "a", "Result") == "timeout"


def test_notify_from_another_process_does_not_count(boot, layout):
    send = "import os, socket; s = socket.socket(1, 2); s.connect(chr(0) + os.environ['NOTIFY_SOCKET'][1:]); "
    script = f"{send}os.fork() or (s.send(b'READY=1'), os._exit(0)); import time; time.sleep(9)"
    write_unit(
        layout,
        "a.service",
        f'[Service]\nType=notify\nTimeoutStartSec=500ms\nExecStart={sys.executable} -c "{script}"\n',
    )
    assert boot().systemctl("start", "a").returncode == 1


def test_units_see_the_hosts_paths_environment_and_programs(boot, layout):
    (layout.root / "etc/lockkeeper").mkdir()
    (layout.root / "etc/lockkeeper/environment").write_text("FROM_FILE='a b'\n")
    write_unit(
        layout,
        "a@.service",
        '[Service]\nType=oneshot\nEnvironment="TWO=x y" HERE=/srv/lockkeeper/%i\n'
        "EnvironmentFile=/etc/lockkeeper/environment\n"
        "WorkingDirectory=/srv\nRuntimeDirectory=app-%i\nUMask=0077\n"
        "ExecStart=/bin/sh -c 'echo $$FROM_FILE,$$TWO,$$HERE,$$GIVEN,$$RUNTIME_DIRECTORY,$$(umask),"
        "$$(command -v systemctl)'\n",
    )
    host = boot({"GIVEN": "by the instance profile"})
    assert host.systemctl("start", "a@z").returncode == 0
    root = layout.root
    given = f"{root}/srv/lockkeeper/z,by the instance profile,{root}/run/app-z"
    expected = f"a b,x y,{given},0077,{layout.bin}/systemctl"
    assert expected in journal(layout, "a@z.service")


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("ExecStart=/nonexistent", "status=203/EXEC"),
        ("WorkingDirectory=/nonexistent\nExecStart=/bin/true", "status=200/CHDIR"),
        ("ReadWritePaths=/srv/lockkeeper/nonexistent\nExecStart=/bin/true", "status=226/NAMESPACE"),
        ("EnvironmentFile=/etc/lockkeeper/none\nExecStart=/bin/true", "it does not exist"),
    ],
)
def test_what_keeps_a_service_from_starting_is_said(boot, layout, line, status):
    write_unit(layout, "a.service", f"[Service]\nType=exec\n{line}\n")
    result = boot().systemctl("start", "a")
    assert result.returncode == 1
    assert status in result.stderr


def test_a_failed_requirement_is_a_failed_dependency(boot, layout):
    write_unit(
        layout, "a.service", "[Unit]\nRequires=b.service\nAfter=b.service\n[Service]\nExecStart=/bin/true\n"
    )
    write_unit(layout, "b.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n")
    result = boot().systemctl("start", "a")
    assert result.returncode == 1
    assert "A dependency job for a.service failed" in result.stderr


def test_an_ordering_cycle_is_refused(boot, layout):
    write_unit(
        layout, "a.service", "[Unit]\nWants=b.service\nAfter=b.service\n[Service]\nExecStart=/bin/true\n"
    )
    write_unit(layout, "b.service", "[Unit]\nAfter=a.service\n[Service]\nExecStart=/bin/true\n")
    result = boot().systemctl("start", "a")
    assert result.returncode == 1
    assert "ordering cycle" in result.stderr


def test_a_condition_that_is_not_met_skips_the_unit(boot, layout):
    write_unit(
        layout,
        "a.service",
        "[Unit]\nConditionPathExists=/srv/lockkeeper/current\n[Service]\nExecStart=/bin/true\n",
    )
    host = boot()
    assert host.systemctl("start", "a").returncode == 0
    assert show(host, "a", "ActiveState") == "inactive"


def test_shutdown_stops_units_and_then_everything_else(boot, layout):
    write_unit(
        layout,
        "a.service",
        "[Service]\nExecStart=/bin/sh -c \"trap 'echo bye; exit 0' TERM; while :; do sleep 0.05; done\"\n",
    )
    host = boot()
    host.systemctl("start", "a")
    stray = subprocess.Popen(["sleep", "1000"], env={HOST_VARIABLE: str(layout.root)}, start_new_session=True)
    host.shut_down()
    assert "bye" in journal(layout, "a.service")
    assert stray.wait(5) == -signal.SIGTERM
    assert not host.running


def test_power_off_leaves_no_process(boot, layout, app):
    host = boot()
    get(app)
    host.power_off()
    assert processes_with(HOST_VARIABLE, str(layout.root)) == []


def test_a_host_does_not_outlive_whoever_started_it(layout):
    write_unit(
        layout, "a.service", "[Service]\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=multi-user.target\n"
    )
    enable(layout, "a.service", "multi-user.target")
    program = (
        "import sys, pathlib, time; from apps.sandbox.hosts.host import start_host; "
        "start_host('h', pathlib.Path(sys.argv[1])); print('up', flush=True); time.sleep(1000)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(layout.root)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"up\n"
    wait_until(lambda: len(processes_with(HOST_VARIABLE, str(layout.root))) == 1)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: processes_with(HOST_VARIABLE, str(layout.root)) == [])


def test_a_host_below_a_very_long_path_works(tmp_path):
    layout = create_host(tmp_path / ("d" * 60) / ("e" * 60) / "root")
    write_unit(layout, "a.socket", "[Socket]\nListenStream=/run/lockkeeper/%s.sock\n" % ("a" * 64))
    write_unit(layout, "a.service", "[Service]\nExecStart=/bin/true\n")
    host = start_host("h", layout.root)
    try:
        assert host.systemctl("start", "a.socket").returncode == 0
    finally:
        host.power_off()


def test_a_host_that_cannot_come_up_says_why(layout):
    (layout.root / "run").rmdir()
    (layout.root / "run").write_text("not a folder")
    with pytest.raises(HostError, match="cannot make the host"):
        start_host("h", layout.root)
