"""Canaries: secrets that are planted, and then looked for wherever a deployment leaves something."""

import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import uuid
from pathlib import Path

import pytest

from tests.hooks.agent import EVENTS, Deployment, Machine, wait_until
from tests.hooks.trees import REPOSITORY
from tests.sandbox.conftest import REGION

pytestmark = pytest.mark.integration
# Line by line, and all in one, which is longer than what is shown of a line.
PRINTS = (
    "[print(name, value, repr(value), file=sys.stderr) for name, value in os.environ.items()];"
    "print(dict(os.environ), file=sys.stderr, flush=True)"
)
FAILS = f"{PRINTS}; sys.exit('cannot go on with ' + os.environ['DB_PASSWORD'])"
# Half of it would tell as much.
DIES = f"import sys; {PRINTS}; raise RuntimeError(os.environ['DB_PASSWORD'] + os.environ['SECRET_KEY'])"


class Argv(threading.Thread):
    """Looks at the arguments of every process there is, again and again."""

    def __init__(self, needles):
        super().__init__(daemon=True)
        self.needles = [needle.encode() for needle in needles]
        self.found = []
        self.programs = set()
        self.over = threading.Event()

    def run(self):
        while not self.over.wait(0.01):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = path.read_bytes()
                except OSError:
                    continue
                self.programs |= {name for name in (b"manage.py", b"configuration.py") if name in line}
                if any(needle in line for needle in self.needles):
                    self.found.append(line)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.over.set()
        self.join()


@pytest.fixture
def canaries():
    """What is looked for: the middle of each secret, whatever is done to the characters around it."""
    return [f"canary{uuid.uuid4().hex}" for _ in range(4)]


def plant(aws, canaries):
    """Put the secrets into the Parameter Store and into a host's environment; return that and the path."""
    path = f"/secrets-{uuid.uuid4().hex[:12]}/"
    bucket = f"secrets-{uuid.uuid4().hex[:12]}"
    aws.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    put = aws.client("ssm").put_parameter
    put(Name=f"{path}DB_PASSWORD", Value=f'p"{canaries[0]}\\x $y', Type="SecureString")
    put(Name=f"{path}HARMLESS_NAME", Value=f"it's {canaries[1]}", Type="SecureString")
    environment = (
        f"SECRET_KEY='{canaries[2]} #1'\nDATABASE_URL=postgresql://u:{canaries[3]}@127.0.0.1/n\n"
        f"AWS_ENDPOINT_URL={aws.endpoint}\nAWS_REGION={REGION}\n"
        "AWS_ACCESS_KEY_ID=test\nAWS_SECRET_ACCESS_KEY=test\n"
    )
    return environment, path, bucket


class Shipped(Deployment):
    """A deployment whose bundle came from a bucket that exists."""

    bucket = ""

    def variables(self, event):
        return super().variables(event) | {"BUNDLE_BUCKET": self.bucket}


def holding(root, canaries):
    """Every file below the host's root with a canary in it, by its path, with its permissions."""
    found = {}
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            if any(canary.encode() in content for canary in canaries):
                found[str(path.relative_to(root))] = stat.S_IMODE(path.stat().st_mode)
    return found


def uploaded(aws, bucket):
    s3 = aws.client("s3")
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
    return {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode() for key in keys}


def test_secrets_are_nowhere_but_where_they_belong(tmp_path, embedded_aws, make_bundle, canaries):
    environment, path, bucket = plant(embedded_aws, canaries)
    machine = Machine(tmp_path / "staging-1" / "root", environment=environment)
    try:
        configure(machine, path)
        good = make_bundle("one", in_prepare=PRINTS)
        output = []
        with Argv(canaries) as argv:
            for bundle, failing in (
                (good, None),
                (make_bundle("unprepared", in_prepare=FAILS), "AfterInstall"),
                (make_bundle("dying", at_import=DIES), "ApplicationStart"),
            ):
                deployment = Shipped(machine, bundle)
                deployment.bucket = bucket
                for event in EVENTS[: EVENTS.index(failing or EVENTS[-1]) + 1]:
                    result = deployment.run(event)
                    output.append(result.output)
                    assert result.code == (event == failing), result.output
                    # Where it printed all of its environment.
                    if event == (failing or "AfterInstall"):
                        assert "[redacted]" in result.output, result.output
        wait_until(lambda: not list((machine.home / "state/outbox").iterdir()), seconds=150)
        assert machine.serving() == good.digest

        assert argv.found == []
        assert argv.programs == {b"manage.py", b"configuration.py"}
        records = uploaded(embedded_aws, bucket)
        assert len(records) >= 7
        for text in (*output, *records.values()):
            assert not [canary for canary in canaries if canary in text], text
        holds = holding(machine.root, canaries)
        # The host's file, each release's, and what the dying release itself wrote to the journal.
        dying = f"lockkeeper@{make_bundle('dying', at_import=DIES).digest}.service.log"
        allowed = {"etc/lockkeeper/environment", f"var/log/journal/{dying}"}
        allowed |= {f"srv/lockkeeper/configuration/{name}" for name in releases_with_configuration(machine)}
        assert set(holds) == allowed
        assert set(holds.values()) == {0o600}
    finally:
        machine.up.power_off()


def configure(machine, path):
    settings = machine.root / "etc/lockkeeper/host"
    settings.write_text(settings.read_text().replace("CONFIGURATION=\n", f"CONFIGURATION=ssm:{path}\n"))


def releases_with_configuration(machine):
    names = {entry.name for entry in (machine.home / "configuration").iterdir()}
    assert len(names) == 3
    return names


def other_user():
    """A user for the service and a Python that it can run; None where the test cannot become another user."""
    try:
        user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    except KeyError:
        return None, sys.executable
    # The interpreter of the tests may be in root's home.
    for python in (os.path.realpath(sys.executable), f"/usr/bin/python3.{sys.version_info.minor}"):
        if user is not None and allowed(user, "-x", python):
            return user, python
    return None, sys.executable


@pytest.fixture
def open_folder():
    """A folder that every user can reach, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="lockkeeper-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


SAYS_WHO = "print('runs as', os.getuid(), flush=True)"


def test_the_service_owns_and_writes_nothing_and_reads_no_secret(
    open_folder, embedded_aws, make_bundle, canaries
):
    environment, path, _ = plant(embedded_aws, canaries)
    machine = Machine(open_folder / "staging-1" / "root", environment=environment)
    user, python = other_user()
    try:
        if user is not None:
            again = ["--root", machine.root, "--application", "lockkeeper", "--group", "staging"]
            again += ["--port", str(machine.port), "--python", python, "--user", user.pw_name]
            again += ["--tools-python", sys.executable, "--configuration", f"ssm:{path}"]
            subprocess.run([REPOSITORY / "scripts/provision-host", *again], check=True, capture_output=True)
            assert machine.up.systemctl("daemon-reload").returncode == 0
        else:
            configure(machine, path)
        bundle = make_bundle("who", at_import=SAYS_WHO)
        machine.deploy(bundle)
        assert machine.serving() == bundle.digest
        unit = f"lockkeeper@{bundle.digest}.service"
        log = (machine.root / f"var/log/journal/{unit}.log").read_text()
        assert f"runs as {user.pw_uid if user else os.geteuid()}" in log

        walked = 0
        for place in ("etc", "opt/lockkeeper", "srv/lockkeeper"):
            for entry in (machine.root / place).rglob("*"):
                status = entry.lstat()
                walked += 1
                assert status.st_uid == os.geteuid(), entry
                if not entry.is_symlink():
                    assert not status.st_mode & 0o022, f"{entry} can be written by others"
        assert walked > 100
        secret = [
            machine.root / "etc/lockkeeper/environment",
            machine.home / "configuration" / bundle.digest,
            machine.home / "configuration",
            machine.home / "state",
        ]
        for entry in secret:
            assert not entry.stat().st_mode & 0o077, entry
        if user is not None:
            for entry in secret:
                assert not allowed(user, "-r", entry)
            assert allowed(user, "-r", machine.home / "releases" / bundle.digest / "manage.py")
            for entry in ("releases", f"releases/{bundle.digest}/manage.py", "venvs", "static", "current"):
                assert not allowed(user, "-w", machine.home / entry)
    finally:
        machine.up.power_off()


def allowed(user, what, path):
    """Whether a user may read or write something, as the kernel sees it."""
    become = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return subprocess.run([*become, "test", what, path], check=False).returncode == 0
