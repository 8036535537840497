"""The targets of one target group, and which of them gets the next connection."""

from .config import Address, Group
from .target import DRAINING, NOT_IN_USE, NOT_REGISTERED, STOPPED, Health, Target


class Pool:
    """A target group's targets: those that are registered, and those that drain."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.targets: dict[Address, Target] = {}
        self.draining: dict[str, Target] = {}
        self._turn = 0

    def choose(self) -> Target | None:
        """The next target of those that may have a connection.

        Without a healthy one it is the next of the unhealthy: AWS fails open.
        """
        targets = list(self.targets.values())
        for state in ("healthy", "unhealthy"):
            if found := [each for each in targets if each.health.state == state]:
                self._turn += 1
                return found[self._turn % len(found)]
        return None

    def update(self, group: Group, used: bool, now: float) -> None:
        """Become what is configured; used says whether a listener forwards to the group."""
        self.group = group
        ids = {each.id for each in group.targets}
        for address in self.targets.keys() - set(group.targets):
            target = self.targets.pop(address)
            target.rest(NOT_REGISTERED)
            # Else it is registered still, with another port, or it was stopped or started.
            if address.id not in ids:
                target.rest(DRAINING)
                target.drained_at = now + group.delay
                self.draining[address.id] = target
        for address in group.targets:
            # Connections it had before go on; to AWS it is a new registration.
            self.draining.pop(address.id, None)
            self._observe(self.targets.setdefault(address, Target(address, group.check)), used)
        self._forget_drained(now)

    def _observe(self, target: Target, used: bool) -> None:
        if not target.address.usable:
            target.rest(STOPPED)
        elif used:
            target.observe(self.group.check)
        else:
            target.rest(NOT_IN_USE)
        if target.health.state == "unhealthy" and self.group.cut_unhealthy and self._any_healthy():
            target.cut()

    def _forget_drained(self, now: float) -> None:
        for name, target in list(self.draining.items()):
            if target.drained_at is not None and now >= target.drained_at:
                if self.group.cut_after_delay:
                    target.cut()
                del self.draining[name]

    def health(self, name: str) -> Health:
        target = next((each for address, each in self.targets.items() if address.id == name), None)
        if target:
            return target.health
        return DRAINING if name in self.draining else NOT_REGISTERED

    def _any_healthy(self) -> bool:
        return any(each.health.state == "healthy" for each in self.targets.values())

    def close(self) -> None:
        for target in [*self.targets.values(), *self.draining.values()]:
            target.rest(NOT_REGISTERED)
            target.cut()
