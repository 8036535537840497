"""The verbs of `systemctl`, with the texts and exit codes of the real one (systemd 252)."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Awaitable, Callable

from .cmdline import FILE_VERBS, Answer, UsageError, parse, run_on_files, unit_name
from .enablement import is_enabled
from .manager import Manager, NotFound, outcome
from .names import UnitName
from .process import processes_with, send_signal
from .service import ServiceUnit, journal_tail
from .unit import Unit
from .unitfile import UnitError

EXIT_NOT_FOUND = 5  # LSB "not installed": for start, stop and restart
EXIT_NOT_ACTIVE = 3
EXIT_NO_SUCH_UNIT = 4  # for status

_Verb = Callable[[Manager, argparse.Namespace, Answer], Awaitable[None] | None]


async def run(manager: Manager, argv: list[str]) -> Answer:
    """Do what a command line asks for."""
    answer = Answer()
    try:
        options = parse(argv)
        verb = VERBS.get(options.verb)
        if verb is None:
            raise UsageError(
                f"Unknown command verb {options.verb} (the sandbox knows {', '.join(sorted(VERBS))})."
            )
        if result := verb(manager, options, answer):
            await result
    except UsageError as error:
        answer.fail(str(error))
    return answer


async def _start(manager: Manager, options: argparse.Namespace, answer: Answer) -> None:
    names = _names(options)
    try:
        jobs = manager.start(names)
    except NotFound as error:
        answer.fail(f"Failed to start {_join(options)}: {error}", EXIT_NOT_FOUND)
        return
    except UnitError as error:
        answer.fail(f"Failed to start {_join(options)}: {error}")
        return
    if options.no_block:
        return
    await asyncio.wait(jobs.values())
    for name, job in jobs.items():
        _report_start(manager, name, outcome(job), answer)


def _report_start(manager: Manager, name: str, result: str, answer: Answer) -> None:
    if result == "done":
        return
    reasons = {
        "dependency": f"A dependency job for {name} failed. See 'journalctl -u {name}' for details.",
        "canceled": f"Job for {name} canceled.",
    }
    unit = manager.loaded(name)
    why = unit.result if unit else "unknown"
    answer.fail(reasons.get(result, f"Job for {name} failed: {why}. See 'journalctl -u {name}' for details."))
    if unit and result == "failed":
        answer.stderr += [f"  {line}" for line in journal_tail(unit.journal, 5).splitlines()]


async def _stop(manager: Manager, options: argparse.Namespace, answer: Answer) -> None:
    units = []
    for text in options.units:
        if _is_pattern(text):
            units += manager.matching(text)
            continue
        try:
            units.append(manager.load(unit_name(text)))
        except NotFound:
            answer.fail(
                f"Failed to stop {unit_name(text)}: Unit {unit_name(text)} not loaded.", EXIT_NOT_FOUND
            )
        except UnitError as error:
            answer.fail(f"Failed to stop {unit_name(text)}: {error}")
    _need_units(options)
    jobs, _ = manager.stop(units)
    if jobs and not options.no_block:
        await asyncio.wait(jobs.values())


async def _restart(manager: Manager, options: argparse.Namespace, answer: Answer) -> None:
    work = asyncio.create_task(manager.restart(_names(options)))
    if options.no_block:
        # Checked for what is wrong at once; the rest goes on without the client.
        await asyncio.wait({work}, timeout=0.05)
        if not work.done():
            return
    try:
        for name, result in (await work).items():
            _report_start(manager, name, result, answer)
    except NotFound as error:
        answer.fail(f"Failed to restart {_join(options)}: {error}", EXIT_NOT_FOUND)
    except UnitError as error:
        answer.fail(f"Failed to restart {_join(options)}: {error}")


async def _try_restart(manager: Manager, options: argparse.Namespace, answer: Answer) -> None:
    options.units = [text for text in options.units if _active(manager, text) == "active"]
    if options.units:
        await _restart(manager, options, answer)


def _files(manager: Manager, options: argparse.Namespace, answer: Answer) -> Awaitable[None] | None:
    _need_units(options)
    run_on_files(manager.layout, options, answer)
    if options.now and not answer.code and options.verb in {"enable", "disable"}:
        return (_start if options.verb == "enable" else _stop)(manager, options, answer)
    return None


def _is_active(manager: Manager, options: argparse.Namespace, answer: Answer) -> None:
    states = _states(manager, options)
    answer.stdout += [] if options.quiet else states
    answer.code = 0 if "active" in states else EXIT_NOT_ACTIVE


def _is_failed(manager: Manager, options: argparse.Namespace, answer: Answer) -> None:
    states = _states(manager, options)
    answer.stdout += [] if options.quiet else states
    answer.code = 0 if "failed" in states else 1


def _show(manager: Manager, options: argparse.Namespace, answer: Answer) -> None:
    wanted = [name for group in options.property for name in group.split(",")]
    for position, text in enumerate(options.units):
        units: list[Unit | str] = [*manager.matching(text)] if _is_pattern(text) else [str(unit_name(text))]
        for unit in units:
            properties = _properties(manager, unit if isinstance(unit, str) else unit.id)
            if position:
                answer.stdout.append("")
            for key in wanted or properties:
                if key in properties:
                    answer.stdout.append(properties[key] if options.value else f"{key}={properties[key]}")


def _status(manager: Manager, options: argparse.Namespace, answer: Answer) -> None:
    for text in options.units:
        properties = _properties(manager, str(unit_name(text)))
        name = properties["Id"]
        if properties["LoadState"] == "not-found":
            answer.fail(f"Unit {name} could not be found.", EXIT_NO_SUCH_UNIT)
            continue
        unit = manager.loaded(name)
        answer.stdout += [
            f"● {name} - {properties['Description']}",
            f"     Loaded: {properties['LoadState']} ({properties['FragmentPath']})",
            f"     Active: {properties['ActiveState']} ({properties['SubState']})",
        ]
        if properties.get("MainPID", "0") != "0":
            answer.stdout.append(f"   Main PID: {properties['MainPID']}")
        if unit:
            answer.stdout += ["", *journal_tail(unit.journal, options.lines).splitlines()]
        if properties["ActiveState"] != "active":
            answer.code = answer.code or EXIT_NOT_ACTIVE


def _list_units(manager: Manager, options: argparse.Namespace, answer: Answer) -> None:
    states = {state for group in options.state for state in group.split(",")} | (
        {"failed"} if options.failed else set()
    )
    types = {kind for group in options.type for kind in group.split(",")}
    found = {}
    for unit in manager.in_use():
        hidden = unit.active == "inactive" and not unit.job and not options.all and not states
        if hidden or (types and unit.name.suffix not in types):
            continue
        if states and not states & {unit.active, unit.sub, "loaded"}:
            continue
        if not options.units or any(unit in manager.matching(pattern) for pattern in options.units):
            found[unit.id] = unit
    rows = [[unit.id, "loaded", unit.active, unit.sub, unit.description] for _, unit in sorted(found.items())]
    legend = not options.no_legend and options.legend in {"true", "yes"}
    table = [["UNIT", "LOAD", "ACTIVE", "SUB", "DESCRIPTION"], *rows] if legend and rows else rows
    widths = [max((len(row[column]) for row in table), default=0) for column in range(4)]
    for row in table:
        mark = "" if options.plain else ("● " if row[2] == "failed" else "  ")
        cells = [cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)]
        answer.stdout.append(mark + " ".join([*cells, row[4]]))
    if legend:
        answer.stdout += ["", f"{len(rows)} loaded units listed."]


def _reset_failed(manager: Manager, options: argparse.Namespace, answer: Answer) -> None:
    for text in options.units or ["*"]:
        if _is_pattern(text):
            for unit in manager.matching(text):
                unit.reset_failed()
            continue
        name = str(unit_name(text))
        found = next((unit for unit in manager.in_use() if unit.id == name), None)
        if found is None:
            answer.fail(f"Failed to reset failed state of unit {name}: Unit {name} not loaded.")
        else:
            found.reset_failed()


def _kill(manager: Manager, options: argparse.Namespace, answer: Answer) -> None:
    try:
        name = options.signal.upper()
        number = (
            int(name) if name.isdigit() else signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
        )
    except KeyError:
        raise UsageError(f"Failed to parse signal string {options.signal}.") from None
    _need_units(options)
    for text in options.units:
        unit = manager.loaded(str(unit_name(text)))
        if not isinstance(unit, ServiceUnit) or unit.active == "inactive":
            answer.fail(f"Failed to kill unit {unit_name(text)}: Unit {unit_name(text)} not loaded.")
        elif options.kill_whom == "main" and not unit.main_pid:
            # To signal 0 would be to signal this process's own group.
            answer.fail(f"Failed to kill unit {unit_name(text)}: No main process to kill")
        elif options.kill_whom == "main":
            send_signal(unit.main_pid, number)
        else:
            for pid in processes_with("INVOCATION_ID", unit.invocation):
                send_signal(pid, number)


def _daemon_reload(manager: Manager, options: argparse.Namespace, answer: Answer) -> None:
    for problem in manager.reload():
        answer.stderr.append(problem)


def _is_system_running(manager: Manager, options: argparse.Namespace, answer: Answer) -> None:
    state = "degraded" if any(unit.active == "failed" for unit in manager.in_use()) else "running"
    answer.stdout.append(state)
    answer.code = 0 if state == "running" else 1


VERBS: dict[str, _Verb] = {
    "start": _start,
    "stop": _stop,
    "restart": _restart,
    "try-restart": _try_restart,
    "is-active": _is_active,
    "is-failed": _is_failed,
    "is-system-running": _is_system_running,
    "show": _show,
    "status": _status,
    "list-units": _list_units,
    "reset-failed": _reset_failed,
    "kill": _kill,
    "daemon-reload": _daemon_reload,
    **dict.fromkeys(FILE_VERBS, _files),
}


def _names(options: argparse.Namespace) -> list[UnitName]:
    _need_units(options)
    return [unit_name(text) for text in options.units]


def _need_units(options: argparse.Namespace) -> None:
    if not options.units:
        raise UsageError("Too few arguments.")


def _join(options: argparse.Namespace) -> str:
    return ", ".join(str(unit_name(text)) for text in options.units)


def _is_pattern(text: str) -> bool:
    return any(char in text for char in "*?[")


def _active(manager: Manager, text: str) -> str:
    unit = manager.loaded(str(unit_name(text)))
    return unit.active if unit else "inactive"


def _states(manager: Manager, options: argparse.Namespace) -> list[str]:
    _need_units(options)
    states = []
    for text in options.units:
        matches = manager.matching(text) if _is_pattern(text) else []
        states += [unit.active for unit in matches] if _is_pattern(text) else [_active(manager, text)]
    return states or ["inactive"]


def _properties(manager: Manager, name: str) -> dict[str, str]:
    try:
        unit = manager.load(unit_name(name))
        return unit.properties() | {"UnitFileState": is_enabled(manager.layout, unit.name)}
    except (NotFound, UnitError) as error:
        state = "not-found" if isinstance(error, NotFound) else "bad-setting"
        return {
            "Id": name,
            "Names": name,
            "Description": name,
            "LoadState": state,
            "LoadError": str(error),
            "ActiveState": "inactive",
            "SubState": "dead",
            "Result": "success",
            "MainPID": "0",
            "NRestarts": "0",
            "FragmentPath": "",
            "UnitFileState": "",
        }
