"""What a deployment waits for, in one sentence, from its row alone."""

from datetime import datetime

from apps.deployments.models import Deployment
from apps.leases import Leasable

Status = Deployment.Status


def waits_for(deployment: Deployment, *, at: datetime) -> str:
    """What a deployment that has not ended waits for; empty when it has.

    AWS's last error comes first: it is written by whoever could not go on, and taken away once it can.
    """
    if deployment.status in Deployment.FINAL:
        return ""
    sentence = deployment.error_message or _step(deployment)
    silent = silence(deployment, at=at)
    return f"{sentence} {silent}" if silent else sentence


def silence(row: Leasable, *, at: datetime) -> str:
    """That the worker which had a row died or hangs, if it did; the next free one takes over."""
    if row.lease_owner and row.lease_until is not None and row.lease_until <= at:
        return f"The worker {row.lease_owner} fell silent; another one takes over."
    return ""


def _step(deployment: Deployment) -> str:
    if deployment.status == Status.INTENDED:
        if deployment.asked_at is None:
            return "CodeDeploy has not been told yet; manage.py reconcile does that."
        # To the second: microseconds tell nobody anything.
        asked = deployment.asked_at.strftime("%H:%M:%S %Z")
        return (
            f"CreateDeployment was sent at {asked} and no answer is noted; a worker looks for its "
            "deployment, and asks again only when none has shown for so long that there is none."
        )
    if deployment.status == Status.REQUESTED:
        return f"CodeDeploy has it as {deployment.codedeploy_id} and has not begun."
    return f"CodeDeploy is at work on {deployment.codedeploy_id}."
