"""Two real hosts, a database and an embedded AWS that they reach, and bundles for them."""

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import pytest

from apps.releases.bundle import Bundle
from apps.sandbox.postgres import Cluster
from tests.hooks import trees, wheels
from tests.hooks.conftest import make_bundle, wheelhouse  # noqa: F401 - fixtures
from tests.hosts.machine import RealMachine
from tests.hosts.nspawn import Nspawn, Refused, Slot, base, hosts
from tests.sandbox.conftest import REGION, Sandbox, start_sandbox

# Debian 12, the base, has this one; the wheels of a bundle are for the Python that made it.
PYTHON = (3, 11)
# What continuous integration can do as root it must do. A build in CodeBuild has no such rights.
REQUIRED = (
    os.environ.get("CI", "").lower() == "true"
    and "CODEBUILD_BUILD_ID" not in os.environ
    and os.geteuid() == 0
)
BUCKET = "lockkeeper-bundles"  # what the agent says of the bundles
CONFIGURATION = "/lockkeeper/staging/"
CANARY = "canary-c0ffee-5f3c1b7e9d"
MEASURED: list[str] = []
SECRET_KEY = "a-key-for-this-test-alone-0123456789-abcdefghijklmnopqrstuvwxyz"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs hosts."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.hosts)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what the tests measured, also where all is well."""
    if MEASURED:
        terminalreporter.section("real hosts")
        for line in MEASURED:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def measured() -> Callable[[str], None]:
    """A function that notes what a test measured, for the end of the run."""
    return MEASURED.append


def refuse(reason: str) -> NoReturn:
    """There are no hosts: a failure where there must be, and said where there need not."""
    if REQUIRED:
        pytest.fail(f"Real hosts are a must here: {reason}", pytrace=False)
    pytest.skip(f"no real hosts: {reason}")


def obstacle() -> str:
    """Why hosts cannot be booted on this machine; empty when nothing is known to be in the way."""
    if os.geteuid() != 0:
        return "this needs root"
    if sys.version_info[:2] != PYTHON:
        here, there = (".".join(map(str, version[:2])) for version in (sys.version_info, PYTHON))
        return f"the hosts have Python {there} and this is {here}; make .venv anew with PYTHON=python{there}"
    missing = [tool for tool in ("systemd-nspawn", "unshare", "nsenter", "ip") if not shutil.which(tool)]
    if not base().is_dir():
        missing.insert(0, f"the base {base()}")
    return f"missing: {', '.join(missing)}; tests/hosts/make-base brings them" if missing else ""


@pytest.fixture(scope="session")
def boxes() -> Iterator[tuple[Slot, list[Nspawn]]]:
    """Two hosts that are up and have nothing of this project."""
    if reason := obstacle():
        refuse(reason)
    with contextlib.ExitStack() as stack:
        try:
            slot, made = stack.enter_context(hosts(2))
        except Refused as refusal:
            refuse(str(refusal))
        yield slot, made


@pytest.fixture(scope="session")
def cloud(boxes, tmp_path_factory) -> Iterator[Sandbox]:
    """An embedded AWS on this machine, where the hosts reach it."""
    slot, _ = boxes
    running = start_sandbox(tmp_path_factory.mktemp("cloud"), "--address", slot.address)
    location = {"LocationConstraint": REGION}
    running.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=location)
    running.client("ssm").put_parameter(Name=f"{CONFIGURATION}CANARY", Value=CANARY, Type="SecureString")
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="session")
def database_url(boxes) -> Iterator[str]:
    """An empty database on this machine, where the hosts reach it."""
    slot, _ = boxes
    with Cluster(address=slot.address) as cluster:
        yield cluster.server.create_database("lockkeeper")


@pytest.fixture(scope="session")
def machines(boxes, cloud, database_url, tmp_path_factory) -> Iterator[list[RealMachine]]:
    """Both hosts, provisioned at once."""
    _, made = boxes
    house = trees.make_wheelhouse(tmp_path_factory.mktemp("tools") / "house", ["boto3"])
    lock = wheels.lock(list(house.glob("*.whl")))
    environment = (
        f"DATABASE_URL={database_url}\nSECRET_KEY={SECRET_KEY}\nALLOWED_HOSTS=*\n"
        f"AWS_ENDPOINT_URL={cloud.endpoint}\nAWS_DEFAULT_REGION={REGION}\n"
        "AWS_ACCESS_KEY_ID=test\nAWS_SECRET_ACCESS_KEY=test\n"
    )
    options = {"configuration": f"ssm:{CONFIGURATION}", "wheelhouse": house, "lock": lock}
    found = [RealMachine(box) for box in made]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda machine: machine.provision(environment=environment, **options), found))
    yield found
    # Before the database and the embedded AWS, which would wait for those who still ask them.
    for box in made:
        box.cut_power()


@pytest.fixture(scope="session")
def own_bundles(tmp_path_factory) -> list[Bundle]:
    return trees.own_bundles(tmp_path_factory.mktemp("own"))
