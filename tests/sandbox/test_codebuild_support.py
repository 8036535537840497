"""What the sandbox cannot do of a valid buildspec, and says so."""

import pytest

from apps.sandbox.codebuild.support import UnsupportedError, check_supported
from apps.specs.buildspec import parse_buildspec


def build(commands):
    return f"version: 0.2\nphases:\n  build:\n    commands:\n{commands}"


@pytest.mark.parametrize(
    "text",
    [
        build("      - a\nrun-as: builder"),
        build("      - a\n    on-failure: RETRY-2"),
        build("      - a\nenv: {shell: powershell.exe}"),
        build("      - a\nenv: {secrets-manager: {TOKEN: web}}"),
        build("      - a\n    steps: []"),
        build("      - a\nartifacts: {files: a, s3-prefix: x}"),
        build("      - a\ncache: {paths: [a], key: b}"),
        "version: 0.2\nbatch: {fast-fail: true}",
    ],
)
def test_says_what_the_sandbox_cannot_do(text):
    with pytest.raises(UnsupportedError):
        check_supported(parse_buildspec(text))


def test_notes_what_has_no_effect():
    assert check_supported(parse_buildspec(build("      - a\nproxy: {logs: yes}"))) == [
        "the proxy section has no effect in the sandbox"
    ]
