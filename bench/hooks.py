"""Our hooks against the usual ones: seconds from the start of BeforeInstall to the end of ApplicationStart.

One host, one PostgreSQL and one service: this repository. The usual hooks (bench/usual: python -m venv, pip
install -r, migrate, collectstatic, restart) take their wheels from the bundle too, so no network is in it.
Three cases: new code with an unchanged lock; one dependency in another version; and back to a release that is
on the host. Ours run under a light load, whose failed requests are counted.

The application's own boot is not in the figures. It is measured by itself, from `systemctl start` to the
first answer on the private socket, and taken off. So are the 1.5 s for which a release that is new to the
host is watched before anybody meets it. The usual `systemctl restart` waits for neither.
"""

import argparse
import json
import re
import shutil
import statistics
import sys
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

import yaml

from apps.releases.bundle import Bundle
from apps.sandbox import postgres
from tests.hooks import trees
from tests.hooks.agent import Deployment, HookFailed, Machine, free_port
from tests.hooks.load import Load

sys.path.insert(0, str(trees.REPOSITORY / "scripts/codedeploy"))

from deploy.health import Door
from deploy.swap import STEADY_S

USUAL = Path(__file__).parent / "usual"
EVENTS = ("BeforeInstall", "Install", "AfterInstall", "ApplicationStart")
UNCHANGED, KEPT, CHANGED, BACK = "unchanged lock", "…, venv kept", "changed lock", "back"
CASES = (UNCHANGED, CHANGED, BACK)


@dataclass
class Figures:
    """What was measured, by case: seconds of each run, and for ours of each event of each run."""

    ours: dict[str, list[float]] = field(default_factory=lambda: {case: [] for case in CASES})
    usual: dict[str, list[float]] = field(default_factory=lambda: {case: [] for case in (*CASES, KEPT)})
    events: dict[str, list[dict[str, float]]] = field(default_factory=lambda: {case: [] for case in CASES})
    # From `systemctl start`: until the release is up, and until it answers.
    ups: list[float] = field(default_factory=list)
    boots: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    requests: int = 0

    def own(self, case: str) -> float:
        """Seconds of our hooks without those for which they wait for the application."""
        boot, up = statistics.median(self.boots), statistics.median(self.ups)
        waited = boot if case == BACK else max(boot, up + STEADY_S)
        return statistics.median(self.ours[case]) - waited

    def times(self, case: str, usual: str = "") -> float:
        return round(statistics.median(self.usual[usual or case]) / self.own(case), 1)


class UsualDeployment(Deployment):
    """A deployment of the same bundle with the usual appspec and hooks in it."""

    def __init__(self, machine: Machine, bundle: Bundle) -> None:
        super().__init__(machine, bundle)
        shutil.copytree(USUAL, self.archive / "bench-usual")
        self.appspec = yaml.safe_load((USUAL / "appspec.yml").read_text())

    def install(self) -> None:
        shutil.copytree(self.archive, self.machine.root / "srv/usual", dirs_exist_ok=True)


class Bundles:
    """Bundles of this repository, with one code or another and one lock or another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        project = tomllib.loads((trees.REPOSITORY / "pyproject.toml").read_text())["project"]
        names = [re.split(r"[<>=!~;]", requirement)[0] for requirement in project["dependencies"]]
        # As an index has them: stored ones would make the bundle twice as large and pip faster than it is.
        self.wheelhouse = trees.make_wheelhouse(folder / "wheelhouse", names, zipfile.ZIP_DEFLATED)

    def make(self, tale: str, *, lock: int) -> Bundle:
        """``tale`` is what its code says; ``lock`` the version of one small dependency."""
        for wheel in self.wheelhouse.glob("benchmarked-*"):
            wheel.unlink()
        write_wheel(self.wheelhouse, "benchmarked", f"{lock}.0")
        root = self.folder / tale
        root.mkdir()
        tree = trees.make_own_tree(root, tale)
        (tree / "backend/tale.py").write_text(f'"""{tale}"""\n')
        return trees.bundle(tree, self.wheelhouse, self.folder / f"{tale}.tar")


def write_wheel(folder: Path, name: str, version: str) -> None:
    """A wheel with one module in it."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f'VERSION = "{version}"\n',
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in (files | {f"{info}/RECORD": record}).items():
            archive.writestr(zipfile.ZipInfo(path), text)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench hooks", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="of each case; medians are shown; 5 unless given")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    with tempfile.TemporaryDirectory(prefix="bench-hooks-") as temporary, postgres.server() as server:
        return measure(Path(temporary), server, options.runs)


def measure(folder: Path, server: postgres.Server, runs: int) -> int:
    """Deploy everything both ways and print the figures."""
    say("making bundles")
    bundles = Bundles(folder)
    first = bundles.make("first", lock=1)
    code = [bundles.make(f"code-{number}", lock=1) for number in range(runs)]
    locks = [bundles.make(f"lock-{number}", lock=number + 2) for number in range(runs)]
    series = {UNCHANGED: code, CHANGED: locks, BACK: list(islice(cycle((first, code[0])), runs))}
    names = [re.sub(r"\W", "_", f"{folder.name}_{whose}").lower() for whose in ("ours", "usual")]
    ours, usual = (server.create_database(name) for name in names)
    machine = Machine(folder / "host/root", environment=environment(ours))
    figures = Figures()
    try:
        deploy_ours(machine, first, series, figures)
        for _ in range(runs):
            up, answered = boot(machine)
            figures.ups.append(up)
            figures.boots.append(answered)
        prepare_usual(machine, environment(usual))
        deploy_usual(machine, first, series, figures)
    finally:
        machine.up.shut_down()
        for name in names:
            server.drop_database(name)
    show(figures)
    return 1 if figures.failures else 0


def deploy_ours(machine: Machine, first: Bundle, series: dict[str, list[Bundle]], figures: Figures) -> None:
    say("our hooks")
    machine.deploy(first)
    with Load(machine.port, clients=1, methods=("GET",), pause_s=0.1) as load:
        for case, bundles in series.items():
            for bundle in bundles:
                deployment = Deployment(machine, bundle)
                deployment.run("ApplicationStop")
                events = timed(deployment, EVENTS)
                figures.events[case].append(events)
                figures.ours[case].append(sum(events.values()))
                say(f"  {case}: {figures.ours[case][-1]:.2f} s with the boot")
                timed(deployment, ("ValidateService",))
    figures.failures, figures.requests = load.failures, load.requests


def deploy_usual(machine: Machine, first: Bundle, series: dict[str, list[Bundle]], figures: Figures) -> None:
    say("the usual hooks")
    timed(UsualDeployment(machine, first), EVENTS)
    # Without its `rm -rf` the environment stays, and pip finds everything installed.
    for case, bundles in {**series, KEPT: series[UNCHANGED]}.items():
        for bundle in bundles:
            deployment = UsualDeployment(machine, bundle)
            events = timed(deployment, EVENTS[1:] if case == KEPT else EVENTS)
            figures.usual[case].append(sum(events.values()))
            say(f"  {case}: {figures.usual[case][-1]:.2f} s")
            shutil.rmtree(deployment.folder)


def timed(deployment: Deployment, events: tuple[str, ...]) -> dict[str, float]:
    """Run events, which must succeed; the seconds of each."""

    def run(event: str) -> float:
        began = time.monotonic()
        result = deployment.run(event)
        if result.code:
            raise HookFailed(f"{event}: {result.output}")
        return time.monotonic() - began

    return {event: run(event) for event in events}


def environment(database: str) -> str:
    return (
        f"DATABASE_URL={database}\nSECRET_KEY={'bench-0123456789-' * 4}\nALLOWED_HOSTS=127.0.0.1\n"
        # Nothing of AWS is asked: there are no rows to reconcile.
        "AWS_DEFAULT_REGION=eu-central-1\nAWS_ACCESS_KEY_ID=none\nAWS_SECRET_ACCESS_KEY=none\n"
    )


def prepare_usual(machine: Machine, settings: str) -> None:
    root = machine.root
    static = f"STATIC_ROOT={root}/srv/usual/static\n"
    (root / "etc/lockkeeper/usual.env").write_text(f"{settings}{static}PORT={free_port()}\n")
    # The embedded AWS knows only its own folders to be below the host's root.
    unit = (USUAL / "usual.service").read_text().replace("/srv/usual", f"{root}/srv/usual")
    (root / "etc/systemd/system/usual.service").write_text(unit)
    machine.up.systemctl("daemon-reload")


def boot(machine: Machine) -> tuple[float, float]:
    """Seconds from `systemctl start` of the current release until it is up, and until it answers."""
    digest = str(machine.pointer("current"))
    unit = f"lockkeeper@{digest}.service"
    machine.up.systemctl("stop", f"lockkeeper-private@{digest}.socket", unit)
    door = Door("http://127.0.0.1", private=machine.root / f"run/lockkeeper/{digest}.sock")
    began = time.monotonic()
    machine.up.systemctl("start", unit)
    up = time.monotonic() - began
    while door.complaint(digest):
        time.sleep(0.01)
    return up, time.monotonic() - began


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def rows(figures: Figures) -> Iterator[tuple[str, float, float, float]]:
    for case, usual in ((UNCHANGED, UNCHANGED), (UNCHANGED, KEPT), (CHANGED, CHANGED), (BACK, BACK)):
        median = statistics.median(figures.usual[usual])
        yield usual, median, figures.own(case), figures.times(case, usual)


def show(figures: Figures) -> None:
    """A table for people, then one line for programs."""
    boot_s = statistics.median(figures.boots)
    runs = len(figures.boots)
    print(f"{'case':<20}{'usual':>10}{'ours':>10}{'times faster':>15}   seconds, medians of {runs}")
    for case, usual, own, times in rows(figures):
        print(f"{case:<20}{usual:>10.2f}{own:>10.2f}{times:>15.1f}")
    print(f"\n{'ours, by event':<20}" + "".join(f"{event:>18}" for event in EVENTS) + "   with the boot")
    for case in CASES:
        medians = [statistics.median(run[event] for run in figures.events[case]) for event in EVENTS]
        print(f"{case:<20}" + "".join(f"{seconds:>18.2f}" for seconds in medians))
    print(f"\nthe application's boot: {boot_s:.2f} s; a release new to the host is watched for {STEADY_S} s")
    print(f"{figures.requests} requests during ours, {len(figures.failures)} failed")
    for failure in figures.failures[:5]:
        print(f"  {failure}")
    told = {
        "unchanged_times_faster": figures.times(UNCHANGED),
        "unchanged_kept_venv_times_faster": figures.times(UNCHANGED, KEPT),
        "changed_lock_times_faster": figures.times(CHANGED),
        "back_times_faster": figures.times(BACK),
        "unchanged_s": round(figures.own(UNCHANGED), 2),
        "changed_lock_s": round(figures.own(CHANGED), 2),
        "back_s": round(figures.own(BACK), 2),
        "unchanged_with_boot_s": round(statistics.median(figures.ours[UNCHANGED]), 2),
        "boot_s": round(boot_s, 2),
        "watched_s": STEADY_S,
        "failed_requests": len(figures.failures),
        "requests": figures.requests,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    sys.exit(main())
