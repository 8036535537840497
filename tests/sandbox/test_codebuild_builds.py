"""Builds through the API: phases, the shell, the environment, failures, stopping."""

import os
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

pytestmark = pytest.mark.integration

PHASES = [
    "SUBMITTED",
    "QUEUED",
    "PROVISIONING",
    "DOWNLOAD_SOURCE",
    "INSTALL",
    "PRE_BUILD",
    "BUILD",
    "POST_BUILD",
    "UPLOAD_ARTIFACTS",
    "FINALIZING",
    "COMPLETED",
]


def phases_of(build):
    return {phase["phaseType"]: phase.get("phaseStatus") for phase in build["phases"]}


def context_of(build, phase):
    (context,) = next(p for p in build["phases"] if p["phaseType"] == phase)["contexts"]
    return context


def commands(*lines, **extra):
    """Return a buildspec whose build phase runs these commands."""
    listed = "".join(f"      - {line!r}\n" for line in lines)
    head = "".join(f"{key}: {value}\n" for key, value in extra.items())
    return f"version: 0.2\n{head}phases:\n  build:\n    commands:\n{listed}"


def test_a_build_goes_through_every_phase(builder):
    build = builder.run(commands("echo hello"))
    assert build["buildStatus"] == "SUCCEEDED", builder.log(build)
    assert [phase["phaseType"] for phase in build["phases"]] == PHASES
    assert set(list(phases_of(build).values())[:-1]) == {"SUCCEEDED"}
    assert build["currentPhase"] == "COMPLETED"
    assert build["buildNumber"] == 1
    for phase in build["phases"][:-1]:
        assert phase["startTime"] <= phase["endTime"]
        assert phase["durationInSeconds"] >= 0
    assert build["phases"][-1].keys() == {"phaseType", "startTime"}
    log = builder.log(build)
    assert "Running command echo hello\nhello\n" in log
    assert "Phase complete: BUILD State: SUCCEEDED" in log


def test_variables_functions_and_directory_persist_between_commands_and_phases(builder):
    build = builder.run(
        """
version: 0.2
phases:
  install:
    commands: ["mkdir sub; cd sub", "plain=1", "export EXPORTED=2", "f() { echo function $1; }"]
  post_build:
    commands: ["f three > ../seen", 'echo "$plain $EXPORTED ${PWD##*/}" >> ../seen', "cat ../seen"]
"""
    )
    assert build["buildStatus"] == "SUCCEEDED", builder.log(build)
    assert "\nfunction three\n1 2 sub\n" in builder.log(build)


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_command_that_ends_the_shell_fails_and_the_next_phase_goes_on(builder, shell):
    build = builder.run(
        f"""
version: 0.2
env: {{shell: {shell}, exported-variables: [KEPT, GONE]}}
phases:
  build:
    commands:
      - export KEPT="two words; 'quoted'" GONE=1
      - unset GONE
      - mkdir sub && cd sub
      - sleep 300 & echo $! > ../pid
      - |
        exit 7
      - echo never
  post_build:
    commands:
      - echo "kept=$KEPT succeeding=$CODEBUILD_BUILD_SUCCEEDING in ${{PWD##*/}}"
      - kill -0 "$(cat ../pid)" && echo still running
"""
    )
    assert build["buildStatus"] == "FAILED"
    assert phases_of(build)["BUILD"] == "FAILED"
    assert phases_of(build)["POST_BUILD"] == "SUCCEEDED"
    assert phases_of(build)["UPLOAD_ARTIFACTS"] == "SUCCEEDED"
    assert context_of(build, "BUILD") == {
        "statusCode": "COMMAND_EXECUTION_ERROR",
        "message": "Error while executing command: exit 7. Reason: exit status 7",
    }
    log = builder.log(build)
    assert "kept=two words; 'quoted' succeeding=0 in sub\n" in log
    assert "\nstill running\n" in log
    assert "Running command echo never" not in log
    assert build["exportedEnvironmentVariables"] == [{"name": "KEPT", "value": "two words; 'quoted'"}]


def test_set_e_and_syntax_errors_and_exec_fail_the_command(builder):
    builder.create_project()
    for line in ("set -e\nfalse\ntrue", "if then", "exec false"):
        body = "".join(f"        {part}\n" for part in line.splitlines())
        spec = f"version: 0.2\nphases:\n  build:\n    commands:\n      - |\n{body}      - echo never\n"
        builder.upload({"buildspec.yml": spec})
        build = builder.wait(builder.start())
        assert phases_of(build)["BUILD"] == "FAILED", line
        assert phases_of(build)["POST_BUILD"] == "SUCCEEDED", line
        assert "never\n" not in builder.log(build).replace("echo never", "")


def test_pre_build_failing_ends_the_build_after_its_finally(builder):
    build = builder.run(
        """
version: 0.2
phases:
  pre_build:
    commands: ["false", "echo skipped-command"]
    finally: ["echo in finally"]
  build:
    commands: ["echo skipped-phase"]
"""
    )
    assert build["buildStatus"] == "FAILED"
    assert list(phases_of(build)) == [*PHASES[:6], "FINALIZING", "COMPLETED"]
    log = builder.log(build)
    assert "\nin finally\n" in log
    assert "skipped" not in log


@pytest.mark.parametrize(
    ("choice", "reached"), [("CONTINUE", PHASES), ("ABORT", [*PHASES[:5], "FINALIZING", "COMPLETED"])]
)
def test_on_failure_decides_whether_an_install_failure_ends_the_build(builder, choice, reached):
    build = builder.run(
        f"version: 0.2\nphases:\n  install:\n    on-failure: {choice}\n    commands: ['false']\n"
    )
    assert list(phases_of(build)) == reached
    assert build["buildStatus"] == "FAILED"


def test_on_failure_abort_skips_post_build_and_artifacts(builder):
    build = builder.run(
        "version: 0.2\nphases:\n  build: {on-failure: ABORT, commands: ['false']}\n"
        "  post_build: {commands: ['echo never']}\n"
    )
    assert list(phases_of(build)) == [*PHASES[:7], "FINALIZING", "COMPLETED"]


def test_a_build_sees_codebuilds_variables_and_nothing_of_the_sandbox(builder, sandbox):
    build = builder.run(
        commands("env | sort > env.txt; cat env.txt", "touch $HOME/x; echo src=$PWD"),
        project={"sourceVersion": "to-be-overridden"},
    )
    assert build["buildStatus"] == "SUCCEEDED", builder.log(build)
    lines = builder.log(build).splitlines()
    seen = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("["))
    assert seen["CODEBUILD_BUILD_ID"] == build["id"]
    assert seen["CODEBUILD_BUILD_ARN"] == build["arn"]
    assert seen["CODEBUILD_BUILD_NUMBER"] == "1"
    assert seen["CODEBUILD_BUILD_SUCCEEDING"] == "1"
    assert seen["CODEBUILD_SOURCE_VERSION"] == build["sourceVersion"]
    assert "CODEBUILD_RESOLVED_SOURCE_VERSION" not in seen  # as on AWS for a source in S3
    assert seen["CODEBUILD_SRC_DIR"] == seen["src"]
    assert seen["CI"] == seen["CODEBUILD_CI"] == "true"
    assert seen["AWS_REGION"] == seen["AWS_DEFAULT_REGION"] == "eu-central-1"
    assert seen["AWS_ENDPOINT_URL"] == sandbox.endpoint
    assert "127.0.0.1" in seen["NO_PROXY"].split(",")
    assert seen["HOME"].startswith(str(sandbox.state))
    assert ":" not in seen["HOME"]
    assert "VIRTUAL_ENV" not in seen
    assert ".venv/bin" not in seen["PATH"]
    assert "DATABASE_URL" not in seen
    assert "DJANGO_SETTINGS_MODULE" not in seen


def test_variables_of_the_start_beat_the_projects_which_beat_the_buildspecs(builder, sandbox):
    sandbox.client("ssm").put_parameter(Name="/web/token", Value="from ssm", Type="SecureString")
    spec = """
version: 0.2
env:
  variables: {A: spec, B: spec, C: spec}
  parameter-store: {P: /web/token}
phases: {build: {commands: ['echo "$A $B $C $P $Q"']}}
"""
    builder.upload({"buildspec.yml": spec})
    project = builder.create_project()
    environment = project["environment"] | {
        "environmentVariables": [
            {"name": "B", "value": "project"},
            {"name": "C", "value": "project"},
            {"name": "Q", "value": "/web/token", "type": "PARAMETER_STORE"},
        ]
    }
    builder.codebuild.update_project(name=builder.name, environment=environment)
    build = builder.wait(builder.start(environmentVariablesOverride=[{"name": "C", "value": "start"}]))
    assert "\nspec project start from ssm from ssm\n" in builder.log(build)
    assert build["environment"]["environmentVariables"] == [
        {"name": "B", "value": "project", "type": "PLAINTEXT"},
        {"name": "C", "value": "start", "type": "PLAINTEXT"},
        {"name": "Q", "value": "/web/token", "type": "PARAMETER_STORE"},
    ]


def test_the_version_asked_for_is_built_and_an_override_is_visible(builder):
    builder.create_project()
    old = builder.upload({"buildspec.yml": commands("cat which"), "which": "old\n", "run.sh": "echo ran\n"})
    builder.upload({"buildspec.yml": commands("cat which"), "which": "new\n"})
    assert "\nold\n" in builder.log(builder.wait(builder.start(sourceVersion=old)))
    assert "\nnew\n" in builder.log(builder.wait(builder.start()))
    override = commands("./run.sh")
    build = builder.wait(builder.start(sourceVersion=old, buildspecOverride=override))
    assert build["source"]["buildspec"] == override
    assert "\nran\n" in builder.log(build)
    assert build["buildNumber"] == 3


@pytest.mark.parametrize(
    ("files", "code", "message"),
    [
        ({}, "YAML_FILE_ERROR", "YAML file does not exist: buildspec.yml"),
        ({"buildspec.yml": "version: 0.2\nphases:\n  test: {}\n"}, "YAML_FILE_ERROR", "unknown phase test"),
        ({"buildspec.yml": commands("echo hi: there").replace("'", "")}, "YAML_FILE_ERROR", "Commands[0]"),
        ({"buildspec.yml": commands("true", **{"run-as": "me"})}, "CLIENT_ERROR", "does not support run-as"),
        ({"../outside": ""}, "CLIENT_ERROR", "lies outside the archive"),
    ],
)
def test_a_bad_source_fails_in_download_source(builder, files, code, message):
    builder.create_project()
    builder.upload(files)
    build = builder.wait(builder.start())
    assert build["buildStatus"] == "FAILED"
    assert list(phases_of(build)) == [*PHASES[:4], "FINALIZING", "COMPLETED"]
    context = context_of(build, "DOWNLOAD_SOURCE")
    assert context["statusCode"] == code
    assert message in context["message"]


def test_a_missing_source_or_version_says_what_s3_says(builder):
    builder.create_project()
    missing = context_of(builder.wait(builder.start()), "DOWNLOAD_SOURCE")
    assert missing["message"].startswith("NoSuchKey: ")
    builder.upload({"buildspec.yml": commands("true")})
    wrong = context_of(builder.wait(builder.start(sourceVersion="0" * 32)), "DOWNLOAD_SOURCE")
    assert wrong["message"].startswith("NoSuchVersion: ")
    builder.s3.put_object(Bucket=builder.bucket, Key="source/app.zip", Body=b"not a zip")
    broken = context_of(builder.wait(builder.start()), "DOWNLOAD_SOURCE")
    assert "is not a ZIP archive" in broken["message"]


def pids_with(marker):
    """Return the processes whose command line holds a text."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:  # it ended meanwhile
                continue
            if marker in line and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def wait_for(condition, seconds=15):
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return result


def test_stopping_ends_the_whole_process_tree(builder):
    builder.create_project()
    marker = f"30{os.getpid()}"
    line = f"(trap '' TERM; setsid sleep {marker}) & setsid sh -c 'sleep {marker}' & sleep {marker}"
    builder.upload({"buildspec.yml": commands(line), "x": ""})
    build_id = builder.start()
    wait_for(lambda: len(pids_with(f"sleep\0{marker}")) == 3)
    builder.codebuild.stop_build(id=build_id)
    build = builder.wait(build_id)
    assert build["buildStatus"] == "STOPPED"
    assert phases_of(build)["BUILD"] == "STOPPED"
    assert list(phases_of(build))[-2:] == ["FINALIZING", "COMPLETED"]
    assert not pids_with(f"sleep\0{marker}")


def test_what_a_build_leaves_running_ends_with_it_and_its_files_go(builder, sandbox):
    marker = f"31{os.getpid()}"
    build = builder.run(commands(f"setsid sleep {marker} &", "mkdir -p d/e; chmod 500 d/e d"))
    assert build["buildStatus"] == "SUCCEEDED"
    assert not pids_with(f"sleep\0{marker}")
    folder = sandbox.state / "builds" / build["id"].partition(":")[2]
    assert [path.name for path in folder.iterdir()] == ["log.txt"]


def test_idempotency_token_starts_one_build(builder):
    builder.upload({"buildspec.yml": commands("true")})
    builder.create_project()
    first = builder.start(idempotencyToken="once")
    assert builder.start(idempotencyToken="once") == first
    with pytest.raises(ClientError, match="Idempotency token"):
        builder.start(idempotencyToken="once", sourceVersion="x")
    builder.wait(first)


def test_builds_are_listed_newest_first_and_unknown_ones_named(builder):
    builder.upload({"buildspec.yml": commands("true")})
    builder.create_project()
    ids = [builder.start() for _ in range(3)]
    codebuild = builder.codebuild
    assert codebuild.list_builds_for_project(projectName=builder.name)["ids"] == ids[::-1]
    ascending = codebuild.list_builds_for_project(projectName=builder.name, sortOrder="ASCENDING")["ids"]
    assert ascending == ids
    assert codebuild.list_builds()["ids"][:3] == ids[::-1]
    answer = codebuild.batch_get_builds(ids=[builder.wait(ids[0])["arn"], "no:such"])
    assert [build["id"] for build in answer["builds"]] == ids[:1]
    assert answer["buildsNotFound"] == ["no:such"]
    for each in ids:
        builder.wait(each)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"debugSessionEnabled": True}, "debugSessionEnabled"),
        ({"privilegedModeOverride": True}, "privilegedModeOverride"),
        ({"sourceTypeOverride": "GITHUB"}, "source type GITHUB"),
        ({"environmentTypeOverride": "WINDOWS_CONTAINER"}, "environment type WINDOWS_CONTAINER"),
        ({"environmentVariablesOverride": [{"name": "A-B", "value": ""}]}, "Invalid environment variable"),
        ({"environmentVariablesOverride": [{"name": "CODEBUILD_X", "value": ""}]}, "reserved"),
        (
            {"environmentVariablesOverride": [{"name": "A", "value": "x", "type": "SECRETS_MANAGER"}]},
            "no Secrets Manager",
        ),
    ],
)
def test_what_the_sandbox_cannot_do_is_refused(builder, params, message):
    builder.create_project()
    with pytest.raises(ClientError, match=message) as caught:
        builder.start(**params)
    assert caught.value.response["Error"]["Code"] == "InvalidInputException"


def test_unknown_projects_and_builds_are_typed_errors(builder):
    with pytest.raises(builder.codebuild.exceptions.ResourceNotFoundException):
        builder.start()
    with pytest.raises(builder.codebuild.exceptions.ResourceNotFoundException):
        builder.codebuild.stop_build(id="no:such")


def test_projects_are_created_read_changed_listed_and_deleted(builder):
    created = builder.create_project(description="one")
    assert created["arn"].endswith(f":project/{builder.name}")
    assert created["timeoutInMinutes"] == 60
    with pytest.raises(builder.codebuild.exceptions.ResourceAlreadyExistsException):
        builder.create_project()
    builder.codebuild.update_project(name=builder.name, description="two")
    answer = builder.codebuild.batch_get_projects(names=[builder.name, "nobody"])
    assert answer["projects"][0]["description"] == "two"
    assert answer["projects"][0]["source"] == created["source"]
    assert answer["projectsNotFound"] == ["nobody"]
    assert builder.name in builder.codebuild.list_projects()["projects"]
    builder.codebuild.delete_project(name=builder.name)
    assert builder.name not in builder.codebuild.list_projects()["projects"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"vpcConfig": {"vpcId": "vpc-1"}}, "vpcConfig"),
        ({"source": {"type": "S3", "location": "bucket"}}, "location must be"),
        ({"source": {"type": "NO_SOURCE"}}, "must be given inline"),
        ({"artifacts": {"type": "S3"}}, "must name a bucket"),
        ({"cache": {"type": "S3"}}, "location must name a bucket"),
        ({"cache": {"type": "LOCAL"}}, "needs modes"),
        ({"secondarySources": [{"type": "S3", "location": "b/k"}]}, "Invalid sourceIdentifier ''"),
        (
            {"secondarySources": [{"type": "GITHUB", "sourceIdentifier": "a"}]},
            "secondary source type GITHUB",
        ),
        ({"secondaryArtifacts": [{"type": "S3", "location": "b"}]}, "Invalid artifactIdentifier ''"),
        (
            {"secondarySourceVersions": [{"sourceIdentifier": "a", "sourceVersion": "1"}]},
            "no secondary source a",
        ),
        ({"buildBatchConfig": {"serviceRole": "r"}}, "buildBatchConfig"),
        ({"logsConfig": {"s3Logs": {"status": "ENABLED"}}}, "need a location"),
        ({"timeoutInMinutes": 5000}, "Member must have value less than or equal to 2160"),
    ],
)
def test_a_project_that_cannot_work_is_refused(builder, members, message):
    with pytest.raises(ClientError, match=message):
        builder.create_project(**members)


def test_no_source_builds_an_inline_buildspec_and_version_0_1_isolates_commands(builder):
    spec = "version: 0.1\nphases: {build: {commands: ['X=1; cd /', 'echo \"x=$X in ${PWD##*/}\"']}}"
    builder.create_project(source={"type": "NO_SOURCE", "buildspec": spec})
    build = builder.wait(builder.start())
    assert build["buildStatus"] == "SUCCEEDED", builder.log(build)
    assert "\nx= in src\n" in builder.log(build)
