"""What stays on a host and what goes, caused on real folders with their clocks set back."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from deploy import files, retention
from deploy.errors import Failure
from deploy.host import Host
from deploy.pointers import Pointers

from tests.hooks.agent import Machine, wait_until
from tests.hooks.trees import REPOSITORY

pytestmark = pytest.mark.integration
DAY = 86400
PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from deploy import retention
from deploy.host import Host
host = Host(Path(sys.argv[2]), {"KEEP_RELEASES": "1", "KEEP_DAYS": "14"})
retention.finish(host, sys.argv[3])
print("finished")
"""


@pytest.fixture(scope="module")
def systemd(tmp_path_factory):
    """A host that is up and runs nothing, for its systemctl."""
    machine = Machine(tmp_path_factory.mktemp("retention") / "staging-1" / "root")
    yield machine
    machine.up.power_off()


@pytest.fixture
def host(tmp_path, systemd, monkeypatch):
    monkeypatch.setenv("PATH", f"{systemd.up.layout.bin}:{os.environ['PATH']}")
    host = Host(tmp_path, {"KEEP_RELEASES": "2", "KEEP_DAYS": "14"})
    for name in (
        "releases",
        "venvs",
        "static",
        "configuration",
        "state/used",
        "state/flight",
        "state/outbox",
    ):
        (host.home / name).mkdir(parents=True)
    return host


def digest(name):
    return name.encode().hex().ljust(64, "0")


def environment(name):
    return name.encode().hex().ljust(32, "0")


def set_back(path, days):
    """Make a file or folder look as old as that."""
    then = time.time() - days * DAY
    os.utime(path, (then, then))


def make_release(host, name, *, used, env="env", static=()):
    """A release that was last used so many days ago, with its environment, marker and configuration."""
    release = host.release(digest(name))
    (release / ".static").mkdir(parents=True)
    paths = {f"{each}.css": f"{each}.hash.css" for each in static}
    if static:
        (release / ".static/staticfiles.json").write_text(json.dumps({"paths": paths}))
    (host.venvs / environment(env) / "bin").mkdir(parents=True, exist_ok=True)
    (release / ".venv").symlink_to(f"../../venvs/{environment(env)}")
    for folder in ("configuration", "state/used"):
        (host.home / folder / digest(name)).touch()
    set_back(host.state / "used" / digest(name), used)
    set_back(release, used)


def serve(host, current, previous=None):
    files.point(host.home / "current", f"releases/{digest(current)}")
    files.point(host.home / "previous", previous and f"releases/{digest(previous)}")


def names(folder):
    """What is there, by the names given above."""
    return {bytes.fromhex(path.name).rstrip(b"\0").decode() for path in folder.iterdir()}


def touch(path, days):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    set_back(path, days)


def test_kept_by_count_by_age_and_by_what_points_at_them(host):
    ages = {"now": 0, "before": 90, "recent": 13, "third": 20, "fourth": 30, "goes": 40, "goes-too": 50}
    for name, used in ages.items():
        make_release(host, name, used=used)
    serve(host, "now", "before")
    retention.finish(host, digest("now"))
    # `now` and `before`, which served until now, are the two that were used last.
    assert names(host.releases) == {"now", "before", "recent"}
    assert names(host.home / "configuration") == names(host.state / "used") == names(host.releases)
    assert names(host.venvs) == {"env"}


def test_the_count_keeps_what_is_old(host):
    for number in range(6):
        make_release(host, f"r{number}", used=100 + number)
    serve(host, "r5")
    host.settings["KEEP_RELEASES"] = "4"
    retention.finish(host, digest("r5"))
    assert names(host.releases) == {"r5", "r0", "r1", "r2"}


def test_what_an_unproved_swap_would_go_back_to_stays(host):
    for name in ("new", "current", "previous", "goes"):
        make_release(host, name, used=100)
    serve(host, "new", "current")
    record = {"digest": digest("new"), "current": digest("current"), "previous": digest("previous")}
    (host.state / "unproved.json").write_text(json.dumps(record))
    assert Pointers(host).unproved is not None
    host.settings["KEEP_RELEASES"] = "0"
    retention.finish(host, digest("new"))
    assert names(host.releases) == {"new", "current", "previous"}


def test_nothing_that_runs_goes_whatever_the_pointers_say(systemd, host, tmp_path):
    """A unit of a release that nothing points at is loaded."""
    make_release(host, "now", used=0)
    make_release(host, "runs", used=100)
    make_release(host, "goes", used=100)
    serve(host, "now")
    host.settings["KEEP_RELEASES"] = "0"
    unit = f"lockkeeper-private@{digest('runs')}.socket"
    assert systemd.up.systemctl("start", unit).returncode == 0
    try:
        retention.finish(host, digest("now"))
    finally:
        systemd.up.systemctl("stop", unit)
    assert names(host.releases) == {"now", "runs"}


def test_an_environment_goes_with_the_last_release_that_points_at_it(host):
    make_release(host, "now", used=0, env="shared")
    make_release(host, "goes", used=90, env="shared")
    make_release(host, "goes-too", used=90, env="alone")
    serve(host, "now")
    host.settings["KEEP_RELEASES"] = "1"
    retention.finish(host, digest("now"))
    assert names(host.releases) == {"now"}
    assert names(host.venvs) == {"shared"}


def test_static_files_that_no_release_names_go_when_they_are_old(host):
    make_release(host, "now", used=0, static=["site", "both"])
    make_release(host, "before", used=0, static=["both", "old"])
    make_release(host, "goes", used=90, static=["gone", "young"])
    serve(host, "now", "before")
    for each in ("site", "both", "old", "gone", "young"):
        for name in (f"{each}.css", f"{each}.hash.css", f"{each}.hash.css.gz"):
            touch(host.static / name, 1 if each == "young" else 90)
    touch(host.static / "deep/.new-x.css", 90)
    retention.finish(host, digest("now"))
    left = {str(path.relative_to(host.static)) for path in host.static.rglob("*") if path.is_file()}
    assert left == {
        name
        for each in ("site", "both", "old", "young")
        for name in (f"{each}.css", f"{each}.hash.css", f"{each}.hash.css.gz")
    }


@pytest.mark.parametrize("manifest", ["", "{", "[]", '{"paths": []}'])
def test_a_manifest_that_cannot_be_read_keeps_every_static_file(host, capfd, manifest):
    make_release(host, "now", used=0, static=["site"])
    make_release(host, "goes", used=90)
    serve(host, "now")
    (host.release(digest("now")) / ".static/staticfiles.json").write_text(manifest)
    touch(host.static / "unnamed.css", 90)
    host.settings["KEEP_RELEASES"] = "1"
    retention.finish(host, digest("now"))
    assert (host.static / "unnamed.css").exists()
    assert "staticfiles.json cannot be read, so no static file was removed" in "".join(capfd.readouterr())
    assert names(host.releases) == {"now"}


def test_a_service_without_a_manifest_keeps_its_static_files(host):
    make_release(host, "now", used=0)
    make_release(host, "before", used=0, static=["site"])
    serve(host, "now", "before")
    touch(host.static / "unnamed.css", 90)
    retention.finish(host, digest("now"))
    assert (host.static / "unnamed.css").exists()


def test_flight_records_go_by_count_and_age(host):
    make_release(host, "now", used=0)
    serve(host, "now")
    for name, days in {"d-NOW": 0, "d-RECENT": 13, "d-THIRD": 13, "d-OLD": 15}.items():
        touch(host.state / "flight" / name / "BeforeInstall.json", days)
        set_back(host.state / "flight" / name, days)
        touch(host.state / "outbox" / f"{name}.BeforeInstall.json", days)
    retention.finish(host, digest("now"))
    left = {path.name for path in (host.state / "flight").iterdir()}
    assert left == {"d-NOW", "d-RECENT", "d-THIRD"}
    assert {path.name.partition(".")[0] for path in (host.state / "outbox").iterdir()} == left


def test_what_others_put_there_stays(host):
    make_release(host, "now", used=0)
    serve(host, "now")
    strangers = [host.releases / "kept-by-hand", host.venvs / "mine", host.state / "used/note"]
    for path in strangers:
        path.mkdir()
        set_back(path, 400)
    retention.finish(host, digest("now"))
    assert all(path.is_dir() for path in strangers)


def finishing(host, current, *, prefix=()):
    """Retention in a process of its own."""
    program = [sys.executable, "-I", "-B", "-c", PROGRAM]
    arguments = [REPOSITORY / "scripts/codedeploy", host.root, digest(current)]
    return subprocess.Popen(
        [*prefix, *program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_killed_in_the_middle_the_next_run_carries_on(host):
    make_release(host, "now", used=0, env="now")
    for name in ("a", "b"):
        make_release(host, name, used=90, env=name)
        for number in range(4000):
            (host.release(digest(name)) / f"file-{number}").touch()
        set_back(host.release(digest(name)), 90)
    serve(host, "now")
    killed = 0
    for _ in range(3):
        with finishing(host, "now") as process:
            while process.poll() is None:
                if list(host.releases.glob(".tmp-*")):
                    process.send_signal(signal.SIGKILL)
                    break
        killed += process.returncode == -signal.SIGKILL
        # Whatever has its name is whole.
        for release in host.releases.glob("[0-9a-f]*"):
            assert digest("now") == release.name or len(list(release.iterdir())) == 4002
        assert host.release(digest("now")).is_dir()
        files.discard_leftovers(host.releases)
    assert killed
    with finishing(host, "now") as process:
        output, _ = process.communicate(timeout=60)
    assert output.endswith("finished\n"), output
    assert names(host.releases) == names(host.venvs) == names(host.home / "configuration") == {"now"}


def test_what_cannot_be_removed_is_said_and_fails_nothing(host, capfd):
    make_release(host, "now", used=0, env="now")
    make_release(host, "stuck", used=90, env="now")
    make_release(host, "goes", used=95, env="goes")
    locked = host.release(digest("stuck")) / "read-only"
    locked.mkdir()
    (locked / "file").touch()
    locked.chmod(0o555)
    set_back(host.release(digest("stuck")), 90)
    serve(host, "now")
    # Root may do everything, unless it gives that up.
    powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    with finishing(host, "now", prefix=powerless) as process:
        output, _ = process.communicate(timeout=60)
    assert output.endswith("finished\n"), output
    assert process.returncode == 0
    assert f"{digest('stuck')} cannot be removed" in output
    assert f"removed release {digest('goes')[:12]}" in output
    left = {path.name for path in host.releases.iterdir()}
    assert left == {digest("now"), f".tmp-{digest('stuck')}"}
    assert names(host.venvs) == {"now"}
    locked = host.releases / f".tmp-{digest('stuck')}/read-only"
    locked.chmod(0o755)
    files.discard_leftovers(host.releases)
    assert {path.name for path in host.releases.iterdir()} == {digest("now")}


def test_a_setting_that_is_no_number_is_said(host, capfd):
    make_release(host, "now", used=0)
    make_release(host, "stays", used=90)
    serve(host, "now")
    host.settings["KEEP_DAYS"] = "two weeks"
    retention.finish(host, digest("now"))
    assert "KEEP_DAYS=two weeks" in "".join(capfd.readouterr())
    assert names(host.releases) == {"now", "stays"}


class Wanted:
    """As much of a bundle as making room looks at."""

    def __init__(self, host, name):
        self.digest = digest(name)
        self.manifest = self
        self.lock_sha256 = name


def test_short_of_room_age_keeps_nothing_but_what_is_wanted_stays(host, monkeypatch):
    for name, used in {"now": 0, "before": 1, "second": 2, "third": 3, "wanted": 9}.items():
        make_release(host, name, used=used, env=name)
    serve(host, "now", "before")
    wanted = Wanted(host, "wanted")
    built = retention.environment.environment_path(host, wanted)
    built.mkdir()
    with pytest.raises(Failure, match="MiB free"):
        retention.check_room(host, wanted, 1 << 60)
    assert names(host.releases) == {"now", "before", "wanted"}
    assert {path.name for path in host.venvs.iterdir()} == {
        *map(environment, ("now", "before", "wanted")),
        built.name,
    }


def test_with_room_enough_nothing_goes(host):
    make_release(host, "now", used=0)
    make_release(host, "old", used=900)
    serve(host, "now")
    retention.check_room(host, Wanted(host, "new"), 1)
    assert names(host.releases) == {"now", "old"}


def test_many_deployments_leave_what_they_should(machine: Machine, make_bundle):
    settings = machine.root / "etc/lockkeeper/host"
    text = settings.read_text().replace("KEEP_RELEASES=5", "KEEP_RELEASES=1")
    settings.write_text(text.replace("KEEP_DAYS=14", "KEEP_DAYS=0"))
    bundles = [make_bundle(tale) for tale in ("one", "two", "three")]
    for bundle in bundles:
        machine.deploy(bundle)
    one, two, three = (bundle.digest for bundle in bundles)
    assert {path.name for path in (machine.home / "releases").iterdir()} == {two, three}
    assert {path.name for path in (machine.home / "state/used").iterdir()} == {two, three}
    assert len(list((machine.home / "venvs").iterdir())) == 1
    assert machine.serving() == three
    machine.deploy(bundles[0])
    wait_until(lambda: machine.serving() == one)
    assert {path.name for path in (machine.home / "releases").iterdir()} == {three, one}
    assert machine.leftovers() == []
