"""What can go wrong when a target is put in or taken out; each message is a sentence for people."""


class BalancerError(Exception):
    """A load balancer cannot do what it is asked to."""


class UnknownTargetGroup(BalancerError):
    """No target group has that name."""


class TargetUnhealthy(BalancerError):
    """A target was registered and did not become healthy."""
