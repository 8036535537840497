"""What judging promotions costs: in SQL, in time, a thousand at once, and while 200 clients wait for them.

1,000 reports of 10,000 cases, 10,000 promotions of which 1,000 wait, in 1,000 environments (bench/_world.py).

- SQL of one evaluation: the time in all queries of promotions.facts.gather against one hand-written
  statement, in turns, on the same promotions. The statement reads the same, which is checked on each: its
  JSON is made into Facts and compared. First failures and migrations, which a process reads once, are
  forgotten before each. Neither reads how the tests of both builds ended, which a process
  compares once for builds that have been read (promotions.comparing) and did before. A second ratio is of
  PostgreSQL's CPU, which other programs on the machine disturb less: each query more is one wait more for a
  core.
- One evaluation: evaluate_promotion, as the API calls it, right after the policy changed (a new Decision and
  an entry in the ledger each) and with nothing changed. The figure is the worse of the two.
- All at once: from a changed policy in each environment to a new Decision on each of the 1,000, by one
  reconciler and by two side by side; and once with nothing known, when it also compares the tests of 900
  pairs of builds.
- Polling: 200 clients ask for a promotion each every 5 s, with its ETag, of gunicorn as on a host.
  CPU of gunicorn and of PostgreSQL's sessions, in percent of one core.
"""

import argparse
import gc
import json
import multiprocessing
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bench import _django

_django.set_up()

from django.db import connection, connections

from apps.access.models import User
from apps.access.services import create_token
from apps.catalog.models import Environment
from apps.gates.facts import Facts, HealthFact, StayFact
from apps.promotions.facts import gather
from apps.promotions.failing import FAILURES_TOLD, MESSAGE_TOLD, remembered_failures
from apps.promotions.health import health_of, stays_of
from apps.promotions.models import Promotion, PromotionQuerySet
from apps.promotions.reconcile import Reconciler
from apps.promotions.schema import remembered_steps
from apps.promotions.services import evaluate_promotion
from bench import _processor, _world

SIZE = _world.Size(services=100, builds=10, cases=10_000, environments=10)
SAMPLE = 120  # promotions
CLIENTS, EVERY_S = 200, 5.0
# What gather reads, for one promotion, as somebody who knows the tables would write it.
REPORTS = """
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'id', id, 'name', name, 'type', type, 'status', status, 'problem', problem,
            'complete', parsed IS NOT NULL AND problem = '', 'duration_ns', duration_ns,
            'pruned_at', pruned_at,
            'asserted_by', coalesce((SELECT username FROM access_user WHERE id = asserted_by_id), ''),
            'declared', declared, 'returned', returned, 'parsed', parsed, 'passed', passed, 'failed', failed,
            'errors', errors, 'skipped', skipped, 'unknown', unknown, 'lines_covered', lines_covered,
            'lines_total', lines_total
        ) ORDER BY name), '[]') FROM builds_report WHERE build_id = """
# As apps.deployments.models has it: what changed something on a host, or may have.
REACHED = """
            it.status NOT IN ('intended', 'requested') AND (
                EXISTS (SELECT FROM deployments_target
                        WHERE deployment_id = it.id AND status NOT IN ('Pending', 'Skipped'))
                OR it.started_at IS NOT NULL
                AND NOT EXISTS (SELECT FROM deployments_target WHERE deployment_id = it.id)
            )"""
HOSTS = "(SELECT coalesce(jsonb_agg(status), '[]') FROM deployments_target WHERE deployment_id = it.id)"
# Made into a HealthFact by health_of, as is what gather reads.
LAST = f"""(
        SELECT jsonb_build_object(
            'id', it.id, 'intent', it.intent, 'codedeploy_id', it.codedeploy_id, 'status', it.status,
            'release', it.release_id, 'since', coalesce(it.finished_at, it.started_at, it.created_at),
            'version', (SELECT version FROM releases_release WHERE id = it.release_id), 'hosts', {HOSTS}
        )
        FROM deployments_deployment it WHERE {REACHED} AND NOT (
            it.origin = 'auto_scaling' AND it.status = 'succeeded' AND it.release_id IS NOT DISTINCT FROM (
                SELECT release_id FROM deployments_occupancy
                WHERE environment_id = it.environment_id AND until IS NULL
            ) AND NOT EXISTS (
                SELECT FROM deployments_target WHERE deployment_id = it.id AND status <> 'Succeeded'
            )
        ) AND it.environment_id = """
LAST_FIRST = "ORDER BY it.finished_at DESC NULLS FIRST, it.id DESC LIMIT 1)"
STATEMENT = f"""
SELECT jsonb_build_object(
    'service', service.slug,
    'environment', environment.slug,
    'release_id', release.id,
    'release_version', release.version,
    'release_digest', release.digest,
    'upstream_mode', environment.upstream_mode,
    'build', jsonb_build_object(
        'id', build.id, 'codebuild_id', build.codebuild_id, 'status', build.status, 'deviations', build.deviations,
        'registered_at', build.created_at, 'finished_at', build.finished_at, 'collected_at', build.collected_at,
        'problem', build.problem, 'log_url', build.log_url
    ),
    'steps', release.steps,
    'bundle', (
        SELECT jsonb_build_object(
            'checked_at', since, 'problem', problem, 'failing_since', failing_since, 'failure', failure
        ) FROM releases_bundlelook WHERE release_id = release.id
    ),
    'last', {LAST} environment.id {LAST_FIRST},
    'promotion', jsonb_build_object(
        'id', promotion.id, 'requested_at', promotion.created_at, 'rollback', promotion.rollback,
        'not_applied', promotion.not_applied,
        'requested_by', jsonb_build_object('id', asker.id, 'username', asker.username)
    ),
    'reports', ({REPORTS} build.id),
    'running', (
        SELECT jsonb_build_object(
            'release_id', there.id, 'version', there.version, 'digest', there.digest, 'since', since,
            'reports', ({REPORTS} there.build_id), 'steps', there.steps
        )
        FROM deployments_occupancy occupancy JOIN releases_release there ON there.id = occupancy.release_id
        WHERE occupancy.environment_id = environment.id AND until IS NULL
    ),
    'in_vain', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'deployment', newest.id, 'codedeploy_id', codedeploy_id, 'release', release_id,
            'version', (SELECT version FROM releases_release WHERE id = newest.release_id),
            'steps', (SELECT steps FROM releases_release WHERE id = newest.release_id)
        ) ORDER BY newest.id), '[]') FROM (
            SELECT DISTINCT ON (release_id) id, codedeploy_id, release_id FROM deployments_deployment
            WHERE environment_id = environment.id AND codedeploy_id IS NOT NULL
            AND (release_id IS NULL OR status <> 'succeeded') AND id > coalesce((
                SELECT deployment_id FROM deployments_occupancy WHERE environment_id = environment.id
                ORDER BY since DESC, id DESC LIMIT 1
            ), 0)
            ORDER BY release_id, id DESC
        ) newest
    ),
    'windows', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'id', id, 'name', name, 'kind', kind, 'starts_at', starts_at, 'minutes', minutes,
            'timezone', timezone, 'rrule', rrule
        ) ORDER BY id), '[]') FROM promotions_window WHERE environment_id = environment.id
    ),
    'pin', (
        SELECT jsonb_build_object(
            'id', pin.id, 'release_id', held.id, 'version', held.version, 'reason', pin.reason,
            'by', jsonb_build_object('id', holder.id, 'username', holder.username), 'at', pin.created_at,
            'expires_at', pin.expires_at
        )
        FROM promotions_pin pin JOIN releases_release held ON held.id = pin.release_id
        JOIN access_user holder ON holder.id = pin.by_id
        WHERE pin.environment_id = environment.id AND pin.lifted_at IS NULL
    ),
    'vetoes', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'id', veto.id, 'reason', veto.reason, 'at', veto.created_at,
            'environment', CASE WHEN veto.environment_id IS NULL THEN '' ELSE environment.slug END,
            'by', jsonb_build_object('id', objector.id, 'username', objector.username)
        ) ORDER BY veto.id), '[]')
        FROM promotions_veto veto JOIN access_user objector ON objector.id = veto.by_id
        WHERE veto.release_id = release.id AND veto.lifted_at IS NULL
        AND (veto.environment_id IS NULL OR veto.environment_id = environment.id)
    ),
    'superseded_by', (
        SELECT jsonb_build_object('release_id', newer.id, 'version', newer.version, 'promotion_id', coming)
        FROM (
            SELECT release_id, id AS coming FROM promotions_promotion
            WHERE environment_id = environment.id AND status IN ('pending', 'deploying', 'verifying')
            UNION ALL
            SELECT release_id, NULL FROM deployments_occupancy
            WHERE environment_id = environment.id AND until IS NULL
        ) after JOIN releases_release newer ON newer.id = after.release_id
        WHERE newer.id > release.id ORDER BY newer.id DESC, coming DESC LIMIT 1
    ),
    'failures', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'report', first.report, 'status', first.status, 'message', left(first.message, {MESSAGE_TOLD}),
            'name', CASE class_name WHEN '' THEN "case".name ELSE class_name || '::' || "case".name END
        ) ORDER BY first.report, first.id), '[]') FROM (
            SELECT report.name AS report, result.id, result.status, message, case_id
            FROM builds_report report CROSS JOIN LATERAL (
                SELECT id, status, message, case_id FROM builds_testresult
                WHERE report_id = report.id AND status IN ('FAILED', 'ERROR') ORDER BY id LIMIT {FAILURES_TOLD}
            ) result
            WHERE report.build_id = build.id ORDER BY report.name, result.id LIMIT {FAILURES_TOLD}
        ) first JOIN builds_testcase "case" ON "case".id = first.case_id
    ),
    'quarantines', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'id', quarantine.id, 'report', report.name, 'reason', reason, 'at', quarantine.created_at,
            'until', quarantine.until, 'by', jsonb_build_object('id', keeper.id, 'username', keeper.username),
            'name', CASE class_name WHEN '' THEN "case".name ELSE class_name || '::' || "case".name END
        ) ORDER BY quarantine.id, report.name), '[]')
        FROM builds_report report JOIN builds_testresult result ON result.report_id = report.id
        JOIN builds_quarantine quarantine ON quarantine.case_id = result.case_id
        JOIN builds_testcase "case" ON "case".id = result.case_id
        JOIN access_user keeper ON keeper.id = quarantine.by_id
        WHERE report.build_id = build.id AND result.status IN ('FAILED', 'ERROR')
        AND quarantine.lifted_at IS NULL AND quarantine.until > now()
    ),
    'overrides', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'id', override.id, 'rules', rules, 'justification', justification, 'at', override.created_at,
            'expires_at', expires_at, 'by', jsonb_build_object('id', first.id, 'username', first.username),
            'seconded_by', CASE WHEN second.id IS NOT NULL THEN
                jsonb_build_object('id', second.id, 'username', second.username) END,
            'counts', EXISTS (
                SELECT FROM catalog_membership role JOIN access_user member ON member.id = role.user_id
                WHERE role.service_id = service.id AND role.role = 'operator' AND member.is_active
                AND member.id = first.id
            ) AND (second.id IS NULL OR EXISTS (
                SELECT FROM catalog_membership role JOIN access_user member ON member.id = role.user_id
                WHERE role.service_id = service.id AND role.role = 'operator' AND member.is_active
                AND member.id = second.id
            ))
        ) ORDER BY override.id), '[]')
        FROM promotions_override override JOIN access_user first ON first.id = override.by_id
        LEFT JOIN access_user second ON second.id = override.seconded_by_id
        WHERE override.promotion_id = promotion.id AND override.withdrawn_at IS NULL
    ),
    'upstreams', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'id', source.id, 'slug', source.slug, 'promotion_id', coming.id, 'promotion_at', coming.created_at,
            'been', (
                SELECT coalesce(jsonb_agg(jsonb_build_object(
                    'deployment_id', stay.deployment_id, 'since', stay.since, 'until', stay.until, 'incidents', (
                        SELECT coalesce(jsonb_agg(jsonb_build_object(
                            'begin', coalesce(it.started_at, it.created_at), 'end', it.finished_at,
                            'status', it.status, 'origin', it.origin, 'release', it.release_id, 'hosts', {HOSTS}
                        ) ORDER BY coalesce(it.started_at, it.created_at), it.id), '[]')
                        FROM deployments_deployment it
                        WHERE it.environment_id = stay.environment_id AND it.id <> stay.deployment_id
                        AND (it.finished_at > stay.since AND it.finished_at <= coalesce(stay.until, 'infinity')
                             OR it.finished_at IS NULL)
                        AND coalesce(it.started_at, it.created_at) < coalesce(stay.until, 'infinity') AND {REACHED}
                    )
                ) ORDER BY stay.since, stay.id), '[]') FROM deployments_occupancy stay
                WHERE stay.environment_id = source.id AND stay.release_id = release.id
            ),
            'last', {LAST} source.id {LAST_FIRST},
            'runs', (SELECT release_id FROM deployments_occupancy WHERE environment_id = source.id AND until IS NULL),
            'created_at', source.created_at
        ) ORDER BY source.position, source.slug), '[]')
        FROM catalog_upstream edge JOIN catalog_environment source ON source.id = edge.source_id
        LEFT JOIN LATERAL (
            SELECT id, created_at FROM promotions_promotion
            WHERE environment_id = source.id AND release_id = release.id
            AND status IN ('pending', 'deploying', 'verifying') ORDER BY id DESC LIMIT 1
        ) coming ON true
        WHERE edge.environment_id = environment.id
    ),
    'approvers', able.people,
    'approvals', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'approved', approval.verdict = 'approved', 'at', approval.created_at, 'counts', person IS NOT NULL,
            'user', coalesce(person, jsonb_build_object('id', giver.id, 'username', giver.username))
        ) ORDER BY approval.id), '[]')
        FROM promotions_approval approval JOIN access_user giver ON giver.id = approval.user_id
        LEFT JOIN jsonb_array_elements(able.people) person ON (person ->> 'id')::bigint = giver.id
        WHERE approval.promotion_id = promotion.id AND approval.withdrawn_at IS NULL
    )
)
FROM promotions_promotion promotion
JOIN access_user asker ON asker.id = promotion.requested_by_id
JOIN catalog_environment environment ON environment.id = promotion.environment_id
JOIN releases_release release ON release.id = promotion.release_id
JOIN builds_build build ON build.id = release.build_id
JOIN catalog_service service ON service.id = release.service_id
CROSS JOIN LATERAL (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'id', member.id, 'username', member.username, 'groups', (
            SELECT coalesce(jsonb_agg(named.name ORDER BY named.name), '[]')
            FROM catalog_approvergroup named
            JOIN catalog_approvergroup_members belongs ON belongs.approvergroup_id = named.id
            WHERE named.service_id = service.id AND belongs.user_id = member.id
        )
    ) ORDER BY member.username), '[]') AS people
    FROM catalog_membership role JOIN access_user member ON member.id = role.user_id
    WHERE role.service_id = service.id AND role.role = 'approver' AND member.is_active
) able
WHERE promotion.id = %s
"""  # noqa: E501  # as SQL is read best


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench gate", description=__doc__)
    parser.add_argument("--poll-seconds", type=float, default=30.0, help="of polling; 30 unless given")
    options = parser.parse_args()
    began = time.perf_counter()
    _world.fill(SIZE)
    print(f"made the data in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    reconciler = Reconciler()
    # As a server and the reconciler do when they start.
    gc.collect()
    gc.freeze()
    figures = {
        "judge_1000_anew_s": round(judge_all(reconciler)[0], 2),
        **sql_of_one(),
        **one_evaluation(),
        **all_at_once(reconciler),
        **polling(options.poll_seconds),
    }
    for name, value in figures.items():
        print(f"{name:<36}{value:>12}")
    print(json.dumps({"bench": "gate", **figures}))
    return 0


def waiting(number: int) -> list[Promotion]:
    """Some of those that wait, as the API loads them."""
    keys = pending()
    return list(as_loaded().filter(pk__in=random.Random(1).sample(keys, min(number, len(keys)))))


def pending() -> list[int]:
    return list(Promotion.objects.pending().values_list("pk", flat=True))


def as_loaded() -> PromotionQuerySet:
    return Promotion.objects.pending().select_related(
        "environment__service", "release", "decision", "requested_by"
    )


@contextmanager
def sql_time() -> Iterator[list[float]]:
    """The seconds of each statement in the block, as the client waits for its rows."""
    times: list[float] = []

    def timed(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        began = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            times.append(time.perf_counter() - began)

    with connection.execute_wrapper(timed):
        yield times


def sql_of_one() -> dict[str, float]:
    ours, theirs, queries = [], [], 0
    for number, promotion in enumerate(waiting(SAMPLE)):
        forget_what_the_statement_reads()
        with sql_time() as times:
            facts = gather(release=promotion.release, environment=promotion.environment, promotion=promotion)
        queries = len(times)
        with sql_time() as one, connection.cursor() as cursor:
            cursor.execute(STATEMENT, [promotion.pk])
            (told,) = cursor.fetchone()
        said = made_into_facts(json.loads(told), promotion)
        for name, value in vars(replace(facts, comparisons=None)).items():
            assert getattr(said, name) == value, f"the statement reads other {name}"
        if number >= 20:  # the first ones warm the caches
            ours.append(sum(times))
            theirs.append(sum(one))
    ratio = statistics.median(ours) / statistics.median(theirs)
    some = waiting(SAMPLE)

    def gather_some() -> None:
        for each in some:
            forget_what_the_statement_reads()
            gather(release=each.release, environment=each.environment, promotion=each)

    def ask_some() -> None:
        with connection.cursor() as cursor:
            for each in some:
                cursor.execute(STATEMENT, [each.pk])
                cursor.fetchone()

    cpu = database_cpu(gather_some) / database_cpu(ask_some)
    return {
        "queries_of_one_evaluation": queries,
        "sql_ms_of_one_evaluation": round(statistics.median(ours) * 1000, 2),
        "sql_ms_of_one_statement": round(statistics.median(theirs) * 1000, 2),
        "sql_ratio_to_one_statement": round(ratio, 2),
        "sql_cpu_ratio_to_one_statement": round(cpu, 2),
    }


def forget_what_the_statement_reads() -> None:
    """As of releases that this process has never judged."""
    remembered_failures.forget()
    remembered_steps.forget()


def made_into_facts(told: dict[str, Any], promotion: Promotion) -> Facts:
    """What the statement reads as Facts, made by the same functions where it reads what they are made of."""
    release, environment = promotion.release, promotion.environment
    runs = told["running"]
    told["health"] = plain(health(environment.created_at, told.pop("last"), runs and runs["release_id"]))
    # All releases of the world have the same migrations, so the way is open in both directions.
    assert told.pop("steps") == (runs.pop("steps") if runs else release.steps)
    assert all(each["steps"] == release.steps for each in told.pop("in_vain"))
    way = {
        "level": "reversible",
        "migration": "",
        "operation": "",
        "running": runs["version"] if runs else "",
    }
    told["way_back"] = told["schema"] = way
    for upstream in told["upstreams"]:
        been = [
            SimpleNamespace(
                release_id=release.pk,
                since=datetime.fromisoformat(each["since"]),
                until=each["until"] and datetime.fromisoformat(each["until"]),
                incidents=each["incidents"],
            )
            for each in upstream["been"]
        ]
        upstream["stays"] = [plain(stay) for stay in stays_of(been)]
        last = (upstream.pop("been") or [{}])[-1]
        upstream |= {name: last.get(name) for name in ("deployment_id", "since", "until")}
        created_at = datetime.fromisoformat(upstream.pop("created_at"))
        upstream["health"] = plain(health(created_at, upstream.pop("last"), upstream.pop("runs")))
    return Facts.from_json(told)


def health(created_at: datetime, last: dict[str, Any] | None, runs: int | None) -> HealthFact:
    environment = Environment(created_at=created_at)
    environment.last_deployment = last  # type: ignore[attr-defined]  # as with_condition sets it
    return health_of(environment, runs)


def plain(fact: HealthFact | StayFact) -> dict[str, Any]:
    """A fact as JSON has it."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in vars(fact).items()
    }


def database_cpu(work: Callable[[], None]) -> float:
    """CPU seconds of PostgreSQL's sessions in two runs of some work, which is many of its ticks of 10 ms."""
    before = _processor.cpu_of_sessions()
    work()
    work()
    return _processor.cpu_of_sessions() - before


def one_evaluation() -> dict[str, float]:
    keys = pending()

    def evaluate() -> list[float]:
        times = []
        for pk in keys:
            # One at a time, as a request has it: the decisions of a thousand would burden the collector.
            promotion = as_loaded().get(pk=pk)
            began = time.perf_counter()
            evaluate_promotion(promotion=promotion)
            times.append((time.perf_counter() - began) * 1000)
        return times

    _world.set_policy(version=2)
    changed = evaluate()
    same = evaluate()
    return {
        "evaluation_p50_ms": round(statistics.median(same), 2),
        "evaluation_changed_p50_ms": round(statistics.median(changed), 2),
        "evaluation_changed_p95_ms": round(percentile(changed, 95), 2),
        "evaluation_unchanged_p99_ms": round(percentile(same, 99), 2),
        "evaluation_p99_ms": round(max(percentile(changed, 99), percentile(same, 99)), 2),
    }


def percentile(values: list[float], which: int) -> float:
    return statistics.quantiles(values, n=100)[which - 1]


def judge_all(reconciler: Reconciler) -> tuple[float, float]:
    """Seconds until a reconciler has judged all that wait, and of its own CPU in them."""
    Promotion.objects.update(lease_until=None)
    began, cpu = time.perf_counter(), time.process_time()
    # Each once: on a busy machine the first are due again before the last have been judged.
    while Promotion.objects.pending().filter(lease_until=None).exists():
        reconciler.judge_promotions()
    return time.perf_counter() - began, time.process_time() - cpu


def judge_all_by_two() -> float:
    """Seconds until two reconcilers, as on two hosts, have judged all that wait."""
    Promotion.objects.update(lease_until=None)
    connections.close_all()
    context = multiprocessing.get_context("fork")
    go = context.Barrier(3)

    def work() -> None:
        reconciler = Reconciler()
        Promotion.objects.pending().exists()  # connected
        go.wait()
        while Promotion.objects.pending().filter(lease_until=None).exists():
            reconciler.judge_promotions()

    workers = [context.Process(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    go.wait()
    began = time.perf_counter()
    for worker in workers:
        worker.join()
    assert not any(worker.exitcode for worker in workers), "a reconciler failed"
    return time.perf_counter() - began


def all_at_once(reconciler: Reconciler) -> dict[str, float]:
    changed, same = [], []  # seconds, and CPU in them
    for version in (3, 4):
        _world.set_policy(version=version)
        changed.append(judge_all(reconciler))
        judged = Promotion.objects.pending().filter(decision__policy__version=version).count()
        assert judged == SIZE.services * SIZE.environments, f"{judged} were judged by the new policy"
        same.append(judge_all(reconciler))
    _world.set_policy(version=5)
    by_two = judge_all_by_two()
    judged = Promotion.objects.pending().filter(decision__policy__version=5).count()
    assert judged == SIZE.services * SIZE.environments, f"{judged} were judged by the new policy"
    return {
        "reevaluate_1000_s": round(statistics.median(wall for wall, _ in changed), 2),
        "reevaluate_1000_cpu_s": round(statistics.median(cpu for _, cpu in changed), 2),
        "reevaluate_1000_by_two_s": round(by_two, 2),
        "reevaluate_1000_unchanged_s": round(statistics.median(wall for wall, _ in same), 2),
    }


def polling(seconds: float) -> dict[str, float]:
    """A server as on a host, and the clients in a process of their own."""
    user = User.objects.create(username="jenkins", is_superuser=True)
    _, secret = create_token(user=user, name="poll", scopes=["read"])
    paths = [f"/api/v1/promotions/{promotion.pk}/" for promotion in waiting(CLIENTS)]
    connections.close_all()
    with serving() as (port, server):
        context = multiprocessing.get_context("fork")
        seen, orders = context.Queue(), context.Event()
        clients = context.Process(target=poll, args=(port, secret, paths, seconds, seen, orders))
        clients.start()
        assert seen.get(timeout=60) == "warm"
        before, began = cpu_of(server), time.perf_counter()
        orders.set()
        answers = seen.get(timeout=seconds + 60)
        elapsed = time.perf_counter() - began
        web, database = (after - first for after, first in zip(cpu_of(server), before, strict=True))
        clients.join(30)
    assert set(answers) == {"304"}, f"answers were {answers}"
    asked = answers["304"]
    return {
        "polls_per_s": round(asked / elapsed, 1),
        "cpu_ms_per_poll": round((web + database) / asked * 1000, 2),
        "poll_cpu_percent_web": round(100 * web / elapsed, 1),
        "poll_cpu_percent": round(100 * (web + database) / elapsed, 1),
    }


@contextmanager
def serving() -> Iterator[tuple[int, int]]:
    """gunicorn with the unit's own flags; its port and its process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.prefix, "bin", "gunicorn")), "--preload", "--no-control-socket", "--threads", "8"]
    command += ["--worker-tmp-dir", "/dev/shm", "--bind", f"127.0.0.1:{port}", "backend.wsgi"]  # noqa: S108  # gunicorn's
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 30
            while not answers(port):
                assert process.poll() is None, "gunicorn ended"
                assert time.monotonic() < deadline, "gunicorn does not answer"
                time.sleep(0.1)
            yield port, process.pid
        finally:
            process.terminate()


def answers(port: int) -> bool:
    try:
        client = HTTPConnection("127.0.0.1", port, timeout=1)
        client.request("GET", "/healthz")
        return client.getresponse().status == 200
    except OSError:
        return False


def poll(port: int, secret: str, paths: list[str], seconds: float, seen: Any, orders: Any) -> None:
    """Each client has asked once before it tells so; then all ask, spread over the interval."""
    counts: dict[str, int] = {}
    lock = threading.Lock()
    warm, go = threading.Barrier(len(paths) + 1), threading.Barrier(len(paths) + 1)

    def work(number: int, path: str) -> None:
        headers = {"Authorization": f"Bearer {secret}"}

        def ask() -> str:
            # A connection for each, as the pipeline's client does it.
            with closing(HTTPConnection("localhost", port, timeout=30)) as client:
                client.request("GET", path, headers=headers)
                answer = client.getresponse()
                answer.read()
            if answer.headers["ETag"]:
                headers["If-None-Match"] = answer.headers["ETag"]
            return str(answer.status)

        ask()
        warm.wait()
        go.wait()
        start = time.monotonic()
        due = start + number * EVERY_S / len(paths)
        while due < start + seconds:
            time.sleep(max(0.0, due - time.monotonic()))
            status = ask()
            with lock:
                counts[status] = counts.get(status, 0) + 1
            due += EVERY_S

    threads = [threading.Thread(target=work, args=each, daemon=True) for each in enumerate(paths)]
    for thread in threads:
        thread.start()
    warm.wait()
    seen.put("warm")
    orders.wait()
    go.wait()
    for thread in threads:
        thread.join()
    seen.put(counts)


def cpu_of(server: int) -> tuple[float, float]:
    """CPU seconds until now of gunicorn with its workers, and of the database's sessions."""
    workers = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    return sum(map(_processor.cpu_seconds, [server, *workers])), _processor.cpu_of_sessions()


if __name__ == "__main__":
    sys.exit(main())
