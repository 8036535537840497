"""What the demo shows: a commit that arrives, and two that do not."""

from dataclasses import dataclass
from typing import Any

from .errors import DemoError
from .probe import Probe
from .scenario import RED_NAME, SCENARIOS
from .source import Repository
from .steps import APPROVER, Demo, Release

BLOCKED, HUMAN, FAILED = 10, 11, 1  # exit codes of the client


@dataclass
class Story:
    """Everything that happens to commits in one run."""

    demo: Demo
    repository: Repository
    approve: bool

    def good(self) -> Release:
        """Bring HEAD to staging by the gate alone, and to production after an approval."""
        demo = self.demo
        release = demo.build(self.repository, "head")
        demo.promote(release, "staging", "head")
        demo.verify(release, "staging")
        promotion = demo.promote(release, "production", "head", expected=HUMAN)
        if self.approve:
            demo.approve(promotion)
        else:
            self._ask(promotion)
        demo.wait(promotion, release, "head")
        demo.verify(release, "production")
        return release

    def _ask(self, promotion: dict[str, Any]) -> None:
        control, say = self.demo.control, self.demo.progress.say
        self.demo.progress.pause()
        say()
        say("Production waits for an approval by somebody else. Give it in the admin:", "bold")
        say(f"  {promotion['links']['page']}")
        say(f"  user {APPROVER}, {control.show_password(APPROVER)}")
        say("or with this command, from another terminal:", "bold")
        say(f"  {control.manage} approve {promotion['id']} --user {APPROVER}")
        say()
        self.demo.progress.resume()

    def red_test(self) -> dict[str, Any]:
        """Show that a commit with a failing test stays at the gate, with that test as the reason."""
        demo = self.demo
        clone = SCENARIOS["red-test"].make(self.repository, demo.slot.folder / "clones")
        release = demo.build(clone, "red-test")
        promotion = demo.promote(release, "staging", "red-test", expected=BLOCKED)
        blocking = [found["sentence"] for found in promotion["findings"] if found["verdict"] == "blocked"]
        if not any(RED_NAME in sentence for sentence in blocking):
            raise DemoError(f"the gate is shut, but not because of {RED_NAME}: {'; '.join(blocking)}")
        demo.progress.say(f"red-test: {'; '.join(blocking)}", "green")
        return {"commit": release.commit, "blocked": blocking}

    def bad_release(self, serving: Release) -> dict[str, Any]:
        """Show that a release that cannot import fails in ApplicationStart, while the old one answers."""
        demo = self.demo
        host = demo.hosts["staging"]
        clone = SCENARIOS["bad-release"].make(self.repository, demo.slot.folder / "clones")
        release = demo.build(clone, "bad-release")
        with Probe(host.url) as probe:
            promotion = demo.promote(release, "staging", "bad-release", expected=FAILED)
        tally = probe.tally
        if promotion["status"] != "failed" or "ApplicationStart" not in promotion["reason"]:
            raise DemoError(
                f"the bad release is {promotion['status']} ({promotion['reason'] or 'no reason'}), "
                "where it should have failed in ApplicationStart"
            )
        if tally.failures:
            raise DemoError(
                f"{len(tally.failures)} of {tally.requests} requests failed during the bad deployment: "
                f"{tally.failures[0]}"
            )
        if tally.digests != {serving.digest}:
            raise DemoError(
                f"other releases than {serving.digest} answered meanwhile: {sorted(tally.digests)}"
            )
        demo.verify(serving, "staging")
        demo.progress.say(
            f"bad-release: {promotion['reason']} Meanwhile {serving.version} answered "
            f"{tally.requests} requests, 0 failed, the longest took {tally.longest * 1000:.0f} ms.",
            "green",
        )
        return {"requests": tally.requests, "failed": 0, "longest_ms": round(tally.longest * 1000, 1)}
