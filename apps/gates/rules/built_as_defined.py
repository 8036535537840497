"""The build succeeded, and ran as its project defines it.

StartBuild can override source, buildspec, image, role and variables, so a build that differs from its
project proves nothing about the project's steps.
"""

from dataclasses import dataclass
from datetime import datetime

from apps.gates.facts import Facts
from apps.gates.parameters import wait_minutes
from apps.gates.rules.base import Rule, build_evidence, not_read_yet
from apps.gates.verdicts import Finding, Verdict


@dataclass(frozen=True)
class Parameters:
    wait_minutes: int = wait_minutes()


def judge(facts: Facts, parameters: Parameters, at: datetime) -> Finding:
    """Blocked for a failed or deviating build; inconclusive when nobody could check it."""
    build = facts.build
    if build is not None and build.status not in {"IN_PROGRESS", "SUCCEEDED"}:
        return Finding(
            Verdict.BLOCKED,
            f"Build {build.codebuild_id} ended as {build.status}.",
            build_evidence(build) | {"status": build.status},
            who=f"a developer of {facts.service}",
        )
    if build is not None and build.deviations:
        return Finding(
            Verdict.BLOCKED,
            f"Build {build.codebuild_id} did not run as its project defines it: "
            f"{'; '.join(build.deviations)}.",
            build_evidence(build) | {"deviations": list(build.deviations)},
            who=f"a developer of {facts.service}, by a build without overrides",
        )
    if waiting := not_read_yet(facts, at, wait_minutes=parameters.wait_minutes):
        return waiting
    if build is None or build.deviations is None:
        codebuild_id, evidence = (build.codebuild_id, build_evidence(build)) if build else ("", {})
        why = f": {build.problem}" if build and build.problem else ""
        return Finding(
            Verdict.INCONCLUSIVE,
            f"Build {codebuild_id} could not be compared with its project's definition{why}.",
            evidence,
            who=f"a developer of {facts.service}, by a new build",
        )
    return Finding(
        Verdict.PASS,
        f"Build {build.codebuild_id} succeeded and ran as its project defines it.",
        build_evidence(build),
    )


RULE = Rule("built_as_defined", Parameters, judge)
