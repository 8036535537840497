"""A release's configuration: fetched from AWS, bound to the release, read by systemd as it was put there."""

import contextlib
import json
import shutil
import socket
import stat
import subprocess
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from deploy.configuration import ensure_configuration, folder, service_variables
from deploy.errors import Failure
from deploy.host import Host
from deploy.service_environment import read_environment, render_environment

from apps.sandbox.hosts.environment import parse_environment_file
from tests.hooks.agent import Deployment, Machine, free_port, wait_until
from tests.hooks.trees import REPOSITORY
from tests.sandbox.conftest import REGION

DIGEST = "ab" * 32
AWKWARD = {
    "PLAIN": "plain",
    "EMPTY": "",
    "SPACES": "  both ends ",
    "QUOTES": "it's \"quoted\" 'twice'",
    "BACKSLASHES": "C:\\new\\table\\",
    "DOLLARS": "$HOME ${PATH} $(id) `id`",
    "HASH": "#no comment; nor this",
    "EQUALS": "a=b==",
    "TABS": "a\tb",
    "UNICODE": "Zürich \u2028 日本 \x85",
    "ENDS_IN_BACKSLASH_QUOTE": 'x\\"',
}


def test_awkward_values_are_read_back_exactly(tmp_path):
    path = tmp_path / "environment"
    path.write_text(render_environment(AWKWARD), encoding="utf-8")
    assert read_environment(path) == AWKWARD
    assert parse_environment_file(path.read_text(encoding="utf-8")) == AWKWARD


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("KEY", "-----BEGIN\ncanary", "The value of KEY has a newline"),
        ("KEY", "canary\r", "The value of KEY has a newline"),
        ("KEY", "canary\x00", "another control character"),
        ("KEY", "canary\ud800", "another control character"),
        ("a-key", "canary", "'a-key' cannot name a variable"),
        ("1KEY", "canary", "'1KEY' cannot name a variable"),
        ("", "canary", "'' cannot name a variable"),
    ],
)
def test_what_a_file_cannot_hold_is_refused_by_name_and_never_by_value(name, value, reason):
    with pytest.raises(Failure, match=reason) as caught:
        render_environment({"OK": "1", name: value})
    assert "canary" not in str(caught.value)


@pytest.fixture
def host(tmp_path, embedded_aws):
    """A host with its tools, that reaches the embedded AWS; its configuration is still to be named."""
    root = tmp_path / "root"
    (root / "etc/lockkeeper").mkdir(parents=True)
    (root / "etc/lockkeeper/environment").write_text(environment_of(embedded_aws.endpoint) + "MINE=host\n")
    shutil.copytree(REPOSITORY / "scripts/host_tools", root / "opt/lockkeeper")
    (root / "srv/lockkeeper").mkdir(parents=True)
    return Host(root, {"TOOLS_PYTHON": sys.executable})


def environment_of(endpoint):
    return (
        f"AWS_ENDPOINT_URL={endpoint}\nAWS_REGION={REGION}\n"
        "AWS_ACCESS_KEY_ID=test\nAWS_SECRET_ACCESS_KEY=test\n"
    )


@pytest.fixture
def place():
    """A name of one's own in the embedded AWS."""
    return f"configuration-{uuid.uuid4().hex[:12]}"


def put(aws, path, values, kind="SecureString"):
    ssm = aws.client("ssm")
    for name, value in values.items():
        ssm.put_parameter(Name=f"{path}{name}", Value=value, Type=kind, Overwrite=True)


def put_secret(aws, name, value):
    aws.client("secretsmanager").create_secret(Name=name, SecretString=value)


def fetch(host, source, *, proved=False):
    host.settings["CONFIGURATION"] = source
    ensure_configuration(host, DIGEST, proved=proved)
    return read_environment(folder(host) / DIGEST)


@pytest.mark.integration
def test_parameters_of_a_path_in_all_its_folders_and_pages(host, embedded_aws, place):
    values = {f"NAME_{number}": f"value {number}" for number in range(14)}  # ten make a page
    put(embedded_aws, f"/{place}/", values)
    put(embedded_aws, f"/{place}/deeper/still/", {"DEEP": "$x"}, kind="String")
    put(embedded_aws, f"/{place}-other/", {"STRANGER": "1"})
    assert fetch(host, f"ssm:/{place}/") == {**values, "DEEP": "$x"}
    own = folder(host) / DIGEST
    assert stat.S_IMODE(own.stat().st_mode) == 0o600
    assert stat.S_IMODE(own.parent.stat().st_mode) == 0o700
    assert service_variables(host, DIGEST)["MINE"] == "host"
    assert service_variables(host, DIGEST)["DEEP"] == "$x"


@pytest.mark.integration
def test_a_secret_with_awkward_values(host, embedded_aws, place):
    put_secret(embedded_aws, place, json.dumps({**AWKWARD, "MINE": "release"}))
    assert fetch(host, f"secretsmanager:{place}") == {**AWKWARD, "MINE": "release"}
    # Over the host's own.
    assert service_variables(host, DIGEST)["MINE"] == "release"


@pytest.mark.integration
def test_it_is_fetched_until_the_release_has_proved_itself_and_then_kept(host, embedded_aws, place):
    path = f"/{place}/"
    put(embedded_aws, path, {"A": "wrong"})
    fetch(host, f"ssm:{path}")
    put(embedded_aws, path, {"A": "mended"})
    assert fetch(host, f"ssm:{path}") == {"A": "mended"}
    put(embedded_aws, path, {"A": "of a later release"})
    assert fetch(host, f"ssm:{path}", proved=True) == {"A": "mended"}
    # How an operator has it fetched anew.
    (folder(host) / DIGEST).unlink()
    assert fetch(host, f"ssm:{path}", proved=True) == {"A": "of a later release"}


def without_tools(host, aws, place):
    host.settings["TOOLS_PYTHON"] = ""
    return f"ssm:/{place}/", "has no TOOLS_PYTHON", "run scripts/provision-host again"


def with_tools_gone(host, aws, place):
    host.settings["TOOLS_PYTHON"] = "/nonexistent/python"
    return f"ssm:/{place}/", "/nonexistent/python is not there", "run scripts/provision-host again"


def with_an_empty_path(host, aws, place):
    return f"ssm:/{place}/", f"there is no parameter below /{place}/ in {REGION}", "put them there"


def with_a_missing_secret(host, aws, place):
    return f"secretsmanager:{place}", f"there is no secret {place} in {REGION}", "make it"


def with_a_secret_of_another_kind(host, aws, place):
    put_secret(aws, place, "canary-plain")
    return f"secretsmanager:{place}", "is not a JSON object of strings", "write it as one"


def with_a_number_in_a_secret(host, aws, place):
    put_secret(aws, place, '{"PORT": 5432, "KEY": "canary-text"}')
    return f"secretsmanager:{place}", "PORT must be a string", "put it in quotes"


def with_a_newline(host, aws, place):
    put(aws, f"/{place}/", {"KEY": "canary\nline"})
    return f"ssm:/{place}/", "The value of KEY has a newline", "keep it encoded"


def with_a_strange_name(host, aws, place):
    put(aws, f"/{place}/", {"db.password": "canary"})
    return f"ssm:/{place}/", "'db.password' cannot name a variable", "rename it"


def with_one_name_twice(host, aws, place):
    put(aws, f"/{place}/a/", {"KEY": "canary-1"})
    put(aws, f"/{place}/b/", {"KEY": "canary-2"})
    return f"ssm:/{place}/", f"/{place}/a/KEY and /{place}/b/KEY would both be KEY", "remove one of them"


def with_aws_away(host, aws, place):
    (host.root / "etc/lockkeeper/environment").write_text(environment_of(f"http://127.0.0.1:{free_port()}"))
    return f"ssm:/{place}/", "AWS cannot be reached", "look at the host's way to it"


def without_credentials(host, aws, place):
    path = host.root / "etc/lockkeeper/environment"
    text = f"AWS_ENDPOINT_URL={aws.endpoint}\nAWS_REGION={REGION}\nAWS_EC2_METADATA_DISABLED=true\n"
    path.write_text(text)
    return f"ssm:/{place}/", "there are no AWS credentials", "give the host the instance profile"


@pytest.mark.integration
@pytest.mark.parametrize(
    "cause",
    [
        without_tools,
        with_tools_gone,
        with_an_empty_path,
        with_a_missing_secret,
        with_a_secret_of_another_kind,
        with_a_number_in_a_secret,
        with_a_newline,
        with_a_strange_name,
        with_one_name_twice,
        with_aws_away,
        without_credentials,
    ],
)
def test_what_prevents_it_is_said_with_the_next_step(host, embedded_aws, place, cause):
    source, reason, advice = cause(host, embedded_aws, place)
    with pytest.raises(Failure) as caught:
        fetch(host, source)
    assert reason in str(caught.value)
    assert advice in str(caught.value)
    assert "canary" not in str(caught.value)
    assert not list(folder(host).glob("*")) + list(folder(host).glob(".*"))


class Denied(BaseHTTPRequestHandler):
    """AWS's answer to a role without the right; the embedded AWS checks none."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        said = {"__type": "AccessDeniedException", "message": "is not authorized to perform: ssm:Get"}
        body = json.dumps(said).encode()
        self.send_response(400)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """Tests print enough."""


@pytest.mark.integration
def test_a_refusal_names_the_rights(host, place):
    with ThreadingHTTPServer(("127.0.0.1", 0), Denied) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        (host.root / "etc/lockkeeper/environment").write_text(
            environment_of(f"http://127.0.0.1:{server.server_port}")
        )
        with pytest.raises(Failure, match=r"AWS refused \(AccessDenied.*give the host's role the rights"):
            fetch(host, f"ssm:/{place}/")
        server.shutdown()
        thread.join()


@pytest.mark.integration
def test_the_tool_writes_to_a_pipe_only(host, tmp_path):
    with (tmp_path / "out").open("w") as out:
        done = subprocess.run(
            [sys.executable, "-I", host.root / "opt/lockkeeper/configuration.py", "ssm:/x/"],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, "to a pipe only" in done.stderr) == (1, True)


SEES = "Path(os.environ['UNREADY_FILE'] + '.' + TALE).write_text(os.environ.get('GREETING', 'none'))"
PREPARES = "open(os.environ['UNREADY_FILE'] + '.prepared', 'w').write(os.environ.get('GREETING', 'none'))"


@pytest.mark.integration
def test_going_back_brings_its_own_configuration_back(tmp_path, embedded_aws, make_bundle, place):
    machine = Machine(tmp_path / "staging-1" / "root", environment=environment_of(embedded_aws.endpoint))
    try:
        settings = machine.root / "etc/lockkeeper/host"
        text = settings.read_text().replace("CONFIGURATION=\n", f"CONFIGURATION=ssm:/{place}/\n")
        settings.write_text(text)
        one, two = (make_bundle(tale, at_import=SEES, in_prepare=PREPARES) for tale in ("one", "two"))

        def seen(name):
            return machine.unready.with_name(f"unready.{name}").read_text()

        put(embedded_aws, f"/{place}/", {"GREETING": AWKWARD["QUOTES"]})
        machine.deploy(one)
        assert seen("prepared") == seen("one") == AWKWARD["QUOTES"]
        put(embedded_aws, f"/{place}/", {"GREETING": "second"})
        machine.deploy(two)
        assert seen("two") == "second"
        # Nothing is asked of AWS on the way back: what the release ran with is here.
        environment = machine.root / "etc/lockkeeper/environment"
        nowhere = f"http://127.0.0.1:{free_port()}"
        environment.write_text(environment.read_text().replace(embedded_aws.endpoint, nowhere))
        machine.deploy(one)
        assert seen("prepared") == seen("one") == AWKWARD["QUOTES"]
        assert machine.serving() == one.digest
        # A release that was never here needs AWS: refused, with what serves left alone.
        three = Deployment(machine, make_bundle("three", at_import=SEES))
        three.run_until("Install")
        result = three.run("AfterInstall")
        assert result.code == 1
        assert "AWS cannot be reached" in result.reason
        assert machine.serving() == one.digest
        assert machine.leftovers() == []
        assert not machine.unready.with_name("unready.three").exists()
    finally:
        machine.up.power_off()


def fetching(machine):
    """The processes that fetch this host's configuration."""
    tool = str(machine.root / "opt/lockkeeper/configuration.py").encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if tool in path.read_bytes().split(b"\0"):
                found.append(path)
    return found


@pytest.mark.integration
def test_killed_while_it_is_fetched_leaves_nothing_and_is_carried_on(
    tmp_path, embedded_aws, make_bundle, place
):
    put(embedded_aws, f"/{place}/", {"GREETING": "hello"})
    with socket.create_server(("127.0.0.1", 0)) as mute:  # connects, and never answers
        nowhere = f"http://127.0.0.1:{mute.getsockname()[1]}"
        machine = Machine(tmp_path / "staging-1" / "root", environment=environment_of(nowhere))
        try:
            settings = machine.root / "etc/lockkeeper/host"
            text = settings.read_text().replace("CONFIGURATION=\n", f"CONFIGURATION=ssm:/{place}/\n")
            settings.write_text(text)
            one = make_bundle("one", at_import=SEES, in_prepare=PREPARES)
            deployment = Deployment(machine, one)
            deployment.run_until("Install")
            assert deployment.kill("AfterInstall", lambda: fetching(machine))
            wait_until(lambda: not fetching(machine))
            # As of a run that was killed while it wrote.
            (machine.home / "configuration" / f".tmp-{one.digest}").write_text("GREETING=hal")
            environment = machine.root / "etc/lockkeeper/environment"
            environment.write_text(environment.read_text().replace(nowhere, embedded_aws.endpoint))
            machine.deploy(one)
            assert machine.unready.with_name("unready.one").read_text() == "hello"
            assert [path.name for path in (machine.home / "configuration").iterdir()] == [one.digest]
            assert machine.leftovers() == []
        finally:
            machine.up.power_off()
