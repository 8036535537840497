"""Two Debian hosts with a real systemd: everything that a folder with a small systemctl cannot prove.

The tests tell one story on the same two hosts, in this order.
"""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.hooks.agent import wait_until
from tests.hooks.load import Load
from tests.hosts.conftest import BUCKET, CANARY
from tests.hosts.machine import RealDeployment

# The tiny service fails on /readyz without this variable, and gunicorn answers 500.
NOT_READY = "del os.environ['UNREADY_FILE']"
SLOW_TO_START = "time.sleep(3)"
SLOW_TO_STOP = "import atexit; atexit.register(time.sleep, 3)"
UNITS = ("lockkeeper@{}.service", "lockkeeper-private@{}.socket", "lockkeeper-reconcile@{}.service")
# systemd-analyze's exposure level, from 0 (best) to 10; a service without hardening has 9.2. The upload of
# flight records is root, which alone may read them.
MOST_EXPOSED = {"lockkeeper@": 1.1, "lockkeeper-reconcile@": 1.1, "lockkeeper-flight": 1.6}


@pytest.fixture(scope="module")
def a(machines):
    return machines[0]


@pytest.fixture(scope="module")
def b(machines):
    return machines[1]


def units(digest):
    return {unit.format(digest) for unit in UNITS}


def main_pid(machine):
    """The number that the serving release's first process has on its host."""
    unit = f"lockkeeper@{machine.pointer('current')}.service"
    return machine.systemctl("show", "--value", "--property=MainPID", unit).stdout.strip()


def list_keys(s3, prefix):
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])]


def settle(machine, bundle):
    """Have a release serve and nothing else run, whatever the test before left."""
    if machine.pointer("current") != bundle.digest:
        machine.deploy(bundle)
    assert machine.serving() == bundle.digest
    wait_until(lambda: machine.running() == units(bundle.digest))


def start_at_both(machines, event, deployments):
    """Run one event on both hosts at the same time."""
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda deployment: deployment.run(event), deployments))
    for result in results:
        assert result.code == 0, result.output
    return results


def test_a_provisioned_host_is_up_and_has_nothing_failed(machines):
    for machine in machines:
        assert machine.systemctl("is-active", "lockkeeper.socket").stdout.strip() == "active"
        assert machine.systemctl("--failed", "--plain", "--no-legend").stdout == ""
        assert machine.running() == set()
        # Else the address may not be there yet when the socket is opened at boot.
        assert (
            machine.systemctl("show", "--value", "--property=FreeBind", "lockkeeper.socket").stdout == "yes\n"
        )
        assert machine.systemctl("is-enabled", "lockkeeper.socket", "lockkeeper.service").stdout.split() == [
            "enabled",
            "enabled",
        ]


def test_this_repository_is_deployed_to_both_hosts_at_once(machines, own_bundles):
    one = own_bundles[0]
    deployments = [RealDeployment(machine, one) for machine in machines]
    for event in ("BeforeInstall", "Install"):
        start_at_both(machines, event, deployments)
    outputs = [result.output for result in start_at_both(machines, "AfterInstall", deployments)]
    assert sum(bool(re.search(r"applied \d+: ", output)) for output in outputs) == 1, outputs
    for event in ("ApplicationStart", "ValidateService"):
        start_at_both(machines, event, deployments)
    for machine in machines:
        assert json.loads(machine.get("/version"))["digest"] == one.digest
        assert machine.get("/readyz")
        style = re.search(r'href="(/static/[^"]+\.[0-9a-f]{12}\.css)"', machine.get("/admin/login/"))
        assert style is not None
        assert "{" in machine.get(style[1])
        assert machine.running() == units(one.digest)
        assert (machine.pointer("current"), machine.pointer("previous")) == (one.digest, None)
        assert machine.leftovers() == []


def test_what_the_hooks_recorded_is_uploaded(machines, cloud):
    s3 = cloud.client("s3")
    for machine in machines:
        prefix = f"flight/lockkeeper/staging/{machine.previous.id}/{machine.box.name}/"
        events = ("AfterInstall", "ApplicationStart", "BeforeInstall", "ValidateService")
        keys = [f"{prefix}{event}.json" for event in events]
        wait_until(lambda prefix=prefix, keys=keys: list_keys(s3, prefix) == keys, seconds=60)
        for key in keys:
            record = json.loads(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
            assert (record["host"], record["result"]) == (machine.box.name, "succeeded")
        wait_until(lambda machine=machine: list((machine.home / "state/outbox").iterdir()) == [])


def test_the_configuration_reaches_the_service_and_nobody_else(a):
    digest = a.pointer("current")
    assert f"CANARY={CANARY}".encode() in a.path(f"/proc/{main_pid(a)}/environ").read_bytes()
    holders = a.box.enter(
        "grep", "-rlF", CANARY, "/etc", "/opt", "/root", "/run", "/srv", "/tmp", "/var", check=False
    )
    assert holders.stdout.split() == [f"/srv/lockkeeper/configuration/{digest}"]
    assert a.box.enter("stat", "-c", "%U %a", holders.stdout.strip()).stdout == "root 600\n"


def test_the_service_owns_nothing_and_can_change_nothing(a):
    uid = a.box.enter("id", "-u", "lockkeeper").stdout.strip()
    status = a.path(f"/proc/{main_pid(a)}/status").read_text()
    assert re.search(rf"^Uid:\s+{uid}\s+{uid}\s+{uid}\s+{uid}$", status, re.MULTILINE)
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    home, others = "/srv/lockkeeper", "/etc/lockkeeper /etc/systemd/system /opt"
    assert a.box.enter("sh", "-c", f"find {home} {others} -user lockkeeper -o -group lockkeeper").stdout == ""
    # Nor does a mode let it write, where systemd would not forbid it anyway.
    assert a.box.enter("sh", "-c", f"find {home} {others} ! -type l -perm /022").stdout == ""
    secret = a.box.enter(
        "sh", "-c", "su -s /bin/sh -c 'cat /etc/lockkeeper/environment' lockkeeper", check=False
    )
    assert "Permission denied" in secret.stdout


def test_systemd_finds_nothing_to_say_about_the_units(a):
    digest = a.pointer("current")
    files = [path for path in a.path("/etc/systemd/system").glob("lockkeeper*") if path.is_file()]
    names = sorted(path.name.replace("@.", f"@{digest}.") for path in files)
    assert {f"lockkeeper@{digest}.service", "lockkeeper.socket", "lockkeeper.service"} < set(names)
    verified = a.box.enter("systemd-analyze", "verify", *names, check=False)
    assert (verified.returncode, verified.stdout) == (0, "")


@pytest.mark.parametrize("unit", sorted(MOST_EXPOSED))
def test_a_unit_may_do_little(a, unit, measured):
    name = f"{unit}{a.pointer('current')}.service" if unit.endswith("@") else f"{unit}.service"
    shown = a.box.enter("systemd-analyze", "security", "--no-pager", name).stdout
    exposure = float(re.search(r"Overall exposure level for \S+: ([0-9.]+)", shown)[1])
    measured(f"systemd-analyze security {unit}: {exposure}")
    assert exposure <= MOST_EXPOSED[unit], shown


def test_an_upgrade_under_load_fails_no_request(a, b, own_bundles, measured):
    two = own_bundles[1]
    with Load(a.port, address=a.box.address, methods=("GET",)) as load:
        a.deploy(two)
    b.deploy(two)
    assert load.failures == []
    assert load.requests > 100
    assert a.running() == units(two.digest)
    measured(f"upgrade under load: {load.requests} requests, 0 failed, the longest {load.longest_s:.2f} s")


def test_a_bad_release_under_load_costs_no_request(a, make_bundle, measured):
    """One that cannot be imported, and one whose readiness fails."""
    one = make_bundle("one")
    settle(a, one)
    bad = [
        make_bundle("cannot-import", at_import="import no_such_module"),
        make_bundle("not-ready", at_import=NOT_READY),
    ]
    a.lose_patience()
    with Load(a.port, address=a.box.address) as load:
        for bundle in bad:
            result = RealDeployment(a, bundle).run_until("ApplicationStart")
            assert result.code == 1, result.output
            assert f"Release {one.digest[:12]} still serves." in result.reason
            assert a.serving() == one.digest
            assert a.pointer("current") == one.digest
            wait_until(lambda: a.running() == units(one.digest))
    assert load.failures == []
    measured(
        f"bad releases under load: {load.requests} requests, 0 failed, the longest {load.longest_s:.2f} s"
    )


def test_a_reboot_starts_exactly_the_current_release(a, make_bundle):
    one, two = make_bundle("one"), make_bundle("two")
    settle(a, one)
    settle(a, two)
    a.box.reboot()
    assert a.serving() == two.digest
    wait_until(lambda: a.running() == units(two.digest))
    assert a.pointer("previous") == one.digest


@pytest.mark.parametrize("moved", [False, True], ids=["before", "after"])
def test_a_power_cut_in_the_middle_of_the_swap(b, make_bundle, moved):
    """Before `current` moves the old release comes up, after it the new one, and never both."""
    one = make_bundle("one", at_import=SLOW_TO_STOP)
    two = make_bundle("two", at_import=SLOW_TO_START)
    settle(b, one)
    deployment = RealDeployment(b, two)
    deployment.run_until("AfterInstall")
    with deployment.hook("ApplicationStart") as hook:
        awaited = "Telling other releases to finish" if moved else f"Starting {two.digest[:12]}"
        printed = []
        while awaited not in (printed or [""])[-1]:
            printed.append(hook.stdout.readline())
            assert printed[-1], "".join(printed)
        services = {f"lockkeeper@{bundle.digest}.service" for bundle in (one, two)}
        wait_until(lambda: services <= b.running())
        assert b.pointer("current") == (two if moved else one).digest
        # Having told the old release to finish, the hook does not wait for it.
        assert moved or hook.poll() is None
        b.box.cut_power()
    b.box.boot()
    expected = two if moved else one
    assert b.serving() == expected.digest
    wait_until(lambda: b.running() == units(expected.digest))
    # The same deployment again ends as it would have ended.
    deployment.run_until("ValidateService")
    assert b.serving() == two.digest
    assert (b.pointer("current"), b.pointer("previous")) == (two.digest, one.digest)
    assert b.leftovers() == []


def test_eight_deployments_in_a_minute(b, make_bundle, measured):
    one, two = make_bundle("one"), make_bundle("two")
    settle(b, two)
    began = time.monotonic()
    with Load(b.port, address=b.box.address) as load:
        for bundle in [one, two] * 4:
            b.deploy(bundle)
    seconds = time.monotonic() - began
    # systemd's own limit, five starts in ten seconds, would have closed the front door.
    assert load.failures == []
    wait_until(lambda: b.running() == units(two.digest))
    assert b.systemctl("is-active", "lockkeeper.socket").stdout.strip() == "active"
    measured(f"eight deployments in {seconds:.0f} s: {load.requests} requests, 0 failed")


def test_going_back_takes_a_moment(b, make_bundle, measured):
    """Everything is on the host: nothing is built, copied or compiled again."""
    one, two = make_bundle("one"), make_bundle("two")
    times = []
    for bundle in (one, two, one):
        deployment = RealDeployment(b, bundle)
        began = time.monotonic()
        for event in ("BeforeInstall", "Install", "AfterInstall", "ApplicationStart"):
            result = deployment.run(event)
            assert result.code == 0, result.output
            assert "building" not in result.output
            assert "copying" not in result.output
        times.append(time.monotonic() - began)
        assert deployment.run("ValidateService").code == 0
    measured(f"going back, to the end of ApplicationStart: {', '.join(f'{t:.2f}' for t in times)} s")
    # Measured at 1.3 on an idle machine; building an environment or migrating would take longer than this.
    assert min(times) < 10
