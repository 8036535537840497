"""Say when an environment may be deployed to: add, change and remove its windows, as an operator."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction

from apps.access.models import User
from apps.catalog.models import Environment
from apps.catalog.permissions import Role, require_role
from apps.errors import DomainError, Invalid
from apps.gates.windows import check_window, clean_rrule
from apps.leases import wake
from apps.ledger.services import record
from apps.promotions.models import Promotion, Window

# What of a window may be changed.
FIELDS = ("kind", "name", "starts_at", "timezone", "minutes", "rrule")
# Each is judged whenever a promotion to its environment is.
MOST = 50


def add_window(
    *,
    environment: Environment,
    kind: str,
    name: str,
    starts_at: str,
    timezone: str,
    minutes: int,
    rrule: str = "",
    by: User,
) -> Window:
    """Give an environment one more window; what waits for it is judged again.

    Raises Invalid for what cannot be read, and for a rule that never comes true.
    """
    require_role(user=by, service=environment.service, roles=[Role.OPERATOR])
    window = Window(
        environment=environment,
        kind=kind,
        name=name,
        starts_at=starts_at,
        timezone=timezone,
        minutes=minutes,
        rrule=rrule,
    )
    with transaction.atomic():
        # The lock also keeps a gate from being passed between this look and the new window.
        Environment.objects.select_for_update(no_key=True).get(pk=environment.pk)
        if environment.windows.count() >= MOST:
            raise DomainError(f"{environment.slug} has {MOST} windows, which is the most: remove one first.")
        _save(window, "window.added", by)
    return window


def change_window(*, window: Window, by: User, **values: str | int) -> Window:
    """Change some of a window's fields (FIELDS); what waits for its environment is judged again.

    Nothing is written where nothing differs. Raises Invalid as add_window does.
    """
    require_role(user=by, service=window.environment.service, roles=[Role.OPERATOR])
    if unknown := values.keys() - set(FIELDS):
        raise Invalid(f"A window has no {', '.join(sorted(unknown))}. It has: {', '.join(FIELDS)}.")
    with transaction.atomic():
        Environment.objects.select_for_update(no_key=True).get(pk=window.environment_id)
        current = _lock(window)
        before = {name: getattr(current, name) for name in FIELDS}
        for name, value in values.items():
            setattr(current, name, value)
        _clean(current)
        if {name: getattr(current, name) for name in FIELDS} != before:
            _save(current, "window.changed", by)
    return current


def remove_window(*, window: Window, by: User) -> None:
    """Take a window away; what waits for its environment is judged again. The ledger keeps what it was."""
    require_role(user=by, service=window.environment.service, roles=[Role.OPERATOR])
    with transaction.atomic():
        Environment.objects.select_for_update(no_key=True).get(pk=window.environment_id)
        current = _lock(window)
        Window.objects.filter(pk=window.pk).delete()
        _record(current, "window.removed", by)


def set_windows(*, environment: Environment, windows: Sequence[Mapping[str, Any]]) -> bool:
    """Bring an environment's windows to exactly these, each with FIELDS; whether anything was changed.

    Those of a known name are changed, others added, and what is not among them is removed. For whoever sets
    services up, who is nobody's operator: the ledger names no one. Raises Invalid as add_window does, with
    the window's name.
    """
    wanted = _wanted(environment, windows)
    differs = False
    with transaction.atomic():
        Environment.objects.select_for_update(no_key=True).get(pk=environment.pk)
        rows = environment.windows.select_for_update(of=("self",)).select_related("environment__service")
        known = {window.name: window for window in rows}
        for window in known.values():
            if window.name not in wanted:
                Window.objects.filter(pk=window.pk).delete()
                _record(window, "window.removed", None)
                differs = True
        for window in wanted.values():
            current = known.get(window.name)
            if current is None:
                _save(window, "window.added", None)
            elif any(getattr(current, name) != getattr(window, name) for name in FIELDS):
                window.pk = current.pk
                _save(window, "window.changed", None)
            else:
                continue
            differs = True
    return differs


def _wanted(environment: Environment, windows: Sequence[Mapping[str, Any]]) -> dict[str, Window]:
    wanted: dict[str, Window] = {}
    for values in windows:
        window = Window(environment=environment, **values)
        try:
            _clean(window)
        except Invalid as error:
            raise Invalid(f"The window {window.name!r}: {error}") from error
        if window.name in wanted:
            raise Invalid(f"The window {window.name!r} is there twice.")
        wanted[window.name] = window
    if len(wanted) > MOST:
        raise Invalid(f"An environment has at most {MOST} windows, not {len(wanted)}.")
    return wanted


def _lock(window: Window) -> Window:
    rows = Window.objects.select_for_update(of=("self",)).select_related("environment__service")
    current = rows.filter(pk=window.pk).first()
    if current is None:
        raise DomainError(f"The window {window.name} was removed meanwhile.")
    return current


def _clean(window: Window) -> None:
    """Bring a window into the form in which it is kept; Invalid, naming the field, if it has none."""
    window.name = " ".join(window.name.split())
    window.rrule = clean_rrule(window.rrule)
    if not window.name or len(window.name) > 60:
        raise Invalid("name must have from 1 to 60 characters.")
    check_window(window.fact())


def _save(window: Window, action: str, by: User | None) -> None:
    _clean(window)
    namesakes = Window.objects.filter(environment=window.environment_id, name=window.name)
    if namesakes.exclude(pk=window.pk).exists():
        raise DomainError(f"{window.environment.slug} has a window called {window.name} already.")
    window.save()
    _record(window, action, by)


def _record(window: Window, action: str, by: User | None) -> None:
    environment = window.environment
    record(
        chain=environment.service.slug,
        action=action,
        subject=f"window:{window.pk}",
        actor=by,
        data={"environment": environment.slug, **{name: getattr(window, name) for name in FIELDS}},
    )
    waiting = Promotion.objects.pending().filter(environment=environment)
    transaction.on_commit(lambda: wake(waiting))
