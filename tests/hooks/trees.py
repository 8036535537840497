"""Source trees that become bundles: a tiny service, and this repository."""

import re
import shutil
import textwrap
import tomllib
import zipfile
from pathlib import Path

from apps.releases.bundle import SHIPPED, Bundle, make_bundle
from tests.hooks import wheels

REPOSITORY = Path(__file__).resolve().parents[2]
# What tells two releases of the tiny service apart, and what can be wrong with them.
WSGI = """
    import json, os, time
    from pathlib import Path

    HOME = Path(__file__).resolve().parents[1]
    RELEASE = json.loads((HOME / "release.json").read_text())
    TALE = {tale!r}
    {at_import}

    def application(environ, start_response):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        path = environ["PATH_INFO"]
        if path == "/slow":
            time.sleep(float(environ.get("QUERY_STRING") or 2))
        status, answer = "200 OK", RELEASE
        # Where the test says so, every release at this host stops being ready.
        if path == "/readyz" and os.path.exists(os.environ["UNREADY_FILE"]):
            status, answer = "503 Service Unavailable", {{"reason": "the test says so"}}
        data = json.dumps(answer | {{"echo": len(body), "pid": os.getpid()}}).encode()
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(data)))])
        return [data]
"""
MANAGE = """
    import argparse, json, os, signal, sys, time
    from pathlib import Path

    if sys.argv[1] == "reconcile":
        while True:
            time.sleep(60)
    if sys.argv[1] == "prepare":
        time.sleep(float(os.environ.get("PREPARE_SLEEP", "0")))
        options = argparse.ArgumentParser()
        options.add_argument("command")
        options.add_argument("--timeout", type=float)
        options.add_argument("--report", type=Path)
        report = options.parse_args().report
        about = {{"plan": ["tiny.0001"], "applied": [], "seconds": 0.0, "result": "nothing", "error": ""}}
        report.write_text(json.dumps(about | {{"host": os.environ["HOST_NAME"]}}))
        {in_prepare}
        print("prepared", os.environ["STATIC_ROOT"])
"""


def make_tiny_tree(root: Path, *, tale: str, at_import: str = "", in_prepare: str = "pass") -> Path:
    """The source of a service without dependencies but gunicorn, with this repository's hooks and units."""
    for name in (
        "appspec.yml",
        "scripts/codedeploy",
        "scripts/provision-host",
        "scripts/host_tools",
        "infra/systemd",
    ):
        _copy(REPOSITORY / name, root / name)
    for name in ("backend", "apps"):
        (root / name).mkdir(parents=True)
        (root / name / "__init__.py").touch()
    (root / "pyproject.toml").write_text('[project]\nname = "tiny"\nversion = "1.0"\n')
    source = textwrap.dedent(WSGI).format(tale=tale, at_import=at_import)
    (root / "backend/wsgi.py").write_text(source)
    (root / "manage.py").write_text(textwrap.dedent(MANAGE).format(in_prepare=in_prepare))
    _name_commit(root, tale)
    return root


def make_own_tree(root: Path, tale: str) -> Path:
    """The source of this repository as it lies here, committed or not."""
    for name in SHIPPED:
        _copy(REPOSITORY / name, root / name)
    _name_commit(root, tale)
    return root


def make_wheelhouse(folder: Path, requirements: list[str], compression: int = zipfile.ZIP_STORED) -> Path:
    """Wheels of the named distributions and all that they need, without a network."""
    folder.mkdir()
    for name in sorted(wheels.closure(requirements)):
        wheels.repack(name, folder, compression)
    return folder


def own_bundles(folder: Path) -> list[Bundle]:
    """Two bundles of this repository with the same lock."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[<>=!~;]", requirement)[0] for requirement in project["dependencies"]]
    wheelhouse = make_wheelhouse(folder / "wheelhouse", names)
    made = []
    for tale in ("own-one", "own-two"):
        tree = make_own_tree(folder / tale, tale)
        (tree / "backend/tale.py").write_text(f'"""{tale}"""\n')
        made.append(bundle(tree, wheelhouse, folder / f"{tale}.tar"))
    return made


def bundle(tree: Path, wheelhouse: Path, output: Path, remark: str = "") -> Bundle:
    """Lock a tree to a wheelhouse and make its bundle; with another remark it is another lock."""
    (tree / "requirements.txt").write_text(f"# {remark}\n{wheels.lock(list(wheelhouse.glob('*.whl')))}")
    return make_bundle(root=tree, output=output, wheelhouse=wheelhouse, service="lockkeeper")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy2(source, target)


def _name_commit(root: Path, tale: str) -> None:
    # As `git archive` leaves it.
    (root / ".archive-commit").write_text(f"{tale.encode().hex():0<40.40} 2026-01-02T03:04:05+00:00\n")
