"""Reading unit files: what systemd's syntax means, and what the sandbox refuses."""

from pathlib import Path

import pytest

from apps.sandbox.hosts.config import ServiceConfig, SocketConfig, load_config
from apps.sandbox.hosts.environment import expand, parse_environment_file
from apps.sandbox.hosts.names import Layout, UnitName, UnsafeRoot
from apps.sandbox.hosts.unitfile import UnitError, parse_span, read_unit, split_words
from tests.sandbox.hosts import write_unit


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "root")


def service(layout, text, name="a.service"):
    write_unit(layout, name, text)
    config = load_config(layout, UnitName.parse(name))
    assert isinstance(config, ServiceConfig)
    return config


def test_a_name_without_a_type_is_a_service():
    assert str(UnitName.parse("lockkeeper@abc")) == "lockkeeper@abc.service"
    assert UnitName.parse("lockkeeper@abc").template == "lockkeeper@.service"


@pytest.mark.parametrize("name", ["a b.service", "../a.service", "@x.service", "x" * 300])
def test_a_bad_name_is_refused(name):
    with pytest.raises(ValueError, match="Invalid unit name"):
        UnitName.parse(name)


def test_paths_of_the_host_move_below_its_root_once(layout):
    text = "-/etc/lockkeeper/environment /srv/lockkeeper/x:/run/lockkeeper /etc/passwd"
    once = layout.map(text)
    root = layout.root
    assert (
        once
        == f"-{root}/etc/lockkeeper/environment {root}/srv/lockkeeper/x:{root}/run/lockkeeper /etc/passwd"
    )
    assert layout.map(once) == once


def test_systemctl_by_its_path_is_the_hosts_own(layout):
    assert layout.map("exec /usr/bin/systemctl start a") == f"exec {layout.bin}/systemctl start a"


def test_a_root_that_a_shell_would_split_is_refused(tmp_path):
    with pytest.raises(UnsafeRoot, match="special to a shell"):
        Layout(tmp_path / "a b")


def test_words_follow_systemds_quoting():
    assert split_words(r"""a 'b c' "d \"e\"" f\x41 'x'y \; ;""") == [
        "a",
        "b c",
        'd "e"',
        "fA",
        "xy",
        "\\;",
        ";",
    ]


@pytest.mark.parametrize("line", ["a 'b", 'a "b', r"a \q"])
def test_words_that_systemd_would_not_take_are_refused(line):
    with pytest.raises(ValueError, match=r"never closed|unknown"):
        split_words(line)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5), ("1min 30s", 90), ("500ms", 0.5), ("infinity", float("inf")), ("2h", 7200)],
)
def test_time_spans(text, seconds):
    assert parse_span(text) == seconds


def test_an_empty_assignment_resets_a_list(layout):
    write_unit(layout, "a.socket", "[Socket]\nListenStream=1\nService=a.service\n")
    write_unit(layout, "a.socket.d/10.conf", "[Socket]\nListenStream=\nListenStream=127.0.0.1:2\n")
    config = load_config(layout, UnitName.parse("a.socket"))
    assert isinstance(config, SocketConfig)
    assert config.listen == ("127.0.0.1:2",)


def test_drop_ins_apply_by_name_and_the_instances_own_wins(layout):
    write_unit(layout, "a@.service", "[Service]\nExecStart=/bin/true\nRestartSec=1\nTimeoutStopSec=1\n")
    write_unit(layout, "a@.service.d/10.conf", "[Service]\nRestartSec=2\n")
    write_unit(layout, "a@.service.d/20.conf", "[Service]\nTimeoutStopSec=2\n")
    write_unit(layout, "a@x.service.d/10.conf", "[Service]\nRestartSec=3\n")
    config = load_config(layout, UnitName.parse("a@x.service"))
    assert (config.restart_sec, config.timeout_stop) == (3, 2)


def test_specifiers_of_an_instance(layout):
    write_unit(layout, "a-b@.service", "[Service]\nExecStart=/bin/echo %i %n %p %%\n")
    assert load_config(layout, UnitName.parse("a-b@x-y")).start[0].argv == (
        "/bin/echo", "x-y", "a-b@x-y.service", "a-b", "%",
    )  # fmt: skip


def test_comments_and_continued_lines(layout):
    config = service(layout, "# one\n[Service]\nExecStart=/bin/echo \\\n# between\n  two \\\n  three\n")
    assert config.start[0].argv == ("/bin/echo", "two", "three")


def test_several_commands_and_a_failure_that_does_not_count(layout):
    config = service(layout, "[Service]\nType=oneshot\nExecStart=-/bin/false ; /bin/true\n")
    assert [(c.argv[0], c.ignore_failure) for c in config.start] == [
        ("/bin/false", True),
        ("/bin/true", False),
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[Service]\nExecStart=/bin/true\nWatchdogSec=5\n", "a.service:3: WatchdogSec=: not supported"),
        ("[Service]\nType=forking\nExecStart=/bin/true\n", "Type=: 'forking' is not supported"),
        ("[Service]\nExecStart=/bin/true\nRestart=maybe\n", "'maybe' is not supported"),
        ("[Service]\nExecStart=/bin/true %H\n", "%H is not supported"),
        ("[Service]\nRestart=no\n", "needs ExecStart="),
        ("[Service]\nExecStart=/bin/a\nExecStart=/bin/b\n", "only Type=oneshot may have several"),
        ("[Service]\nExecStart=/bin/true\nRemainAfterExit=maybe\n", "'maybe' is not a boolean"),
        ("[Service]\nExecStart=/bin/true\nRestartSec=soon\n", "'soon' is not a time span"),
        ("ExecStart=/bin/true\n", "neither a \\[Section\\] nor"),
        ("[Socket]\nListenStream=1\n", "does not belong into a .service"),
        ("[Service]\nType=oneshot\nRestart=always\nExecStart=/bin/true\n", "not allowed for Type=oneshot"),
    ],
)
def test_what_would_run_differently_is_refused_with_its_place(layout, text, problem):
    with pytest.raises(UnitError, match=problem):
        service(layout, text)


def test_hardening_is_accepted(layout):
    lines = "ProtectSystem=strict\nSystemCallFilter=@system-service\nPrivateUsers=yes\nMemoryMax=1G\n"
    assert service(layout, f"[Service]\nExecStart=/bin/true\n{lines}")


def test_a_masked_unit_is_refused(layout):
    layout.units.mkdir(parents=True)
    (layout.units / "a.service").symlink_to("/dev/null")
    with pytest.raises(UnitError, match="is masked"):
        read_unit(layout, UnitName.parse("a"))


def test_variables_in_a_command_line(layout):
    config = service(layout, "[Service]\nExecStart=/bin/echo ${A}b $A $$A $(date) x$A\n")
    assert expand(config.start[0], {"A": "1 2"}) == ("/bin/echo", "1 2b", "1", "2", "$A", "$(date)", "x$A")


def test_an_environment_file_keeps_quotes_and_refuses_nonsense():
    text = '# c\nA=plain value\nB=\'single $x\'\nC="two \\"words\\""\nD=a\\\nb\n\n'
    assert parse_environment_file(text) == {
        "A": "plain value",
        "B": "single $x",
        "C": 'two "words"',
        "D": "ab",
    }
    with pytest.raises(ValueError, match="line 2"):
        parse_environment_file("A=1\nexport B=2\n")
    with pytest.raises(ValueError, match="never closed"):
        parse_environment_file("A='x\n")


def test_the_units_of_this_repository_are_understood(layout):
    folder = Path(__file__).parents[2] / "infra/systemd"
    names = sorted(path.name for path in folder.iterdir())
    assert names, "no units in infra/systemd"
    for name in names:
        write_unit(layout, name, (folder / name).read_text())
    for name in names:
        assert load_config(layout, UnitName.parse(name.replace("@.", "@" + "a" * 64 + "."))) is not None
