"""What scripts/demo is made of, each by itself; tests/e2e runs it whole."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import pytest
from rich.console import Console

from apps.sandbox.demo import signals as signals_module
from apps.sandbox.demo.cloud import Rollout
from apps.sandbox.demo.console import Progress
from apps.sandbox.demo.control import Control
from apps.sandbox.demo.errors import DemoError
from apps.sandbox.demo.hosts import host_folder
from apps.sandbox.demo.probe import Probe, digest_in
from apps.sandbox.demo.scenario import MISSING_MODULE, RED_NAME, SCENARIOS, break_import
from apps.sandbox.demo.services import Service, fetch, free_port, run
from apps.sandbox.demo.signals import SIGNALS, Signals
from apps.sandbox.demo.slot import take_slot
from apps.sandbox.demo.source import Repository

ROOT = Path(__file__).parents[2]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def signals():
    """Signal handlers for one test."""
    numbers = (*SIGNALS, signal.SIGALRM)
    # Not as nohup leaves it: what is ignored from the start stays so.
    before = {signum: signal.signal(signum, signal.SIG_DFL) for signum in numbers}
    yield Signals()
    signal.setitimer(signal.ITIMER_REAL, 0)
    for signum, handler in before.items():
        signal.signal(signum, handler)


class TestSignals:
    def test_one_during_a_call_of_aws_is_told_as_a_signal(self, signals):
        # Accepts connections and never answers.
        with socket.create_server(("127.0.0.1", 0)) as silent:
            client = boto3.client(
                "codebuild",
                endpoint_url=f"http://127.0.0.1:{silent.getsockname()[1]}",
                region_name="eu-central-1",
                aws_access_key_id="a",
                aws_secret_access_key="b",
            )
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
            assert signals.guard(client.list_projects) is None
        assert signals.signum == signal.SIGTERM

    def test_the_first_counts_and_none_interrupts_the_end(self, signals):
        def work():
            try:
                signal.raise_signal(signal.SIGHUP)
            finally:
                signal.raise_signal(signal.SIGTERM)

        assert signals.guard(work) is None
        for signum in SIGNALS:
            signal.raise_signal(signum)
        assert signals.signum == signal.SIGHUP

    def test_one_that_python_swallows_is_raised_again(self, signals, monkeypatch):
        monkeypatch.setattr(signals_module, "AGAIN_SECONDS", 0.05)
        monkeypatch.setattr(sys, "unraisablehook", lambda _: None)

        class Dying:
            def __del__(self):
                signal.raise_signal(signal.SIGTERM)

        def work():
            Dying()
            threading.Event().wait(30)
            return 0

        assert signals.guard(work) is None
        assert signals.signum == signal.SIGTERM

    def test_without_one_the_work_says_how_it_ended(self, signals):
        assert signals.guard(lambda: 3) == 3
        assert signals.signum is None

    def test_an_error_is_no_signal(self, signals):
        with pytest.raises(ZeroDivisionError):
            signals.guard(lambda: 1 // 0)
        signal.raise_signal(signal.SIGTERM)


class TestSlot:
    def test_two_demos_have_two_folders(self, tmp_path):
        first, second = take_slot(tmp_path), take_slot(tmp_path)
        assert (first.folder.name, second.folder.name) == ("1", "2")
        first.close()
        third = take_slot(tmp_path)
        assert third.folder == first.folder
        second.close()
        third.close()

    def test_it_is_emptied_but_for_environments_and_the_last_logs(self, tmp_path):
        slot = take_slot(tmp_path)
        host = slot.state / "hosts" / "staging-1" / "root"
        (host / "srv/lockkeeper/venvs/key/bin").mkdir(parents=True)
        (host / "srv/lockkeeper/releases/abc").mkdir(parents=True)
        (host / "srv/lockkeeper/releases/abc/manage.py").touch()
        (host / "srv/lockkeeper/releases/abc").chmod(0o555)
        (host / "srv/lockkeeper/current").symlink_to("releases/abc")
        (host / "etc").mkdir()
        (slot.state / "builds").mkdir()
        (slot.folder / "token").touch()
        (slot.logs / "aws.log").write_text("last time")
        slot.close()

        again = take_slot(tmp_path)
        left = sorted(
            str(path.relative_to(again.folder)) for path in again.folder.rglob("*") if not path.is_dir()
        )
        assert left == ["lock", "logs.previous/aws.log"]
        assert (host / "srv/lockkeeper/venvs/key/bin").is_dir()
        assert names(host / "srv/lockkeeper") == ["venvs"]
        assert names(host) == ["srv"]
        assert names(host.parent) == ["root"]
        again.close()

    def test_a_folder_that_cannot_be_written_is_named(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(DemoError, match=r"file.*: Not a directory: the demo keeps its files there"):
            take_slot(tmp_path / "file" / "demo")

    def test_a_path_that_hosts_cannot_have_is_refused_before_anything_is_made(self, tmp_path):
        with pytest.raises(DemoError, match="clone into a folder whose path has only letters"):
            take_slot(tmp_path / "my clone" / "demo")
        assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("rollout", "said"),
    [
        (Rollout("d-1"), "d-1"),
        (Rollout("d-1", hosts=1, at="staging-1 Install"), "staging-1 Install"),
        (
            Rollout("d-1", hosts=2, done=1, at="i-2 BlockTraffic"),
            "i-2 BlockTraffic, 1 of 2 hosts done",
        ),
        (Rollout("d-1", hosts=2, done=2), "d-1, 2 of 2 hosts done"),
    ],
)
def test_a_deployment_says_which_host_is_at_what(rollout, said):
    assert str(rollout) == said


def test_instances_find_the_environments_of_earlier_ones(tmp_path):
    for name in ("i-1", "i-2"):
        (tmp_path / name / "root/srv/lockkeeper/venvs/key").mkdir(parents=True)
    for name in ("i-3", "i-4", "i-5"):
        (host_folder(tmp_path, name) / "etc").mkdir()  # as provisioning does
    (host_folder(tmp_path, "staging-1") / "etc").mkdir()
    kept = sorted(path.parts[-6] for path in tmp_path.rglob("key"))
    assert names(tmp_path) == ["i-3", "i-4", "i-5", "staging-1"]
    assert kept == ["i-3", "i-4"]


def test_a_password_is_shown_once(tmp_path):
    control = Control(tmp_path, tmp_path, tmp_path, "http://127.0.0.1:1", {}, {"approver": "a-secret"})
    assert control.show_password("approver") == "password a-secret"
    assert control.show_password("approver") == "password shown above"


@pytest.fixture
def repository(tmp_path):
    """A repository with one commit of what the scenarios change."""
    folder = tmp_path / "repository"
    for name in ("tests", "backend"):
        (folder / name).mkdir(parents=True)
    (folder / "backend/wsgi.py").write_text((ROOT / "backend/wsgi.py").read_text())
    (folder / "tests/__init__.py").touch()
    (folder / ".archive-commit").write_text("$Format:%H %cI$\n")  # in an archive of ours it is filled in
    for name in (".gitattributes", "pyproject.toml"):
        (folder / name).write_text((ROOT / name).read_text())
    made = Repository(folder)
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    made.commit("First")
    return made


class TestRepository:
    def test_an_archive_is_of_head_and_says_so(self, repository, tmp_path):
        (repository.folder / "later").touch()
        assert repository.changes() == ["later"]
        archive = repository.archive(tmp_path / "below" / "source.zip")
        with zipfile.ZipFile(archive) as source:
            assert "later" not in source.namelist()
            assert source.read(".archive-commit").decode().split()[0] == repository.head()

    def test_a_folder_without_a_commit_is_refused(self, tmp_path):
        with pytest.raises(DemoError, match="run the demo in a clone made with git"):
            Repository(tmp_path).head()

    def test_a_detached_head_can_be_cloned(self, repository, tmp_path):
        repository.git("checkout", "--quiet", "--detach")
        clone = repository.clone(tmp_path / "clone")
        assert clone.head() == repository.head()
        assert clone.changes() == []


class TestScenarios:
    def test_the_red_test_is_red_and_has_the_name_that_is_looked_for(self, repository, tmp_path):
        clone = SCENARIOS["red-test"].make(repository, tmp_path / "clones")
        assert clone.head() != repository.head()
        command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "-p", "no:django", "tests"]
        done = subprocess.run(command, cwd=clone.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert f"{RED_NAME} - " in done.stdout

    def test_the_bad_release_compiles_and_cannot_be_imported(self, repository, tmp_path):
        clone = SCENARIOS["bad-release"].make(repository, tmp_path / "clones")
        source = (clone.folder / "backend/wsgi.py").read_text()
        compile(source, "wsgi.py", "exec")
        done = subprocess.run(
            [sys.executable, "-c", "import backend.wsgi"],
            cwd=clone.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert f"No module named '{MISSING_MODULE}'" in done.stderr

    def test_an_application_made_otherwise_is_not_broken_silently(self, tmp_path):
        (tmp_path / "backend").mkdir()
        (tmp_path / "backend/wsgi.py").write_text("app = None\n")
        with pytest.raises(DemoError, match="has no line that makes the application"):
            break_import(tmp_path)

    @pytest.mark.parametrize("name", sorted(SCENARIOS))
    def test_its_commit_passes_the_style_that_every_build_checks(self, repository, tmp_path, name):
        clone = SCENARIOS[name].make(repository, tmp_path / "clones")
        for command in (["check"], ["format", "--check"]):
            ruff = [Path(sys.prefix, "bin", "ruff"), *command, "--no-cache", "."]
            done = subprocess.run(ruff, cwd=clone.folder, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout


class TestProgress:
    def test_without_a_terminal_every_stage_has_lines_with_times(self, tmp_path):
        output = io.StringIO()
        with Progress(Console(file=output, highlight=False)) as progress:
            with progress.stage("one", "The first") as stage:
                progress.tell(stage, "halfway")
                progress.tell(stage, "halfway")
            with pytest.raises(DemoError), progress.stage("two", "The second"):
                raise DemoError("no")
        lines = [line.split(" s  ", 1)[1] for line in output.getvalue().splitlines()]
        assert lines == [
            "The first …",
            "  halfway",
            "The first done in 0.0 s: halfway",
            "The second …",
            "The second FAILED in 0.0 s",
        ]

    def test_the_seconds_are_saved(self, tmp_path):
        progress = Progress(Console(file=io.StringIO()))
        with progress.stage("one", "The first"):
            pass
        progress.save(tmp_path / "result.json", commit="abc")
        saved = json.loads((tmp_path / "result.json").read_text())
        assert [stage["name"] for stage in saved["stages"]] == ["one"]
        assert saved["commit"] == "abc"

    def test_a_terminal_is_drawn_on(self):
        output = io.StringIO()
        progress = Progress(Console(file=output, force_terminal=True, width=80))
        with progress, progress.stage("one", "The first") as stage:
            stage.note = "a note"
        assert "The first" in output.getvalue()
        assert "a note" in output.getvalue()


class FrontDoor(BaseHTTPRequestHandler):
    """Answers as its server's `mood` is."""

    def do_GET(self):
        status, body = self.server.mood
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """Keep quiet."""


@pytest.fixture
def front_door():
    server = ThreadingHTTPServer(("127.0.0.1", 0), FrontDoor)
    server.mood = (200, b'{"digest": "abc"}')
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def wait_for_requests(probe, number):
    deadline = time.monotonic() + 30
    while probe.tally.requests < number:
        assert time.monotonic() < deadline
        time.sleep(0.01)


class TestProbe:
    def ask(self, server, mood):
        server.mood = mood
        with Probe(f"http://127.0.0.1:{server.server_address[1]}", pause=0.001) as probe:
            wait_for_requests(probe, 5)
        return probe.tally

    def test_it_counts_what_answers(self, front_door):
        tally = self.ask(front_door, (200, b'{"digest": "abc"}'))
        assert tally.requests > 4
        assert tally.failures == []
        assert tally.digests == {"abc"}
        assert 0 < tally.longest < 5

    @pytest.mark.parametrize("mood", [(503, b"{}"), (200, b"<html>"), (200, b'{"digest": null}')])
    def test_it_counts_what_does_not(self, front_door, mood):
        tally = self.ask(front_door, mood)
        assert len(tally.failures) == tally.requests > 0

    def test_it_can_wait_to_be_told(self, front_door):
        with Probe(f"http://127.0.0.1:{front_door.server_address[1]}", pause=0.001, later=True) as probe:
            threading.Event().wait(0.05)
            assert probe.tally.requests == 0
            probe.begin()
            probe.begin()
            wait_for_requests(probe, 5)
        with Probe("http://127.0.0.1:1", later=True) as never:
            pass
        assert str(never.tally) == "0 requests were answered and 0 failed, the longest took 0 ms"

    def test_nobody_there_is_a_failure(self):
        with Probe(f"http://127.0.0.1:{free_port()}", pause=0.001) as probe:
            wait_for_requests(probe, 5)
        assert "refused" in probe.tally.failures[0]

    def test_an_answer_without_a_digest_is_none(self):
        with pytest.raises(ValueError, match="/version says"):
            digest_in(b"[]")


class TestProcesses:
    def test_a_command_that_fails_says_why_and_where(self, tmp_path):
        log = tmp_path / "log"
        with pytest.raises(
            DemoError, match=r"^provisioning failed with status 3: the disk is full$"
        ) as raised:
            run(
                "provisioning",
                ["sh", "-c", "echo the disk is full >&2; exit 3"],
                cwd=tmp_path,
                environment={},
                log=log,
            )
        assert raised.value.log == log

    def test_secrets_on_standard_output_stay_out_of_the_log(self, tmp_path):
        log = tmp_path / "log"
        command = ["sh", "-c", "echo secret; echo told >&2"]
        assert run("x", command, cwd=tmp_path, environment={}, log=log, quiet_output=True) == "secret\n"
        assert log.read_text() == "told\n"

    @pytest.mark.integration
    def test_a_service_that_ends_is_noticed(self, tmp_path):
        log = tmp_path / "log"
        service = Service(
            "web", ["sh", "-c", "echo port taken; exit 4"], cwd=tmp_path, environment={}, log=log
        )
        with pytest.raises(DemoError, match="web ended with status 4: port taken"):
            service.wait_until(lambda: False, timeout=10)

    @pytest.mark.integration
    def test_a_service_that_never_gets_ready_is_given_up(self, tmp_path):
        service = Service(
            "web", ["sleep", "30"], cwd=tmp_path, environment={"PATH": os.defpath}, log=tmp_path / "log"
        )
        with pytest.raises(DemoError, match="web was not ready after 0 s"):
            service.wait_until(lambda: False, timeout=0.1)
        service.stop()

    def test_an_unreachable_address_is_named(self):
        with pytest.raises(DemoError, match=r"GET http://127.0.0.1:1/: .*refused"):
            fetch("http://127.0.0.1:1/")
