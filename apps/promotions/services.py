"""Bring releases to environments: ask, agree, refuse, take back, judge, start and finish.

Rows are locked in one order, so that no two writers wait for each other: environment, deployment,
promotion, and last the ledger's chain.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from apps.access.models import User
from apps.catalog.models import Environment
from apps.catalog.permissions import MOVERS, Role, require_held_role, require_role
from apps.compiled import Among, compiled
from apps.deployments.models import Deployment
from apps.deployments.services import failure_of, is_proving, unproved
from apps.errors import DomainError, Forbidden, Invalid, NotFound
from apps.gates.evaluate import judge
from apps.gates.models import Decision, Policy
from apps.gates.rules.override import NAME as OVERRIDE
from apps.gates.verdicts import OPENS, Verdict
from apps.leases import wake
from apps.ledger.hashing import digest_without_fractions
from apps.ledger.services import Act, record_all
from apps.promotions.bundles import wants_look
from apps.promotions.facts import Subject, fact_of, gather_all
from apps.promotions.models import Approval, Promotion, PromotionQuerySet, Standing
from apps.releases.models import Release

Status = Promotion.Status


def get_promotion(pk: int) -> Promotion:
    """The promotion with what people want to see of it; NotFound otherwise."""
    related = ("environment__service", "release", "requested_by", "decision__policy", "deployment")
    promotion = Promotion.objects.select_related(*related).filter(pk=pk).first()
    if promotion is None:
        raise NotFound(f"There is no promotion {pk}.")
    return promotion


def request_promotion(*, release: Release, environment: Environment, requested_by: User) -> Promotion:
    """Ask for a release to be brought to an environment, and judge it at once.

    Asked again by the same person while it is pending or under way, it is the same promotion. A newer
    release supersedes older ones that are pending there; while a newer one is pending, an older one is
    refused. It may be asked for while another promotion is under way, and waits for it.
    """
    service = environment.service
    require_role(user=requested_by, service=service, roles=MOVERS)
    if release.service_id != environment.service_id:
        raise Invalid(
            f"Release {release.version} is not of {service.slug}, so it cannot go to {environment}."
        )
    return write_request(release=release, environment=environment, requested_by=requested_by)


def write_request(
    *, release: Release, environment: Environment, requested_by: User, automatic: bool = False
) -> Promotion:
    """What ``request_promotion`` does once it is clear that the user may ask; ``automatic`` if nobody did."""
    with transaction.atomic():
        # One request per environment at a time: it looks at the others that wait there.
        Environment.objects.select_for_update(no_key=True).get(pk=environment.pk)
        here = Promotion.objects.filter(environment=environment)
        # A rollback that waits goes first, whatever is asked for after it.
        waiting = here.pending().filter(rollback=False).select_related("release", "requested_by")
        open_ones = here.filter(Q(status=Status.PENDING) | Q(status__in=Promotion.UNDER_WAY), release=release)
        if existing := open_ones.select_related("requested_by").first():
            if existing.requested_by_id == requested_by.pk:
                evaluate_promotion(promotion=existing)
                return existing
            raise DomainError(
                f"{existing.requested_by.username} has asked for it already: promotion {existing.pk} is "
                f"{existing.status}."
            )
        if newer := waiting.filter(release__gt=release.pk).order_by("-release").first():
            raise DomainError(
                f"The newer release {newer.release.version} waits for {environment.slug} (promotion "
                f"{newer.pk}). Cancel that first to bring {release.version} there."
            )
        promotion = Promotion.objects.create(
            release=release, environment=environment, requested_by=requested_by
        )
        superseded = list(waiting.exclude(pk=promotion.pk))
        for old in superseded:
            reason = f"{release.version} is newer and was asked for (promotion {promotion.pk})."
            _end(old, Status.SUPERSEDED, reason)
        decision = _judge(promotion)
        for old in superseded:
            _record(old, "promotion.superseded", data={"by": promotion.pk})
        _record(
            promotion,
            "promotion.requested",
            actor=requested_by,
            data={
                "environment": environment.slug,
                "release": release.version,
                "digest": release.digest,
                **({"automatic": True} if automatic else {}),
            },
        )
        _record_decision(promotion, decision)
    return promotion


def evaluate_promotion(*, promotion: Promotion) -> Decision:
    """Judge a pending promotion by the facts as they stand now.

    A Decision is written when facts, policy or verdict differ from the last one. One that is not pending
    any more keeps its last decision. ``promotion`` is brought up to date.
    """
    with transaction.atomic():
        current = _lock(promotion)
        before = current.decision
        if current.status != Status.PENDING and before is not None:
            decision = before
        else:
            decision = _judge(current)
            if decision != before:
                _record_decision(current, decision)
    promotion.status, promotion.decision = current.status, decision
    return decision


def evaluate_promotions(*, promotions: Collection[int]) -> list[int]:
    """Judge pending promotions again, all of them at once; the ids of those whose gate opens.

    Those are for ``start_promotion``, which judges each anew. What is not pending any more is left out, and
    so is what somebody else is writing to just now, who judges it as well.
    """
    with transaction.atomic():
        rows = Promotion.objects.pending().filter(pk__in=promotions)
        # Skipped, not waited for: to wait for one while others are held could be a deadlock.
        free = rows.select_for_update(no_key=True, of=("self",), skip_locked=True)
        current = list(_to_judge(free).order_by("pk"))
        before = [promotion.decision_id for promotion in current]
        decisions = _judge_all(current)
        record_all(
            [
                _act(promotion, "promotion.judged", data=_told(decision))
                for promotion, decision, last in zip(current, decisions, before, strict=True)
                if decision.pk != last
            ]
        )
    return [
        promotion.pk
        for promotion, decision in zip(current, decisions, strict=True)
        if decision.verdict in OPENS
    ]


def start_promotion(*, promotion: Promotion) -> bool:
    """Let a pending promotion through its gate, if the gate opens and the environment is free.

    The gate is judged here again, in the transaction that writes the deployment's intent. False when it
    stays pending or was not pending any more. Where the policy asks for an intact bundle, it stays pending
    until somebody has just looked at it (apps.promotions.bundles).
    """
    with transaction.atomic():
        # The lock keeps another worker from writing an intent for this environment meanwhile.
        environment = Environment.objects.select_for_update(no_key=True).get(pk=promotion.environment_id)
        current = _lock(promotion)
        if current.status != Status.PENDING:
            return False
        before = current.decision
        decision = _judge(current)
        free = not blocker(environment=environment, promotion=current)
        opens = decision.verdict in OPENS and free and not wants_look(current)
        if opens:
            deployment = Deployment.objects.create(environment=environment, release_id=current.release_id)
            _update(current, status=Status.DEPLOYING, deployment=deployment)
            promotion.status, promotion.deployment = current.status, deployment
        promotion.decision = decision
        if decision != before:
            _record_decision(current, decision)
        if opens:
            _record(
                current,
                "promotion.started",
                data={
                    "decision": decision.pk,
                    "verdict": decision.verdict,
                    "deployment": deployment.pk,
                    "intent": str(deployment.intent),
                },
            )
    return opens


def blocker(*, environment: Environment, promotion: Promotion) -> str:
    """Why a promotion cannot start in its environment now; empty when that is free."""
    under_way = Promotion.objects.under_way().filter(environment=environment).first()
    if under_way is not None:
        return f"promotion {under_way.pk} is {under_way.status} there"
    deployment = Deployment.objects.active().filter(environment=environment).first()
    if deployment is not None:
        return f"deployment {deployment} is {deployment.status} there"
    if promotion.rollback:
        return ""
    rollback = Promotion.objects.pending().rollbacks().filter(environment=environment).first()
    return f"promotion {rollback.pk}, a rollback, goes first" if rollback else ""


def approve_promotion(*, promotion: Promotion, user: User, comment: str = "") -> Approval:
    """Agree to a pending promotion, once, as an approver who did not ask for it; it is judged at once.

    Being a superuser is not enough: only those who hold the approver role count at the gate.
    """
    return _say(promotion, user, Approval.Verdict.APPROVED, comment)


def reject_promotion(*, promotion: Promotion, user: User, comment: str) -> Approval:
    """Refuse a pending promotion as an approver; that is its end."""
    return _say(promotion, user, Approval.Verdict.REJECTED, comment)


def withdraw_approval(*, promotion: Promotion, user: User, comment: str = "") -> Approval:
    """Take one's approval back, and be able to give it anew; what still waits is judged at once.

    A deployment that has begun goes on. What runs already is judged again, and shown if it would no longer
    pass. For approvers, since nobody else's word counts; raises DomainError where they gave none.
    """
    _require_approver(promotion, user)
    with transaction.atomic():
        current = _lock(promotion)
        given = Approval.objects.filter(
            promotion=current, user=user, verdict=Approval.Verdict.APPROVED, withdrawn_at=None
        ).first()
        if given is None:
            raise DomainError(f"{user.username} has not approved promotion {promotion.pk}.")
        given.withdrawn_at = timezone.now()
        given.save(update_fields=["withdrawn_at"])
        before = current.decision
        decision = _judge(current) if current.status == Status.PENDING else before
        _record(current, "promotion.approval_withdrawn", actor=user, data={"comment": comment})
        if decision is not None and decision != before:
            _record_decision(current, decision)
        transaction.on_commit(lambda: wake(Standing.objects.filter(environment=current.environment_id)))
    promotion.status, promotion.decision = current.status, decision
    return given


def judge_after(
    *,
    promotion: Promotion,
    actor: User,
    action: str,
    write: Callable[[Promotion], dict[str, Any]],
    only_pending: bool = True,
) -> None:
    """Write what somebody says about a promotion, judge it anew if it waits, and record both.

    ``write`` is given the locked row and returns what the ledger is told under ``action``. What waits and
    what runs there is looked at again once this is committed. Raises DomainError where it no longer waits,
    unless ``only_pending`` is False: then that keeps its last decision.
    """
    with transaction.atomic():
        current = _lock(promotion)
        if only_pending and current.status != Status.PENDING:
            raise _no_longer_pending(current)
        before = current.decision
        data = write(current)
        decision = _judge(current) if current.status == Status.PENDING else before
        _record(current, action, actor=actor, data=data)
        if decision is not None and decision != before:
            _record_decision(current, decision)

        def look_again() -> None:
            wake(Promotion.objects.filter(pk=current.pk))
            wake(Standing.objects.filter(environment=current.environment_id))

        transaction.on_commit(look_again)
    promotion.status, promotion.decision = current.status, decision


def cancel_promotion(*, promotion: Promotion, user: User, reason: str = "") -> None:
    """Take a pending promotion back, as its requester, a developer or an operator."""
    service = promotion.environment.service
    own = promotion.requested_by_id == user.pk and user.is_active and user.reaches(service.slug)
    if not own:
        require_role(user=user, service=service, roles=MOVERS)
    reason = f"Cancelled by {user.username}{': ' if reason else '.'}{reason}"
    with transaction.atomic():
        if not _end(promotion, Status.CANCELLED, reason):
            raise _no_longer_pending(promotion)
        _record(promotion, "promotion.cancelled", actor=user, data={"reason": reason})


def follow_deployment(deployment: Deployment) -> None:
    """Bring a deployment's promotion to where the deployment is; call it in the transaction that moved it.

    ``failed`` is the release's fault, ``errored`` ours or AWS's. A foreign deployment has no promotion; its
    end wakes what waits for the place.
    """
    rows = Promotion.objects.under_way().filter(deployment=deployment)
    promotion = rows.select_for_update(no_key=True, of=("self",)).first()
    if promotion is None:
        if deployment.origin != Deployment.Origin.LOCKKEEPER and deployment.status in Deployment.FINAL:
            place, brought = deployment.environment_id, deployment.release_id
            transaction.on_commit(lambda: _wake_after(place, brought))
        return
    status, reason = _outcome(deployment)
    if status is None or status == promotion.status:
        return
    if status == Status.VERIFYING:
        _update(promotion, status=status)
    else:
        _update(promotion, status=status, reason=reason, finished_at=timezone.now())
        environment_id, release_id = promotion.environment_id, promotion.release_id
        transaction.on_commit(lambda: _wake_after(environment_id, release_id))
    data = {"deployment": deployment.pk, "codedeploy_id": deployment.codedeploy_id, "reason": reason}
    _record(promotion, f"promotion.{status}", data=data)


def _outcome(deployment: Deployment) -> tuple[Promotion.Status | None, str]:
    if deployment.status == Deployment.Status.RUNNING:
        return (Status.VERIFYING if is_proving(deployment) else None), ""
    if deployment.status == Deployment.Status.SUCCEEDED:
        if hosts := unproved(deployment):
            return Status.FAILED, f"CodeDeploy calls it a success, but not for {', '.join(hosts)}."
        return Status.SUCCEEDED, ""
    if deployment.status == Deployment.Status.STOPPED:
        why = deployment.error_message or "somebody stopped it"
        return Status.ERRORED, f"Deployment {deployment} was stopped in CodeDeploy: {why}"
    if deployment.status == Deployment.Status.FAILED:
        failure = failure_of(deployment)
        return (Status.FAILED if failure.by_release else Status.ERRORED), failure.sentence
    return None, ""


def _wake_after(environment_id: int, release_id: int | None) -> None:
    """What waits for this end: the next one here, and this release further down."""
    here = Q(environment=environment_id)
    below = Q(release=release_id, environment__upstreams=environment_id)
    keys = list(Promotion.objects.pending().filter(here | below).values_list("pk", flat=True))
    wake(Promotion.objects.filter(pk__in=keys))


def _say(promotion: Promotion, user: User, verdict: Approval.Verdict, comment: str) -> Approval:
    _require_approver(promotion, user)
    if promotion.requested_by_id == user.pk:
        own = "be approved by" if verdict == Approval.Verdict.APPROVED else "be rejected by"
        raise Forbidden(f"Promotion {promotion.pk} cannot {own} {user.username}, who asked for it.")
    with transaction.atomic():
        current = _lock(promotion)
        if current.status != Status.PENDING:
            raise _no_longer_pending(current)
        if said := Approval.objects.filter(promotion=current, user=user, withdrawn_at=None).first():
            raise DomainError(f"{user.username} has {said.verdict} promotion {promotion.pk} already.")
        approval = Approval.objects.create(promotion=current, user=user, verdict=verdict, comment=comment)
        before = current.decision
        decision = _judge(current)
        if verdict == Approval.Verdict.REJECTED:
            reason = f"Rejected by {user.username}{': ' if comment else '.'}{comment}"
            _end(current, Status.REJECTED, reason)
        _record(current, f"promotion.{verdict}", actor=user, data={"comment": comment})
        if decision != before:
            _record_decision(current, decision)
        transaction.on_commit(lambda: wake(Promotion.objects.filter(pk=current.pk)))
    promotion.status, promotion.reason, promotion.decision = current.status, current.reason, decision
    return approval


def _require_approver(promotion: Promotion, user: User) -> None:
    require_held_role(user=user, service=promotion.environment.service, role=Role.APPROVER)


def _judge(promotion: Promotion) -> Decision:
    """The decision on a promotion whose row is locked: the last one, or a new one if anything changed."""
    (decision,) = _judge_all([promotion])
    return decision


def _judge_all(promotions: Sequence[Promotion]) -> list[Decision]:
    """The decision on each of these promotions, whose rows are locked; see ``_judge``."""
    environments = {promotion.environment_id for promotion in promotions}
    policies = {policy.environment_id: policy for policy in _newest_policies(environments=environments)}
    for environment in environments - policies.keys():
        # Without a policy the gate is shut, and the decision says so.
        policies[environment], _ = Policy.objects.get_or_create(
            environment_id=environment, version=1, defaults={"rules": []}
        )
    changed = []
    subjects = [Subject(each.release_id, each.environment_id, fact_of(each)) for each in promotions]
    gathered, at = gather_all(subjects), timezone.now()
    for promotion, facts in zip(promotions, gathered, strict=True):
        policy, last = policies[promotion.environment_id], promotion.decision
        verdict, findings = judge(rules=policy.rules_for(rollback=promotion.rollback), facts=facts, at=at)
        told = facts.to_json()
        if last and (last.policy_id, last.verdict, last.facts) == (policy.pk, verdict, told):
            last.policy = policy
            continue
        decision = Decision(
            policy=policy,
            environment=promotion.environment,
            release=promotion.release,
            facts=told,
            findings=[finding.to_json() for finding in findings],
            verdict=verdict,
            evaluated_at=at,
        )
        changed.append((promotion, decision))
    if changed:
        _write(changed, at)
    return [promotion.decision for promotion in promotions if promotion.decision]


def _write(decisions: Sequence[tuple[Promotion, Decision]], at: datetime) -> None:
    """Write new decisions, each as its promotion's last one."""
    Decision.objects.bulk_create(decision for _, decision in decisions)
    for promotion, decision in decisions:
        promotion.decision, promotion.updated_at = decision, at
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE promotions_promotion SET decision_id = judged.decision, updated_at = %s "
            "FROM unnest(%s::bigint[], %s::bigint[]) AS judged (promotion, decision) "
            "WHERE id = judged.promotion",
            [at, [promotion.pk for promotion, _ in decisions], [decision.pk for _, decision in decisions]],
        )


@compiled
def _newest_policies() -> QuerySet[Policy]:
    return Policy.objects.filter(Among("environment", "environments")).newest()


def _lock(promotion: Promotion) -> Promotion:
    """The promotion as it is now, locked for the rest of the transaction."""
    (current,) = _locked(promotions=[promotion.pk])
    return current


@compiled
def _locked() -> QuerySet[Promotion]:
    rows = Promotion.objects.select_for_update(no_key=True, of=("self",))
    return _to_judge(rows.filter(Among("pk", "promotions")))


def _to_judge(promotions: PromotionQuerySet) -> PromotionQuerySet:
    """With what judging and recording them needs."""
    related = promotions.select_related("environment__service", "release", "decision", "requested_by")
    return related.defer("release__manifest", "release__steps", "decision__findings")


def _update(promotion: Promotion, **values: object) -> None:
    for name, value in values.items():
        setattr(promotion, name, value)
    promotion.updated_at = timezone.now()
    promotion.save(update_fields=[*values, "updated_at"])


def _end(promotion: Promotion, status: Promotion.Status, reason: str) -> bool:
    """End a promotion that is still pending; False means it had moved on."""
    now = timezone.now()
    values = {"status": status, "reason": reason, "finished_at": now, "updated_at": now}
    ended = Promotion.objects.pending().filter(pk=promotion.pk).update(**values)
    promotion.refresh_from_db(fields=list(values))
    return bool(ended)


def _no_longer_pending(promotion: Promotion) -> DomainError:
    return DomainError(f"Promotion {promotion.pk} is {promotion.status}: it no longer waits at its gate.")


def _record_decision(promotion: Promotion, decision: Decision) -> None:
    _record(promotion, "promotion.judged", data=_told(decision))


def _told(decision: Decision) -> dict[str, Any]:
    """What the ledger says of a decision."""
    failing = sorted({finding["rule"] for finding in decision.findings if finding["verdict"] not in OPENS})
    return {
        "decision": decision.pk,
        "verdict": str(decision.verdict),
        "unmet": failing,
        "overridden": sorted(
            finding["rule"]
            for finding in decision.findings
            if finding["verdict"] == Verdict.OVERRIDDEN and finding["rule"] != OVERRIDE
        ),
        # So that a replay can prove that these were the facts, and this the policy.
        "policy": decision.policy_id,
        # What Facts.to_json writes is plain, and has no fractions; to make sure took as long as to hash it.
        "facts_sha256": digest_without_fractions(decision.facts),
    }


def _record(
    promotion: Promotion, action: str, *, actor: User | None = None, data: dict[str, Any] | None = None
) -> None:
    record_all([_act(promotion, action, actor=actor, data=data)])


def _act(
    promotion: Promotion, action: str, *, actor: User | None = None, data: dict[str, Any] | None = None
) -> Act:
    return Act(
        chain=promotion.environment.service.slug,
        action=action,
        subject=f"promotion:{promotion.pk}",
        actor=actor,
        data=data,
    )
