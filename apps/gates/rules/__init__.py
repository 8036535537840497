"""The rules, by name. A new one is a module with its test file, and a line here."""

from apps.gates.rules import (
    approved,
    built_as_defined,
    bundle_intact,
    environment_healthy,
    evidence_age,
    evidence_complete,
    evidence_source,
    in_window,
    max_duration,
    max_failures,
    min_line_coverage,
    min_pass_rate,
    min_tests,
    no_new_failures,
    no_vanished_tests,
    not_pinned,
    not_superseded,
    not_vetoed,
    override,
    required_reports,
    soak,
    verified_upstream,
    way_back,
)
from apps.gates.rules.base import Rule

RULES: dict[str, Rule] = {
    module.RULE.name: module.RULE
    for module in (
        built_as_defined,
        required_reports,
        evidence_complete,
        evidence_age,
        evidence_source,
        max_failures,
        no_new_failures,
        no_vanished_tests,
        max_duration,
        min_pass_rate,
        min_tests,
        min_line_coverage,
        bundle_intact,
        verified_upstream,
        soak,
        environment_healthy,
        approved,
        not_superseded,
        not_pinned,
        not_vetoed,
        in_window,
        way_back,
        override,
    )
}
