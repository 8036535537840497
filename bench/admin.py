"""Lists of the admin site at 1,000 services and 100,000 builds: milliseconds, queries, and whole counts.

Each list as a superuser and as a member of staff with a role in 20 services: the first page, the second, and
with a filter by service where there is one. Whole requests through the test client, with rendering; in turns.
CPU is that of this process (p95) and of PostgreSQL (mean, in ticks of 10 ms): where nothing else is done,
a page takes both together on the clock.
"""

import argparse
import importlib
import json
import random
import re
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

from bench import _django

_django.set_up()

from django.contrib import admin
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.access.models import User
from apps.catalog.models import Membership, Service
from apps.promotions.models import Promotion
from apps.promotions.reconcile import Reconciler
from bench import _processor, _world

SIZE = _world.Size(services=1000, builds=100, cases=100, environments=1)
LIMIT_MS = 200.0
# A count that stops somewhere is no count of the whole table.
COUNTS = re.compile(r"SELECT COUNT\(\*\) AS", re.IGNORECASE)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench admin", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="requests of each page; 20 unless given")
    options = parser.parse_args()
    began = time.perf_counter()
    _world.fill(SIZE)
    reconciler = Reconciler()
    # Each once: where that takes long, the first are due again before the last have been judged.
    while Promotion.objects.pending().filter(decision=None).exists():
        reconciler.judge_promotions()
    print(f"made the data in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    pages = [page for page in all_pages() if opens(page)]
    # As a worker does, whose garbage collector leaves alone what is loaded by now.
    importlib.import_module("backend.wsgi")
    times: dict[Which, list[Spent]] = {page[:3]: [] for page in pages}
    queries: dict[Which, list[str]] = {}
    for page in pages:
        with CaptureQueriesContext(connection) as seen:
            ask(page)
        queries[page[:3]] = [query["sql"] for query in seen]
    for _ in range(options.rounds):
        for page in random.sample(pages, len(pages)):
            database, cpu, began = _processor.cpu_of_sessions(), time.process_time(), time.perf_counter()
            ask(page)
            clock, own = time.perf_counter() - began, time.process_time() - cpu
            spent = (clock, own, _processor.cpu_of_sessions() - database)
            times[page[:3]].append(tuple(seconds * 1000 for seconds in spent))
    return show(times, queries)


Which = tuple[str, str, str]
Page = tuple[str, str, str, Client, str]
# Milliseconds on the clock, of this process's CPU and of PostgreSQL's.
Spent = tuple[float, ...]


def all_pages() -> list[Page]:
    superuser = User.objects.create(username="root", is_staff=True, is_superuser=True)
    member = User.objects.create(username="member", is_staff=True)
    services = list(Service.objects.order_by("?")[:20])
    Membership.objects.bulk_create(
        Membership(user=member, service=service, role="developer") for service in services
    )
    pages: list[Page] = []
    for who, user in (("superuser", superuser), ("member", member)):
        client = Client()
        client.force_login(user)
        for model, model_admin in admin.site._registry.items():
            if model._meta.app_label == "unfold":
                continue
            label = model._meta.label
            address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
            pages += [
                (who, label, "first page", client, address),
                (who, label, "second page", client, f"{address}?p=2"),
            ]
            for each in model_admin.list_filter:
                path = each[0] if isinstance(each, tuple) else each
                if str(path).endswith("service"):
                    chosen = f"{address}?{path}__id__exact={services[0].pk}"
                    pages.append((who, label, "of a service", client, chosen))
    return pages


def p95(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=20)[18]


def opens(page: Page) -> bool:
    """Some are for superusers alone, and some have no second page."""
    return page[3].get(page[4]).status_code == 200


def ask(page: Page) -> Any:
    response = page[3].get(page[4])
    assert response.status_code == 200, f"{page[:3]}: {response.status_code}"
    return response


def show(times: dict[Which, list[Spent]], queries: dict[Which, list[str]]) -> int:
    figures = []
    print(
        f"{'list':<26}{'as':<11}{'page':<14}{'p50 ms':>8}{'p95 ms':>8}{'CPU p95':>9}{'database':>10}"
        f"{'queries':>9}{'counts':>8}"
    )
    for (who, label, page), each in sorted(times.items(), key=lambda item: item[0][1]):
        clock, own, database = zip(*each, strict=True)
        figure = {
            "list": label,
            "as": who,
            "page": page,
            "p50_ms": round(statistics.median(clock), 1),
            "p95_ms": round(p95(clock), 1),
            "cpu_p95_ms": round(p95(own), 1),
            "database_ms": round(statistics.mean(database), 1),
            "queries": len(queries[who, label, page]),
            "counts": sum(bool(COUNTS.match(sql)) for sql in queries[who, label, page]),
        }
        figures.append(figure)
        print(
            f"{label:<26}{who:<11}{page:<14}{figure['p50_ms']:>8.0f}{figure['p95_ms']:>8.0f}"
            f"{figure['cpu_p95_ms']:>9.0f}{figure['database_ms']:>10.0f}{figure['queries']:>9}"
            f"{figure['counts']:>8}"
        )
    worst = max(figure["p95_ms"] for figure in figures)
    summary = {
        "worst_p95_ms": worst,
        "worst_cpu_ms": max(figure["cpu_p95_ms"] + figure["database_ms"] for figure in figures),
        "most_queries": max(figure["queries"] for figure in figures),
        "whole_counts": sum(figure["counts"] for figure in figures),
    }
    print(json.dumps({"bench": "admin", **summary, "lists": figures}))
    return 0 if worst <= LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main())
