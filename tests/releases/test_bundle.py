"""Bundles: the same for the same commit, and of nothing but the commit."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from apps.errors import Invalid
from apps.releases import bundle as bundle_module
from apps.releases.bundle import Bundle, make_bundle, read_commit
from apps.releases.verify import read_bundle
from tests.releases.trees import FILES, git, make_checkout, make_tree, make_wheelhouse

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return make_checkout(tmp_path / "checkout")


@pytest.fixture
def wheelhouse(tmp_path: Path) -> Path:
    return make_wheelhouse(tmp_path / "wheels")


def bundled(root: Path, wheelhouse: Path, output: Path | None = None) -> Bundle:
    output = output or wheelhouse.parent / "out" / "bundle.tar"
    return make_bundle(root=root, output=output, wheelhouse=wheelhouse, service="web")


def archived(checkout: Path, folder: Path) -> Path:
    folder.mkdir()
    subprocess.run(["tar", "-xf", "-", "-C", folder], check=True, input=_archive(checkout))
    return folder


def _archive(checkout: Path) -> bytes:
    return subprocess.run(["git", "-C", checkout, "archive", "HEAD"], check=True, capture_output=True).stdout


def test_it_holds_what_ships_and_the_server_can_read_it(checkout, wheelhouse):
    made = bundled(checkout, wheelhouse)
    with made.path.open("rb") as stream:
        found = read_bundle(stream)
    shipped = {
        name for name in FILES if not name.startswith((".", "tests/", "apps/sandbox/", "scripts/demo"))
    }
    wheels = {"wheelhouse/asgiref-3-py3-none-any.whl", "wheelhouse/django-5.2-py3-none-any.whl"}
    assert set(found.files) == shipped | wheels
    assert found.commit == git(checkout, "rev-parse", "HEAD")
    assert (found.service, found.version) == ("web", f"1.2.3+{found.commit[:12]}")
    assert found.document["committed_at"] == "2026-01-02T02:04:05Z"
    assert found.document["migrations"] == [
        {"app": "shop", "name": "0001_initial"},
        {"app": "shop", "name": "0002_more"},
    ]
    assert found.files["manage.py"].mode == "0755"
    assert found.files["apps/__init__.py"].mode == "0644"


def test_it_is_the_same_whoever_makes_it_when_and_from_where(checkout, wheelhouse, tmp_path):
    first = bundled(checkout, wheelhouse)
    for path in checkout.rglob("*"):
        if path.is_file() and ".git" not in path.parts:
            os.utime(path, (1, 1))
            path.chmod(path.stat().st_mode | 0o060)
    (checkout / "backend" / "__pycache__").mkdir()
    (checkout / "backend" / "__pycache__" / "settings.pyc").write_bytes(b"x")
    second = bundled(checkout, wheelhouse, tmp_path / "second.tar")
    third = bundled(archived(checkout, tmp_path / "archive"), wheelhouse, tmp_path / "third.tar")
    assert first.path.read_bytes() == second.path.read_bytes() == third.path.read_bytes()
    assert first.digest == second.digest == third.digest
    with tarfile.open(first.path) as tar:
        assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in tar} == {(0, 0, "", "", 1767319445)}
        assert tar.getnames() == sorted(tar.getnames())


@pytest.mark.parametrize("name", ["backend/settings.py", "backend/new.py", "scripts/codedeploy/new"])
def test_what_the_commit_does_not_have_is_refused(checkout, wheelhouse, name):
    (checkout / name).write_text("changed")
    with pytest.raises(Invalid, match=f"differ from the commit that the bundle would name: {name}"):
        bundled(checkout, wheelhouse)


@pytest.mark.parametrize("name", ["tests/test_shop.py", "apps/sandbox/server.py", "README.md"])
def test_what_does_not_ship_may_differ(checkout, wheelhouse, name):
    (checkout / name).write_text("changed")
    assert bundled(checkout, wheelhouse).size


def test_a_tree_without_a_commit_is_refused(tmp_path, wheelhouse):
    tree = make_tree(tmp_path / "tree")
    with pytest.raises(Invalid, match="still holds its placeholder"):
        bundled(tree, wheelhouse)
    (tree / ".archive-commit").unlink()
    with pytest.raises(Invalid, match="is missing or empty"):
        bundled(tree, wheelhouse)


def test_a_tree_inside_somebodys_checkout_is_not_of_its_commit(checkout, wheelhouse):
    with pytest.raises(Invalid, match="is no git checkout"):
        bundled(make_tree(checkout / "apps" / "inner"), wheelhouse)


def test_gits_own_variables_do_not_lead_it_elsewhere(checkout, tmp_path, monkeypatch):
    other = make_checkout(tmp_path / "other")
    git(other, "commit", "--quiet", "--allow-empty", "--message", "More")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    commit = read_commit(checkout).sha
    monkeypatch.delenv("GIT_DIR")
    assert commit == git(checkout, "rev-parse", "HEAD")


@pytest.mark.parametrize(
    ("line", "reason"),
    [(f"{'a' * 40} yesterday", "where the commit's time should be"), ("HEAD 2026-01-01", "placeholder")],
)
def test_a_strange_marker_is_refused(tmp_path, line, reason):
    (tmp_path / ".archive-commit").write_text(line)
    with pytest.raises(Invalid, match=reason):
        read_commit(tmp_path)


@pytest.mark.parametrize("name", ["appspec.yml", "requirements.txt", "scripts/provision-host", "infra"])
def test_what_must_ship_is_named_when_it_is_missing(checkout, wheelhouse, name):
    git(checkout, "rm", "-r", "--quiet", name)
    git(checkout, "commit", "--quiet", "--message", "Remove")
    with pytest.raises(Invalid, match=f"{'infra/systemd' if name == 'infra' else name} is missing"):
        bundled(checkout, wheelhouse)


def test_links_are_refused(checkout, wheelhouse):
    (checkout / "backend" / "link.py").symlink_to("settings.py")
    git(checkout, "add", "--all")
    git(checkout, "commit", "--quiet", "--message", "Link")
    with pytest.raises(Invalid, match=r"backend/link.py is not a plain file"):
        bundled(checkout, wheelhouse)


def test_wheels_must_be_there(checkout, tmp_path):
    with pytest.raises(Invalid, match="pip download"):
        bundled(checkout, tmp_path / "nowhere", tmp_path / "bundle.tar")
    assert not (tmp_path / "bundle.tar").exists()


def test_a_failure_halfway_leaves_nothing_and_keeps_the_old(checkout, wheelhouse, tmp_path, monkeypatch):
    output = tmp_path / "out" / "bundle.tar"
    before = bundled(checkout, wheelhouse, output).path.read_bytes()

    def no_space(*arguments: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle_module._HashingFile, "write", no_space)
    with pytest.raises(OSError, match="No space"):
        bundled(checkout, wheelhouse, output)
    assert output.read_bytes() == before
    assert list(output.parent.iterdir()) == [output]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """manage.py in an empty environment: no database, no secret, no AWS."""
    return subprocess.run(
        [sys.executable, REPOSITORY / "manage.py", *arguments],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )


@pytest.mark.integration
def test_the_command_works_in_an_empty_environment(checkout, wheelhouse, tmp_path):
    output = tmp_path / "bundle.tar"
    done = run(
        "bundle", "--root", checkout, "--wheelhouse", wheelhouse, "--output", output, "--service", "web"
    )
    assert (done.returncode, done.stderr) == (0, "")
    digest = done.stdout.split()[-1]
    assert bundled(checkout, wheelhouse).digest == digest
    with tarfile.open(output) as tar:
        member = tar.extractfile("manifest.json")
        assert member
        assert json.load(io.TextIOWrapper(member))["service"] == "web"


@pytest.mark.integration
def test_the_command_says_what_is_wrong_without_a_traceback(tmp_path, wheelhouse):
    done = run("bundle", "--root", make_tree(tmp_path / "tree"), "--wheelhouse", wheelhouse)
    assert done.returncode == 1
    assert done.stderr.startswith("CommandError: The commit of")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("appspec", "problem"),
    [
        ("version: 1.0\nos: linux\n", r"appspec.yml:1:10: error: version is '1.0'"),
        (
            "version: 0.0\nos: linux\nhooks: {BeforeInstal: [{location: a.sh}]}\n",
            "Did you mean BeforeInstall",
        ),
        ("version: 0.0\nos: linux\nhooks: {AfterInstall: [{location: gone.sh}]}\n", "ScriptMissing"),
    ],
)
def test_an_appspec_that_codedeploy_would_refuse_is_not_bundled(checkout, wheelhouse, appspec, problem):
    (checkout / "appspec.yml").write_text(appspec)
    git(checkout, "commit", "-qam", "an appspec")
    with pytest.raises(Invalid, match=problem):
        bundled(checkout, wheelhouse)
    assert not (wheelhouse.parent / "out" / "bundle.tar").exists()
