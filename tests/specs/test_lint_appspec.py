"""One small appspec per rule: what lint_appspec finds, where, and how to mend it."""

import pytest

from apps.specs.lint import lint_appspec

HEADER = "version: 0.0\nos: linux\nfiles:\n  - source: /\n    destination: /srv/app\n"


def hooks(event="AfterInstall", **keys):
    """An appspec with one script that has these keys."""
    keys = {"location": "scripts/a.sh", "timeout": "60"} | keys
    first, *rest = (f"{key}: {value}" for key, value in keys.items() if value is not None)
    return HEADER + f"hooks:\n  {event}:\n    - {first}\n" + "".join(f"      {line}\n" for line in rest)


def item(**keys):
    keys = {"source": "web", "destination": "/srv/app"} | keys
    first, *rest = (f"{key}: {value}" for key, value in keys.items())
    return f"version: 0.0\nos: linux\nfiles:\n  - {first}\n" + "".join(f"    {line}\n" for line in rest)


def permission(**keys):
    return (
        HEADER + "permissions:\n  - object: /srv/app\n" + "".join(f"    {k}: {v}\n" for k, v in keys.items())
    )


def found(text, name="appspec.yml"):
    """What was found, as {(severity, code): finding}."""
    return {(each.severity, each.code): each for each in lint_appspec(text.encode(), name).findings}


def test_a_good_appspec_has_no_findings():
    assert not found(hooks())
    assert not found(hooks(runas="deploy"))
    assert not found(permission(mode='"0755"', owner="web", type="[file]"))
    assert not found(HEADER + "file_exists_behavior: OVERWRITE\n")


ERRORS = [
    ("not-yaml", "version: 0.0\nos: linux\nhooks: a: b\n", 3, "quotes"),
    ("not-yaml", "version: 0.0\nhooks:\n\t- a\n", 3, "spaces"),
    ("not-yaml", "x: *nowhere\n", 1, "in quotes"),
    ("not-json", '{"version": 0.0, "os": "linux",\n "files": [}\n', 2, "JSON"),
    ("unknown-tag", HEADER + "x: !ruby/object:A {}\n", 6, "tag"),
    ("not-a-mapping", "- version: 0.0\n", 1, "version: 0.0"),
    ("not-a-mapping", "", 1, "version: 0.0"),
    ("anchor", HEADER + "hooks: &a {}\n", 6, "Write the value out"),
    ("date", HEADER + "released: 2024-01-01\n", 6, '"2024-01-01"'),
    ("symbol", HEADER + "x: :name\n", 6, '":name"'),
    ("version", "os: linux\n", 1, "version: 0.0"),
    ("version", 'version: "0.0"\nos: linux\n', 1, "quotes away"),
    ("version", "version: 1.0\nos: linux\n", 1, "version: 0.0"),
    ("version", "ersion: 0.0\nos: linux\n", 1, "version: 0.0"),
    ("os", "version: 0.0\nos: ubuntu\n", 2, "os: linux"),
    ("os", "version: 0.0\nos: Windows Server\n", 2, "os: windows"),
    ("os", "version: 0.0\n", 1, "os: linux"),
    ("hooks", HEADER + "hooks: [a]\n", 6, "events as keys"),
    ("hook-form", HEADER + "hooks:\n  AfterInstall: a.sh\n", 7, "- location:"),
    ("hook-form", HEADER + "hooks:\n  AfterInstall:\n    - a.sh\n", 8, "- location:"),
    ("hook-form", HEADER + "hooks:\n  AfterInstall:\n", 7, "- location:"),
    ("no-location", hooks(location=None, run="a.sh"), 9, "location: scripts/name.sh"),
    ("no-location", hooks(location='"  "'), 8, "location"),
    ("timeout", hooks(timeout="0"), 9, "timeout: 300"),
    ("timeout", hooks(timeout="soon"), 9, "timeout: 300"),
    ("list-form", "version: 0.0\nos: linux\nfiles: {source: a}\n", 3, "list of maps"),
    ("list-form", "version: 0.0\nos: linux\nfiles:\n  - a\n", 4, "list of maps"),
    ("no-source", "version: 0.0\nos: linux\nfiles:\n  - destination: /a\n", 4, "source:"),
    ("no-destination", "version: 0.0\nos: linux\nfiles:\n  - source: a\n", 4, "destination:"),
    ("list-form", HEADER + "permissions: {object: /a}\n", 6, "list of maps"),
    ("no-object", HEADER + "permissions:\n  - mode: 644\n", 7, "object:"),
    ("permissions-on-windows", permission().replace("linux", "windows"), 7, "AfterInstall"),
    ("permission-list", permission(type="file"), 8, "type: ['file']"),
    ("permission-type", permission(type="[socket]"), 8, "[file]"),
    ("mode", permission(mode="10644"), 8, 'mode: "'),
    ("mode", permission(mode="0755"), 8, 'mode: "0755"'),
    ("mode", permission(mode="u+x"), 8, 'mode: "0644"'),
    ("acl", permission(acls="[nonsense]"), 8, "user:NAME:rwx"),
    ("acl", permission(acls="['other::r']"), 8, "user:NAME:rwx"),
    ("context", permission(context="{name: a}"), 8, "type:"),
    ("context", permission(context="{type: a, range: x0}"), 8, "s0"),
    ("file-exists-behavior", HEADER + "file_exists_behavior: REPLACE\n", 6, "OVERWRITE"),
]


@pytest.mark.parametrize(("code", "text", "line", "mend"), ERRORS)
def test_an_error_has_its_line_and_its_mend(code, text, line, mend):
    findings = found(text)
    assert ("error", code) in findings, findings
    finding = findings["error", code]
    assert finding.line == line
    assert mend in finding.mend


WARNINGS = [
    ("duplicate-key", HEADER + "os: linux\n", (6, 1), "Keep one"),
    ("second-document", HEADER + "---\nversion: 1\n", (6, 1), "---"),
    ("unknown-key", hooks() + "runas: root\n", (10, 1), "below the script"),
    ("unknown-key", HEADER + "AfterInstall:\n  - location: a.sh\n", (6, 1), "below hooks"),
    ("unknown-key", HEADER + "\\   AfterInstall:\n  - location: a.sh\n", (6, 1), "below hooks"),
    ("unknown-key", HEADER + "file: []\n", (6, 1), "Did you mean files?"),
    ("unknown-key", HEADER + "destination: /a\n", (6, 1), "below files"),
    ("unknown-key", HEADER + "owner: root\n", (6, 1), "below permissions"),
    ("unknown-key", item(overwrite="true"), (6, 5), "file_exists_behavior: OVERWRITE"),
    ("unknown-key", item(file_exists_behavior="OVERWRITE"), (6, 5), "top level"),
    ("unknown-key", item(mode="777"), (6, 5), "permissions section"),
    ("unknown-key", hooks(commands="[ls]"), (10, 7), "script that location names"),
    ("unknown-key", hooks(runAs="root"), (10, 7), "Did you mean runas?"),
    ("unknown-key", permission(user="web"), (8, 5), "known here"),
    ("no-files", "version: 0.0\nos: linux\n", (1, 1), "files:"),
    ("source-absolute", item(source="/index.html"), (4, 13), "source: index.html"),
    ("source-outside", item(source="../web"), (4, 13), "without '..'"),
    ("source-wildcard", item(source="target/*.war"), (4, 13), "Name the folder"),
    ("destination-relative", item(destination="srv/app"), (5, 18), "destination: /srv/app"),
    ("destination-relative", item(destination="~/app"), (5, 18), "from the root on"),
    (
        "destination-is-folder",
        item(source="etc/app.conf", destination="/etc/app.conf"),
        (5, 18),
        "destination: /etc",
    ),
    ("object-relative", permission().replace("object: /srv", "object: srv"), (7, 13), "from the root on"),
    ("object-wildcard", HEADER + "permissions:\n  - object: /srv/*.sh\n", (7, 13), "pattern"),
    ("mode-unquoted", permission(mode="0644"), (8, 11), 'mode: "0644"'),
    ("pattern-shallow", permission(pattern='"*.sh"'), (8, 14), "**"),
    ("unscriptable-event", hooks("Install"), (7, 3), "BeforeInstall"),
    ("unknown-event", hooks("ApplicatiionStart"), (7, 3), "Did you mean ApplicationStart?"),
    ("unknown-event", hooks("afterinstall"), (7, 3), "Did you mean AfterInstall?"),
    ("unknown-event", hooks("CustomEvent"), (7, 3), "Known events are"),
    ("unknown-event", hooks("AfterAllowTestTraffic"), (7, 3), "ECS"),
    ("empty-unknown-event", HEADER + "hooks:\n  AfterInstal: []\n", (7, 3), "Did you mean AfterInstall?"),
    ("no-timeout", hooks(timeout=None), (8, 7), "timeout: 300"),
    ("timeout-unit", hooks(timeout="5 minutes"), (9, 16), "timeout: 5"),
    ("timeouts-over-an-hour", hooks(timeout="3601"), (7, 3), "3600"),
    (
        "timeouts-over-an-hour",
        hooks(timeout="1800") + "    - location: b.sh\n      timeout: 1801\n",
        (7, 3),
        "3600",
    ),
    ("location-absolute", hooks(location="/scripts/a.sh"), (8, 17), "location: scripts/a.sh"),
    ("location-backslash", hooks(location="scripts\\a.sh"), (8, 17), "location: scripts/a.sh"),
    ("location-space", hooks(location="scripts/a.sh --now"), (8, 17), "without a space"),
    ("location-outside", hooks(location="../../bin/sh"), (8, 17), "without '..'"),
    ("location-folder", hooks(location="scripts/"), (8, 17), "with its ending"),
    ("runas-on-windows", hooks(runas="root").replace("linux", "windows"), (10, 14), "Take it away"),
    ("runas-no-login", hooks(runas="www-data"), (10, 14), "runuser -u www-data"),
    ("sudo", hooks(sudo="true"), (10, 13), "as root"),
]


@pytest.mark.parametrize(("code", "text", "place", "mend"), WARNINGS)
def test_a_warning_has_its_place_and_its_mend(code, text, place, mend):
    report = lint_appspec(text.encode(), "appspec.yml")
    finding = found(text)["warning", code]
    assert (finding.line, finding.column) == place
    assert mend in finding.mend
    assert report.ok


def test_windows_line_ends_move_no_line_and_change_no_verdict():
    text = hooks("Install", timeout=None)
    lines = [(each.code, each.line, each.column) for each in lint_appspec(text.encode()).findings]
    assert lines == [
        (each.code, each.line, each.column)
        for each in lint_appspec(text.replace("\n", "\r\n").encode()).findings
    ]
    assert not found(hooks().replace("\n", "\r\n"))


@pytest.mark.parametrize("name", ["appspec.yaml", "deploy/appspec.json", "AppSpec.yml"])
def test_the_agent_reads_one_name_alone(name):
    text = (
        hooks()
        if not name.endswith("json")
        else '{"version": 0.0, "os": "linux", "files": [{"source": "/", "destination": "/a"}]}'
    )
    assert list(found(text, name)) == [("warning", "file-name")]
    assert ("warning", "file-name") not in found(text, "other.yml")


def test_json_that_only_yaml_reads_is_a_warning():
    text = '{"version": 0.0, "os": "linux", "files": [{"source": "/", "destination": "/a"},]}'
    assert ("warning", "json-as-yaml") in found(text, "spec.json")
    assert ("warning", "json-as-yaml") not in found(text, "spec.yml")


def test_tabs_in_json_are_nothing_to_complain_of():
    assert not found(
        '{\n\t"version": 0.0,\n\t"os": "linux",\n\t"files": [\n\t\t{"source": "/", "destination": "/a"}]}'
    )


def test_bytes_that_are_no_utf_8_are_found_where_they_are():
    report = lint_appspec(b"version: 0.0\nos: linux\nx: \xff\n")
    (finding,) = report.findings
    assert (finding.code, finding.line, finding.column) == ("not-utf-8", 3, 4)
    assert lint_appspec(b"\xef\xbb\xbf" + HEADER.encode()).ok  # a byte order mark is none


def test_utf_16_is_an_error_for_the_agent_alone():
    assert ("error", "not-utf-8") in {
        (each.severity, each.code) for each in lint_appspec(hooks().encode("utf-16")).findings
    }
    assert [each.code for each in lint_appspec(ECS.encode("utf-16")).findings] == ["utf-16"]
    assert lint_appspec(ECS.encode("utf-16") + b"x").findings


@pytest.mark.parametrize(
    "entry",
    [
        "user:web:rwx",
        "web:rw",
        "u:web:7",
        "g:web:r-x",
        "m:rw",
        "mask::r",
        "d:u:web:rw",
        "default::rwx",
        "d:o:r",
    ],
)
def test_entries_of_access_control_lists_that_the_agent_takes(entry):
    assert ("error", "acl") not in found(permission(acls=f"['{entry}']"))


@pytest.mark.parametrize(
    "entry", ["web", "u::rw", "other:r", "o:web:r", "web:rwz", "x:web:r", "d:d:web:r", "a:b:c:d:e"]
)
def test_entries_that_it_does_not(entry):
    assert ("error", "acl") in found(permission(acls=f"['{entry}']"))


ECS = """version: 0.0
Resources:
  - TargetService:
      Type: AWS::ECS::Service
      Properties:
        TaskDefinition: <TASK_DEFINITION>
        LoadBalancerInfo:
          ContainerName: web
          ContainerPort: 80
"""
LAMBDA = """version: 0.0
Resources:
  - f:
      Type: AWS::Lambda::Function
      Properties: {Name: f, Alias: live, CurrentVersion: "1", TargetVersion: "2"}
Hooks:
  - BeforeAllowTraffic: check
"""


def test_good_appspecs_for_ecs_and_lambda():
    assert not found(ECS, "appspec.yaml")
    assert not found(LAMBDA)
    assert not found(ECS.replace("0.0", '"0.0"'))


@pytest.mark.parametrize(
    ("code", "text", "line"),
    [
        ("version", ECS.replace("0.0", "1"), 1),
        ("version", ECS.replace("version: 0.0\n", ""), 1),
        ("resources-form", "version: 0.0\nResources:\n  web: {}\n", 3),
        ("resources-form", "version: 0.0\nResources:\n  - web\n", 3),
        (
            "resources-form",
            ECS.replace("          ContainerName: web\n          ContainerPort: 80\n", "").replace(
                "Info:", "Info: x"
            ),
            7,
        ),
        ("one-resource", ECS + ECS.partition("Resources:\n")[2], 10),
        ("one-resource", "version: 0.0\nResources: []\n", 2),
        ("resource-type", ECS.replace("ECS::Service", "ECS::Task"), 4),
        ("resource-properties", "version: 0.0\nResources:\n  - a:\n      Type: AWS::ECS::Service\n", 3),
        ("property-missing", ECS.replace(" <TASK_DEFINITION>", ""), 6),
        ("property-missing", ECS.replace("          ContainerPort: 80\n", ""), 8),
        ("property-missing", LAMBDA.replace('CurrentVersion: "1", ', ""), 5),
        ("unknown-event", LAMBDA.replace("BeforeAllow", "BeforeInstall"), 7),
        ("hook-form", LAMBDA.replace("- BeforeAllowTraffic: check", "BeforeAllowTraffic: check"), 7),
        ("hook-form", LAMBDA.replace(": check", ":"), 7),
    ],
)
def test_what_codedeploy_refuses_for_ecs_and_lambda(code, text, line):
    assert found(text)["error", code].line == line


@pytest.mark.parametrize(
    ("code", "text", "mend"),
    [
        ("port-is-text", ECS.replace("80", '"80"'), "ContainerPort: 80"),
        ("unknown-key", ECS + "hooks: []\n", "Did you mean Hooks?"),
        (
            "unknown-key",
            ECS.replace("TaskDefinition: <", "PlatformVersio: LATEST\n        TaskDefinition: <"),
            "PlatformVersion",
        ),
    ],
)
def test_what_has_no_effect_for_ecs(code, text, mend):
    assert mend in found(text)["warning", code].mend
    assert lint_appspec(text.encode()).ok


def test_what_a_revision_lacks(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/good.sh").write_text("#!/bin/sh\n")
    (tmp_path / "scripts/windows.sh").write_bytes(b"#!/bin/sh\r\necho\r\n")
    (tmp_path / "scripts/bare.sh").write_text("echo\n")
    text = item(source="gone") + "hooks:\n  AfterInstall:\n"
    for name in ("good", "windows", "bare", "gone"):
        text += f"    - location: scripts/{name}.sh\n      timeout: 60\n"
    report = lint_appspec(text.encode(), "appspec.yml", tmp_path)
    assert [(each.severity, each.code, each.line) for each in report.findings] == [
        ("error", "source-missing", 4),
        ("error", "script-crlf", 10),
        ("warning", "script-no-shebang", 12),
        ("error", "script-missing", 14),
    ]
