"""What must not be installed is refused before anything on the host changes, with the next step."""

import dataclasses
import errno
import json
import os
import re
import shlex
import subprocess
import sys
import tarfile

import pytest

from tests.hooks.agent import Deployment, Machine

pytestmark = pytest.mark.integration
NEWER = "wheelhouse/new-1.0-cp311-cp311-manylinux_2_99_x86_64.whl"


@pytest.fixture(scope="module")
def settled(tmp_path_factory, make_bundle):
    """One host with a release for all refusals, since none of them may change it."""
    settled = Machine(tmp_path_factory.mktemp("settled") / "root")
    settled.deploy(make_bundle("one"))
    yield settled
    settled.up.power_off()


def tree(machine):
    """What is on the host, but for the records of what hooks did."""
    records = tuple(str(machine.home / "state" / name) for name in ("flight", "outbox"))
    return sorted(str(path) for path in machine.home.rglob("*") if not str(path).startswith(records))


@pytest.fixture
def refused(settled, make_bundle):
    """A function that runs a deployment's BeforeInstall, which must change nothing; the reason it gives."""
    before = tree(settled)

    def run(deployment, **environ):
        result = deployment.run("BeforeInstall", **environ)
        assert result.code == 1, result.output
        assert "Traceback" not in result.output
        assert len(result.reason) < 1700
        assert tree(settled) == before
        assert settled.serving() == make_bundle("one").digest
        return result.reason

    return run


@pytest.fixture
def host_file(settled):
    """etc/lockkeeper/host, put back afterwards."""
    path = settled.root / "etc/lockkeeper/host"
    content = path.read_text()
    yield path
    path.write_text(content)


def test_a_bundle_that_is_not_what_its_key_says(settled, make_bundle, refused):
    deployment = Deployment(settled, make_bundle("two"), key=f"releases/lockkeeper/{'0' * 64}.tar")
    assert "was changed after it was published" in refused(deployment)


def test_a_changed_bundle_with_an_unchanged_key(settled, make_bundle, refused):
    deployment = Deployment(settled, make_bundle("two"))
    with (deployment.folder / "bundle.tar").open("r+b") as bundle:
        bundle.seek(2000)
        bundle.write(b"\xff")
    assert "was changed after it was published" in refused(deployment)


def test_a_revision_without_a_bundle(settled, make_bundle, refused):
    deployment = Deployment(settled, make_bundle("two"))
    (deployment.folder / "bundle.tar").unlink()
    reason = refused(deployment)
    assert "There is no bundle.tar" in reason
    assert "manage.py publish" in reason


def test_a_bundle_of_another_kind(settled, make_bundle, refused):
    deployment = Deployment(settled, make_bundle("two"), key="upload.zip")
    (deployment.folder / "bundle.tar").write_bytes(b"PK\x03\x04 not a tar")
    assert "is not a plain tar archive" in refused(deployment)


def test_a_tar_without_a_manifest(settled, make_bundle, refused):
    deployment = Deployment(settled, make_bundle("two"), key="other.tar")
    with tarfile.open(deployment.folder / "bundle.tar", "w") as tar:
        tar.add(deployment.archive / "appspec.yml", "appspec.yml")
    assert "bundle.tar has no manifest.json" in refused(deployment)


def test_changed_missing_and_added_files(settled, make_bundle, refused):
    deployment = Deployment(settled, make_bundle("two"))
    (deployment.archive / "manage.py").write_text("print('mine')\n")
    (deployment.archive / "backend/wsgi.py").unlink()
    (deployment.archive / "backend/extra.py").touch()
    (deployment.archive / "backend/link").symlink_to("/etc/passwd")
    reason = refused(deployment)
    assert "4 of the archive's files" in reason
    for problem in (
        "manage.py (changed)",
        "backend/wsgi.py (missing)",
        "backend/extra.py (not in the manifest)",
        "backend/link (not in the manifest)",
    ):
        assert problem in reason


def test_a_changed_wheel_is_found_before_it_is_run(settled, make_bundle, refused):
    deployment = Deployment(settled, make_bundle("two"))
    wheel = next((deployment.archive / "wheelhouse").glob("uv-*.whl"))
    with wheel.open("r+b") as stream:
        stream.seek(1000)
        stream.write(b"\xff\xff\xff\xff")
    assert f"{wheel.name} (changed)" in refused(deployment)


def test_a_manifest_that_was_changed_after_the_bundle_was_unpacked(settled, make_bundle, refused):
    deployment = Deployment(settled, make_bundle("two"))
    manifest = deployment.archive / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"1.0", b"1.1", 1))
    assert "manifest.json (not the one in bundle.tar)" in refused(deployment)


def test_one_byte_of_any_part_is_enough(settled, make_bundle, refused):
    """In the first, a middle and the last member of the bundle, whatever it is."""
    bundle = make_bundle("two")
    size = bundle.path.stat().st_size
    for place in (700, size // 2, size - 12000):
        deployment = Deployment(settled, bundle)
        with (deployment.folder / "bundle.tar").open("r+b") as stream:
            stream.seek(place)
            byte = stream.read(1)
            stream.seek(place)
            stream.write(bytes([byte[0] ^ 1]))
        assert "was changed after it was published" in refused(deployment)


def altered(bundle, folder, change):
    """The bundle with another manifest, as an honest but wrong build would make it."""
    path = folder / "altered.tar"
    with tarfile.open(bundle.path) as old, tarfile.open(path, "w") as new:
        for member in old:
            data = old.extractfile(member).read()
            if member.name == "manifest.json":
                manifest = json.loads(data)
                change(manifest)
                data = json.dumps(manifest).encode()
                member.size = len(data)
            source = folder / "member"
            source.write_bytes(data)
            with source.open("rb") as stream:
                new.addfile(member, stream)
    return dataclasses.replace(bundle, path=path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m["python"].update(machine="aarch64"), "machine is x86_64 here and aarch64 in the bundle"),
        (lambda m: m["python"].update(version="3.99", abi="cp399"), "3.99 in the bundle; abi is"),
        (lambda m: m["python"].update(libc="musl"), "libc is glibc here and musl in the bundle"),
        (lambda m: m["files"].update({NEWER: m["files"]["manage.py"]}), f"{NEWER} needs glibc 2.99 and"),
        (lambda m: m.update(schema=2), "schema 2, and these hooks know 1"),
        (lambda m: m.pop("lock"), "manifest.json has no 'lock'"),
        (lambda m: m.update(files=[]), "manifest.json cannot be read"),
        (lambda m: m["files"].update({"../x": m["files"]["manage.py"]}), "not a path inside the bundle"),
    ],
    ids=["machine", "python", "libc", "glibc", "schema", "lock", "files", "path"],
)
def test_a_manifest_for_something_else(settled, make_bundle, refused, tmp_path, change, reason):
    if os.uname().machine != "x86_64" and "x86_64" in reason:
        pytest.skip("the expected text names this machine")
    bundle = altered(make_bundle("two"), tmp_path, change)
    said = refused(Deployment(settled, bundle, key="other.tar"))
    assert reason in said
    is_platform = "built for another platform" in said
    assert ("Known cause: platform-mismatch" in said) == is_platform
    assert is_platform == (" here and " in reason or "glibc" in reason or "abi is" in reason)


def test_a_deployment_for_another_group(settled, make_bundle, refused):
    reason = refused(Deployment(settled, make_bundle("two")), DEPLOYMENT_GROUP_NAME="production")
    assert "DEPLOYMENT_GROUP_NAME=staging" in reason
    assert "DEPLOYMENT_GROUP_NAME=production" in reason


def test_a_host_that_was_not_provisioned(settled, make_bundle, refused, host_file):
    host_file.unlink()
    reason = refused(Deployment(settled, make_bundle("two")))
    assert "prepare this host with scripts/provision-host" in reason


def test_a_host_whose_python_has_gone(settled, make_bundle, refused, host_file):
    host_file.write_text(host_file.read_text().replace("PYTHON=", "PYTHON=/nowhere"))
    reason = refused(Deployment(settled, make_bundle("two")))
    assert "cannot be run; run scripts/provision-host again. Known cause: missing-interpreter" in reason


def test_a_python_whose_own_interpreter_has_gone(settled, make_bundle, refused, host_file, tmp_path):
    (tmp_path / "python").write_text("#!/nowhere/bash\n")
    (tmp_path / "python").chmod(0o755)
    host_file.write_text(re.sub("PYTHON=.*", f"PYTHON={tmp_path}/python", host_file.read_text(), count=1))
    assert "Known cause: missing-interpreter" in refused(Deployment(settled, make_bundle("two")))


def test_a_host_whose_python_is_too_old(settled, make_bundle, refused, host_file, tmp_path):
    """As far as it can be shown without one: the deploy program asks before it imports anything."""
    (tmp_path / "old.py").write_text(
        "import runpy, sys\n"
        "program = next(a for a in sys.argv if a.endswith('/deploy'))\n"
        "sys.version_info = (3, 9, 2, 'final', 0)\n"
        "runpy.run_path(program, run_name='__main__')\n"
    )
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path}/old.py "$@"\n')
    (tmp_path / "python").chmod(0o755)
    host_file.write_text(re.sub("PYTHON=.*", f"PYTHON={tmp_path}/python", host_file.read_text(), count=1))
    reason = refused(Deployment(settled, make_bundle("two")))
    assert "is not a Python of 3.11 or later" in reason
    assert "Known cause: missing-interpreter" in reason


def test_a_release_changed_on_the_host_is_not_used_again(machine, make_bundle):
    one, two = make_bundle("one"), make_bundle("two")
    machine.deploy(one)
    machine.deploy(two)
    (machine.home / "releases" / one.digest / "backend/wsgi.py").write_text("# a quick fix\n")
    result = Deployment(machine, one).run_until("AfterInstall")
    assert result.code == 1
    assert "was changed or removed on this host" in result.reason
    assert machine.serving() == two.digest


def test_what_install_copied_is_checked_again(machine, make_bundle):
    deployment = Deployment(machine, make_bundle("one"))
    deployment.run_until("Install")
    (machine.home / "incoming/manage.py").write_text("print('mine')\n")
    result = deployment.run("AfterInstall")
    assert result.code == 1
    assert "incoming/manage.py is not what the manifest says" in result.reason
    assert machine.leftovers() == []
    Deployment(machine, make_bundle("one")).run_all()


def test_a_wheel_that_the_lock_does_not_know_is_not_installed(machine, make_bundle):
    deployment = Deployment(machine, make_bundle("one"))
    deployment.run_until("Install")
    wheel = next((deployment.archive / "wheelhouse").glob("gunicorn-*.whl"))
    wheel.write_bytes(wheel.read_bytes() + b"tail")
    result = deployment.run("AfterInstall")
    assert result.code == 1
    assert "could not be built from the wheelhouse" in result.reason
    assert list((machine.home / "venvs").iterdir()) == []


def test_a_missing_environment_file(machine, make_bundle):
    (machine.root / "etc/lockkeeper/environment").unlink()
    result = Deployment(machine, make_bundle("one")).run_until("AfterInstall")
    assert "environment is missing: run scripts/provision-host with --environment" in result.reason


def test_no_network_is_needed(machine, make_bundle, tmp_path):
    """All of AfterInstall in a network namespace of its own, in which not even the loopback is up."""
    alone = ["unshare", "--net"]
    if subprocess.run([*alone, "true"], check=False, capture_output=True).returncode:
        pytest.skip("taking the network away needs the right to make a namespace")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {shlex.join(alone)} {sys.executable} "$@"\n')
    python.chmod(0o755)
    script = f"import socket; print(socket.socket().connect_ex(('127.0.0.1', {machine.port})))"
    deployment = Deployment(machine, make_bundle("alone", in_prepare=script))
    deployment.run_until("Install")
    machine.configure("PYTHON", str(python))
    result = deployment.run("AfterInstall")
    assert result.code == 0, result.output
    assert "building from the wheelhouse" in result.output
    assert f"       {errno.ENETUNREACH}\n" in result.output
