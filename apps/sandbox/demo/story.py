"""What the demo shows: a commit that arrives, one that replaces it, and two that do not."""

from dataclasses import dataclass, field
from typing import Any

from .cloud import Rollout
from .errors import DemoError
from .probe import Probe, Tally
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
    rolled: list[Tally] = field(default_factory=list)  # of each rolling deployment
    migrated: list[dict[str, str]] = field(default_factory=list)  # likewise, by host

    def good(self) -> Release:
        """Bring HEAD to staging by the gate alone, and to production after an approval."""
        release = self.demo.build(self.repository, "head")
        self._to_staging(release, "head")
        # Until the first host serves there is nothing to ask.
        self._to_production(release, "head", self._probe(later=True))
        return release

    def upgrade(self, serving: Release) -> Release:
        """Bring a second commit to production, host by host, while requests come."""
        clone = SCENARIOS["upgrade"].make(self.repository, self.demo.slot.folder / "clones")
        release = self.demo.build(clone, "upgrade")
        self._to_staging(release, "upgrade")
        tally = self._to_production(release, "upgrade", self._probe())
        if tally.digests != {serving.digest, release.digest}:
            raise DemoError(f"not the two releases but {sorted(tally.digests)} answered in production")
        return release

    def _probe(self, *, later: bool = False) -> Probe:
        """Ask production at its one address, gently: deployments share this machine with it."""
        return Probe(self.demo.front_doors["production"], threads=2, pause=0.05, later=later)

    def _to_staging(self, release: Release, name: str) -> None:
        self.demo.promote(release, "staging", name)
        self.demo.verify(release, "staging")

    def _to_production(self, release: Release, name: str, probe: Probe) -> Tally:
        demo = self.demo

        def watch(rollout: Rollout) -> None:
            if rollout.done:
                probe.begin()

        with probe:
            promotion = demo.promote(release, "production", name, expected=HUMAN)
            if self.approve:
                demo.approve(promotion)
            else:
                self._ask(promotion)
            demo.wait(promotion, release, name, watch)
            demo.verify(release, "production")
        if probe.tally.failures:
            raise DemoError(
                f"{len(probe.tally.failures)} of {probe.tally.requests} requests failed during the rolling "
                f"deployment: {probe.tally.failures[0]}"
            )
        self.rolled.append(probe.tally)
        self.migrated.append(demo.migrations(promotion["id"]))
        return probe.tally

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
        clone = SCENARIOS["bad-release"].make(self.repository, demo.slot.folder / "clones")
        release = demo.build(clone, "bad-release")
        with Probe(demo.front_doors["staging"]) as probe:
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
            f"bad-release: {promotion['reason']} Meanwhile {serving.version} served: {tally}.", "green"
        )
        return tally.saved()
