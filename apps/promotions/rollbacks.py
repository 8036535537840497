"""Bring an older release back: asked for by an operator, judged by the policy's rules for rollbacks."""

from collections.abc import Collection

from django.db import transaction
from django.db.models import Q

from apps.access.models import User
from apps.catalog.models import Environment
from apps.catalog.permissions import Role, require_role
from apps.deployments.models import Occupancy
from apps.errors import DomainError, Invalid
from apps.gates.starter import give_starter_rollback
from apps.promotions.models import Promotion, Veto
from apps.promotions.schema import brought_since, brought_since_all, contract_steps, steps_of, worst_way_to
from apps.promotions.services import (
    Status,
    _end,
    _judge,
    _record,
    _record_decision,
    evaluate_promotion,
)
from apps.releases.migration_source import Level
from apps.releases.models import Release

SHOWN = 3  # releases that a refusal names as a way out


def request_rollback(
    *,
    environment: Environment,
    requested_by: User,
    release: Release | None = None,
    comment: str = "",
    not_applied: Collection[str] = (),
) -> Promotion:
    """Ask for an older release to be brought back, and judge it at once by the rules for rollbacks.

    Without ``release`` it is the one that ran before what runs now and is not vetoed. Only operators may:
    these rules are meant to ask for less. ``not_applied`` names contract migrations that the requester has
    found not to be applied. What waits for the environment is superseded; whoever still wants it asks
    again. Asked again by the same person it is the same promotion.

    Raises DomainError, with nothing written, where there is nothing to go back to, and where the target
    could not run on the database any more; Invalid for a release that was never there or is newer.
    """
    service = environment.service
    require_role(user=requested_by, service=service, roles={Role.OPERATOR})
    with transaction.atomic():
        # One request per environment at a time: it looks at the others that wait there.
        Environment.objects.select_for_update(no_key=True).get(pk=environment.pk)
        current = _current(environment)
        target = _target(environment, current, release)
        _refuse_unless_it_runs(target, environment, not_applied)
        here = Promotion.objects.filter(environment=environment)
        open_ones = here.filter(Q(status=Status.PENDING, rollback=True) | Q(status__in=Promotion.UNDER_WAY))
        asked = open_ones.filter(release=target).select_related("requested_by").first()
        if asked is not None:
            same = asked.requested_by_id == requested_by.pk and asked.rollback
            if same and sorted(asked.not_applied) == sorted(not_applied):
                evaluate_promotion(promotion=asked)
                return asked
            raise DomainError(
                f"{asked.requested_by.username} has asked for {target.version} already: promotion {asked.pk} "
                f"is {asked.status}."
            )
        give_starter_rollback(environment=environment)
        superseded = list(here.pending().select_related("release"))
        for old in superseded:
            reason = (
                f"{requested_by.username} asked for {environment.slug} to go back to {target.version}. "
                f"Whoever still wants {old.release.version} there asks for it again."
            )
            _end(old, Status.SUPERSEDED, reason)
        promotion = Promotion.objects.create(
            release=target,
            environment=environment,
            requested_by=requested_by,
            rollback=True,
            comment=comment,
            not_applied=sorted(not_applied),
        )
        decision = _judge(promotion)
        for old in superseded:
            _record(old, "promotion.superseded", data={"by": promotion.pk})
        _record(
            promotion,
            "promotion.rollback_requested",
            actor=requested_by,
            data={
                "environment": environment.slug,
                "release": target.version,
                "digest": target.digest,
                "from": current.release.version if current and current.until is None else None,
                "comment": comment,
                "not_applied": sorted(not_applied),
            },
        )
        _record_decision(promotion, decision)
    return promotion


def _current(environment: Environment) -> Occupancy | None:
    """What runs there; what ran last, ended, where something else than a release has taken its place."""
    stays = Occupancy.objects.filter(environment=environment).select_related("release")
    return stays.defer("release__manifest", "release__steps").order_by("-since", "-id").first()


def _target(environment: Environment, current: Occupancy | None, wanted: Release | None) -> Release:
    service = environment.service
    if current is None:
        raise DomainError(f"Nothing has run in {environment.slug} yet, so there is nothing to go back to.")
    stays = Occupancy.objects.filter(environment=environment).select_related("release")
    if wanted is None:
        if current.until is not None:
            return current.release
        here = Q(environment=None) | Q(environment=environment)
        vetoed = Veto.objects.standing().filter(here).values("release")
        before = stays.filter(release__lt=current.release_id).exclude(release__in=vetoed)
        older = before.order_by("-since", "-id").first()
        if older is None:
            raise DomainError(
                f"No release older than {current.release.version} has run in {environment.slug} that is not "
                "vetoed, so there is nothing to go back to. Mend it by a newer one."
            )
        return older.release
    if wanted.service_id != environment.service_id:
        raise Invalid(f"Release {wanted.version} is not of {service.slug}.")
    if current.until is None and wanted.pk == current.release_id:
        raise DomainError(f"{wanted.version} runs in {environment.slug} already.")
    ask = f"manage.py promote {wanted.version} {environment.slug} --service {service.slug}"
    if wanted.pk > current.release_id:
        raise Invalid(
            f"{wanted.version} is newer than {current.release.version}, which runs in {environment.slug}: "
            f"that is no rollback. Ask for it by {ask}"
        )
    if not stays.filter(release=wanted).exists():
        raise Invalid(
            f"{wanted.version} has never run in {environment.slug}, so it cannot be gone back to. Ask for it "
            f"by {ask}"
        )
    return wanted


def _refuse_unless_it_runs(target: Release, environment: Environment, not_applied: Collection[str]) -> None:
    """Raise DomainError where the database has seen what the target cannot run with."""
    brought = brought_since(target.pk, environment_id=environment.pk)
    steps = steps_of({target.pk, *(each.release for each in brought if each.release)})
    contracts = contract_steps(target.pk, brought, steps)
    if unknown := sorted(set(not_applied) - set(contracts)):
        raise Invalid(
            f"{unknown[0]} is no contract migration that {environment.slug} has been given since "
            f"{target.version} was there. Known: {', '.join(sorted(contracts)) or 'none'}."
        )
    found = worst_way_to(target.pk, brought, steps, not_applied=not_applied)
    if found.way.level != Level.ONE_WAY:
        # What is not known is for the gate to say.
        return
    migration, operation = found.way.migration, found.way.operation
    sentence = (
        f"{target.version} cannot run on the database of {environment.slug} any more: {migration}, which "
        f"came with {found.after}, is one way ({operation})."
    )
    if migration in contracts:
        app, _, name = migration.partition(".")
        sentence += (
            f" It is a contract migration, which no deployment applies: if `manage.py showmigrations {app}` "
            f"on a host of {environment.slug} shows {name} without an X, ask again with --not-applied "
            f"{migration} (not_applied at the API)."
        )
    able = _able_to_run(target, environment)
    if able:
        sentence += f" {', '.join(able)} could still run there: name one of them. Otherwise"
    raise DomainError(f"{sentence} {'m' if able else 'M'}end it by a newer release.")


def _able_to_run(target: Release, environment: Environment) -> list[str]:
    """Versions between the target and what runs that the database would still bear, the newest first."""
    stays = Occupancy.objects.filter(environment=environment, release__gt=target.pk)
    current = Occupancy.objects.current().filter(environment=environment).values("release")
    been = stays.exclude(release__in=current).order_by("-release").distinct("release")
    versions = dict(been.values_list("release", "release__version"))
    since = brought_since_all([(environment.pk, pk) for pk in versions])
    given = {each.release for brought in since.values() for each in brought if each.release}
    steps = steps_of(given | versions.keys())
    ways = {pk: worst_way_to(pk, since[environment.pk, pk], steps).way for pk in versions}
    open_ = (Level.REVERSIBLE, Level.FORWARD_COMPATIBLE)
    return [version for pk, version in versions.items() if ways[pk].level in open_][:SHOWN]
