"""What somebody who looks at a build sees of each exit code, with stand-ins for Jenkins's steps."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.jenkins.conftest import ROOT

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("LOCKKEEPER_CACHE_DIR") or ROOT / ".local" / "cache")
# The linter of the Jenkinsfile brings it.
GROOVY = sorted(CACHE.glob("groovy-lint-*/node_modules/npm-groovy-lint/lib/java/groovy/lib/groovy-4*.jar"))

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        not (GROOVY and shutil.which("java")), reason="needs Java and .ci/lint-jenkinsfile to have run"
    ),
]

SHUT = "blocked: max_failures: 2 failures"
SOAKS = "waiting for time: soaked: It ran in staging for 1 of 24 hours"
WAITS = "waiting for a person: approved: It needs 1 more approval: ben, cem"


def see(*answers: str) -> list[str]:
    """The lines of a run in which the client ends with these codes and titles, one after the other."""
    command = [
        "java",
        "-cp",
        str(GROOVY[-1]),
        "groovy.ui.GroovyMain",
        "steps.groovy",
        str(ROOT / "Jenkinsfile"),
    ]
    done = subprocess.run([*command, *answers], cwd=HERE, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if not line.startswith("client: ")]


def test_a_release_that_passes_goes_all_the_way():
    assert see("0=succeeded", "0=succeeded") == [
        "stage: Build",
        "stage: Staging",
        "stage: Production",
        "end: success",
    ]


def test_a_person_is_waited_for_where_everybody_sees_it():
    assert see("0", f"11={WAITS}", f"11={WAITS}", "0")[3:] == [
        f"stage: production waits: {WAITS}",
        f"input: {WAITS}",
        f"stage: production waits: {WAITS}",
        f"input: {WAITS}",
        "end: success",
    ]


def test_time_is_slept_through_without_an_agent():
    assert see("0", f"12={SOAKS}", f"12={SOAKS}", "0")[3:] == [
        f"stage: production waits: {SOAKS}",
        "sleep: 90 SECONDS",
        "sleep: 90 SECONDS",
        "end: success",
    ]


def test_after_a_person_time_may_be_waited_for_and_a_person_again():
    assert see("0", f"11={WAITS}", f"12={SOAKS}", f"11={WAITS}", "0")[3:] == [
        f"stage: production waits: {WAITS}",
        f"input: {WAITS}",
        f"stage: production waits: {SOAKS}",
        "sleep: 90 SECONDS",
        f"stage: production waits: {WAITS}",
        f"input: {WAITS}",
        "end: success",
    ]


@pytest.mark.parametrize(("code", "reason"), [(10, "the gate is shut"), (13, "the evidence is inconclusive")])
def test_a_gate_that_stays_shut_fails_a_stage_with_the_reason_in_its_title(code, reason):
    assert see(f"{code}={SHUT}")[1:] == [
        "stage: Staging",
        f"stage: staging: {SHUT}",
        f"end: staging: {reason} (exit code {code})",
    ]


@pytest.mark.parametrize(("code", "reason"), [(14, "evidence is missing"), (1, "it failed")])
def test_everything_else_fails_the_stage_it_is_in(code, reason):
    assert see("0", f"{code}=errored")[2:] == [
        "stage: Production",
        f"end: production: {reason} (exit code {code})",
    ]


def test_what_was_waited_for_may_still_be_refused():
    assert see("0", f"11={WAITS}", "10=rejected: Rejected by ben: no.")[-2:] == [
        "stage: production: rejected: Rejected by ben: no.",
        "end: production: the gate is shut (exit code 10)",
    ]
