"""How a build can differ from its project."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from apps.aws.codebuild import BuildInfo, Definition, ProjectInfo, Variable
from apps.builds.definition import deviations

STARTED = datetime(2026, 1, 1, 12, tzinfo=UTC)
DEFINED = Definition(
    settings={
        "source type": "S3",
        "source location": "bucket/source.zip",
        "buildspec": "",
        "image": "aws/codebuild/standard:7.0",
        "privileged mode": "off",
    },
    variables={"BUCKET": Variable("b", "PLAINTEXT")},
)
PROJECT = ProjectInfo(name="web", modified_at=STARTED - timedelta(days=1), definition=DEFINED)
BUILD = BuildInfo(
    id="web:1",
    arn="arn:aws:codebuild:eu-central-1:123456789012:build/web:1",
    project="web",
    number=1,
    status="SUCCEEDED",
    complete=True,
    source_type="S3",
    source_version="v1",
    resolved_source_version="v1",
    started_at=STARTED,
    ended_at=STARTED + timedelta(minutes=1),
    log_url="",
    exports={},
    report_arns=(),
    debug_session=False,
    definition=DEFINED,
)


def ran(*, variables=None, **settings) -> BuildInfo:
    named = {name.replace("_", " "): value for name, value in settings.items()}
    return replace(
        BUILD,
        definition=Definition(
            {**DEFINED.settings, **named}, DEFINED.variables if variables is None else variables
        ),
    )


def test_a_build_as_defined_has_none():
    assert deviations(build=BUILD, project=PROJECT) == []


def test_another_version_of_the_source_is_none():
    assert deviations(build=replace(BUILD, source_version="v2"), project=PROJECT) == []


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"image": "other:1"}, "its image was 'other:1' instead of 'aws/codebuild/standard:7.0'"),
        ({"buildspec": "version: 0.2\nphases: {}"}, "its buildspec was 'version: 0.2…' instead of nothing"),
        ({"privileged_mode": "on"}, "its privileged mode was 'on' instead of 'off'"),
        ({"source_type": "GITHUB"}, "its source type was 'GITHUB' instead of 'S3'"),
        (
            {"secondary_source_lib_location": "https://example.org/lib"},
            "its secondary source lib location was 'https://example.org/lib' instead of nothing",
        ),
    ],
)
def test_another_setting_is_named_with_both_values(settings, sentence):
    assert deviations(build=ran(**settings), project=PROJECT) == [sentence]


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (
            {**DEFINED.variables, "SKIP": Variable("secret", "PLAINTEXT")},
            "its environment had SKIP, which the project does not define",
        ),
        ({"BUCKET": Variable("secret", "PLAINTEXT")}, "its BUCKET differed from the project's"),
        ({"BUCKET": Variable("b", "PARAMETER_STORE")}, "its BUCKET differed from the project's"),
        ({}, "its environment lacked the project's BUCKET"),
    ],
)
def test_other_variables_are_named_without_their_values(variables, sentence):
    assert deviations(build=ran(variables=variables), project=PROJECT) == [sentence]


def test_a_debug_session_is_one():
    (sentence,) = deviations(build=replace(BUILD, debug_session=True), project=PROJECT)
    assert "debug session" in sentence


def test_a_project_changed_meanwhile_is_mentioned_only_where_it_matters():
    changed = replace(PROJECT, modified_at=STARTED + timedelta(minutes=5))
    assert deviations(build=BUILD, project=changed) == []
    assert deviations(build=ran(image="other:1"), project=changed)[-1] == (
        "the project was changed at 2026-01-01 12:05 UTC, after it began"
    )
