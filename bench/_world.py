"""A large installation, made inside PostgreSQL; scripts/bench does not list this file.

Each service has a staging environment and some others behind it, and builds of which each left one report and
made one release. Every release has been in staging, and was asked for everywhere behind it: the r-th
environment waits for the r-th release, runs the one before that, and the other promotions have been
superseded. 3 % of a report's cases did not pass, a third of them failed, and a few of these are quarantined;
the outcome bytes say only that all cases were there.
"""

from dataclasses import dataclass

from django.db import connection

from apps.access.models import User
from apps.catalog.models import ApproverGroup, Environment, Membership, Service
from apps.gates.models import Policy

RULES = [
    {"rule": "built_as_defined", "parameters": {}},
    {"rule": "required_reports", "parameters": {"groups": ["unit"]}},
    {"rule": "evidence_complete", "parameters": {}},
    {"rule": "evidence_age", "parameters": {"maximum_hours": 168}},
    {"rule": "max_failures", "parameters": {"maximum": 500}},
    {"rule": "min_pass_rate", "parameters": {"minimum": 90}},
    {"rule": "verified_upstream", "parameters": {}},
    {"rule": "not_pinned", "parameters": {}},
    {"rule": "not_vetoed", "parameters": {}},
    {"rule": "not_superseded", "parameters": {}},
    {"rule": "in_window", "parameters": {}},
    {"rule": "approved", "parameters": {"count": 2}},
]


@dataclass(frozen=True)
class Size:
    services: int
    builds: int  # of each service, with a report and a release each
    cases: int  # of each report
    environments: int  # behind staging


def fill(size: Size) -> None:
    """Make it all, in an empty database."""
    asker = User.objects.create(username="asker")
    approvers = [User.objects.create(username=f"approver-{number}") for number in (1, 2, 3)]
    values = {**vars(size), "asker": asker.pk, "approver": approvers[0].pk, "failed": size.cases // 100}
    with connection.cursor() as cursor:
        for statement in STATEMENTS.split(";"):
            if statement.strip():
                cursor.execute(statement, values)
    services = list(Service.objects.all())
    Membership.objects.bulk_create(
        Membership(user=user, service=service, role="approver") for service in services for user in approvers
    )
    for group in ApproverGroup.objects.bulk_create(
        ApproverGroup(service=service, name="release-managers") for service in services
    ):
        group.members.add(approvers[0])
    set_policy(version=1)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


def set_policy(*, version: int) -> None:
    """Give every environment a version of its policy that asks for something else than the one before."""
    rules = [*RULES[:-1], {"rule": "approved", "parameters": {"count": 1 + version}}]
    Policy.objects.bulk_create(
        Policy(environment=environment, version=version, rules=rules)
        for environment in Environment.objects.all()
    )


STATEMENTS = """
INSERT INTO catalog_service (slug, name, repository, bucket, codebuild_project, created_at)
SELECT 'service-' || n, 'Service ' || n, 'https://git.example/service-' || n, 'bundles', 'service-' || n, now()
FROM generate_series(1, %(services)s) n;

INSERT INTO catalog_environment
    (service_id, slug, position, application, deployment_group, upstream_mode, created_at)
SELECT service.id, CASE n WHEN 0 THEN 'staging' ELSE 'production-' || n END, n, service.slug, 'group-' || n,
    'all', now()
FROM catalog_service service, generate_series(0, %(environments)s) n ORDER BY service.id, n;

INSERT INTO catalog_upstream (environment_id, source_id)
SELECT there.id, staging.id FROM catalog_environment there
JOIN catalog_environment staging USING (service_id) WHERE there.position > 0 AND staging.position = 0;

INSERT INTO promotions_window (environment_id, kind, name, starts_at, timezone, minutes, rrule)
SELECT id, 'allow', 'all day', '2026-01-01T00:00', 'Europe/Berlin', 1440, 'FREQ=DAILY' FROM catalog_environment;

INSERT INTO builds_build
    (service_id, codebuild_id, number, commit, source_version, status, deviations, exports, log_url, started_at,
     finished_at, requested_by_id, created_at, collected_at, problem, lease_owner, lease_fence)
SELECT service.id, service.slug || ':' || gen_random_uuid(), n, lpad(to_hex(service.id * 1000000 + n), 40, '0'),
    'main', 'SUCCEEDED', '[]',
    jsonb_build_object('LOCKKEEPER_BUNDLE_SHA256', encode(sha256((service.slug || '-' || n)::bytea), 'hex')),
    'https://logs.example/' || n, now() - interval '1 hour', now() - interval '50 minutes', %(asker)s,
    now() - interval '1 hour', now() - interval '49 minutes', '', '', 0
FROM catalog_service service, generate_series(1, %(builds)s) n ORDER BY n, service.id;

INSERT INTO builds_reportgroup (service_id, name, size)
SELECT id, 'unit', %(cases)s FROM catalog_service;

INSERT INTO builds_report
    (build_id, group_id, name, arn, type, status, truncated, declared, returned, parsed, passed, failed, errors, skipped,
     unknown, duration_ns, problem, created_at)
SELECT build.id, its.id, 'unit', 'arn:aws:codebuild:eu-central-1:123456789012:report/unit:' || build.id, 'TEST', 'FAILED',
    %(cases)s > 500, %(cases)s, least(%(cases)s, 500), %(cases)s, %(cases)s - 3 * %(failed)s, %(failed)s, 0,
    2 * %(failed)s, 0, 60000000000, '', now()
FROM builds_build build JOIN builds_reportgroup its USING (service_id) ORDER BY build.id;

INSERT INTO builds_reportoutcomes (report_id, data)
SELECT id, decode(repeat('0100000078', %(cases)s), 'hex') FROM builds_report;

INSERT INTO builds_testcase (id, service_id, report_group_id, position, "group", suite, class_name, name, ordinal)
SELECT hashtextextended(service.slug || '-' || n, 0), service.id, its.id, n - 1, 'unit', '', 'tests.shop.test_orders.Orders' || n / 100,
    'test_an_order_of_kind_' || n || '_is_taken', 0
FROM catalog_service service JOIN builds_reportgroup its ON its.service_id = service.id,
    generate_series(1, %(cases)s) n;

INSERT INTO builds_testresult (report_id, case_id, status, duration_ns, message)
SELECT report.id, hashtextextended(service.slug || '-' || (build.number * 7 + n) %% %(cases)s + 1, 0),
    CASE WHEN n %% 3 = 0 THEN 'FAILED' ELSE 'SKIPPED' END, 12000000,
    CASE WHEN n %% 3 = 0 THEN repeat('AssertionError: 3 is not 4. ', 20) ELSE '' END
FROM builds_report report JOIN builds_build build ON build.id = report.build_id
JOIN catalog_service service ON service.id = build.service_id, generate_series(1, 3 * %(failed)s) n;

INSERT INTO releases_release
    (service_id, build_id, version, commit, digest, bucket, key, object_version, etag, size, manifest, steps, created_at)
SELECT service_id, id, '1.' || number || '.0+' || right(commit, 12), commit,
    exports ->> 'LOCKKEEPER_BUNDLE_SHA256', 'bundles', 'releases/' || id || '.tar', '1', 'etag', 1000000,
    jsonb_build_object('schema', 1, 'files', (
        SELECT jsonb_object_agg('apps/module_' || n || '.py', md5(n::text)) FROM generate_series(1, 20) n
    )), (
        SELECT jsonb_agg(jsonb_build_object(
            'app', 'shop', 'name', '00' || n || '_step', 'level', 'reversible', 'operation', '', 'contract', false,
            'replaces', '[]'::jsonb
        ) ORDER BY n) FROM generate_series(10, 49) n
    ), now()
FROM builds_build ORDER BY id;

INSERT INTO deployments_deployment
    (environment_id, release_id, intent, status, codedeploy_id, error_code, error_message, created_at, started_at,
     finished_at, lease_owner, lease_fence)
SELECT staging.id, release.id, gen_random_uuid(), 'succeeded', 'd-' || release.id, '', '', release.created_at,
    release.created_at, release.created_at, '', 0
FROM releases_release release
JOIN catalog_environment staging ON staging.service_id = release.service_id AND staging.position = 0
ORDER BY release.id;

INSERT INTO deployments_occupancy (environment_id, release_id, deployment_id, since, until)
SELECT deployment.environment_id, release.id, deployment.id,
    now() - interval '40 minutes' + build.number * interval '1 second',
    CASE WHEN build.number < %(builds)s
        THEN now() - interval '40 minutes' + (build.number + 1) * interval '1 second' END
FROM deployments_deployment deployment JOIN releases_release release ON release.id = deployment.release_id
JOIN builds_build build ON build.id = release.build_id;

INSERT INTO promotions_promotion
    (release_id, environment_id, status, reason, requested_by_id, created_at, updated_at, finished_at, lease_owner,
     lease_fence)
SELECT release.id, there.id, CASE WHEN there.position = build.number THEN 'pending' ELSE 'superseded' END,
    CASE WHEN there.position = build.number THEN '' ELSE 'A newer one was asked for.' END, %(asker)s, now(), now(),
    CASE WHEN there.position = build.number THEN NULL ELSE now() END, '', 0
FROM releases_release release JOIN builds_build build ON build.id = release.build_id
JOIN catalog_environment there ON there.service_id = release.service_id AND there.position > 0
ORDER BY release.id, there.position;

INSERT INTO promotions_approval (promotion_id, user_id, verdict, comment, created_at)
SELECT id, %(approver)s, 'approved', 'Looked at the failures: they are known.', now()
FROM promotions_promotion WHERE status = 'pending';

INSERT INTO deployments_deployment
    (environment_id, release_id, intent, status, codedeploy_id, error_code, error_message, created_at, started_at,
     finished_at, lease_owner, lease_fence)
SELECT there.id, release.id, gen_random_uuid(), 'succeeded', 'd-' || there.id || '-' || release.id, '', '',
    release.created_at, release.created_at, release.created_at, '', 0
FROM releases_release release JOIN builds_build build ON build.id = release.build_id
JOIN catalog_environment there ON there.service_id = release.service_id AND there.position = build.number + 1
ORDER BY release.id;

INSERT INTO deployments_occupancy (environment_id, release_id, deployment_id, since)
SELECT environment_id, release_id, id, finished_at FROM deployments_deployment
WHERE codedeploy_id LIKE 'd-%%-%%';

INSERT INTO builds_quarantine (case_id, by_id, reason, created_at, until)
SELECT hashtextextended(service.slug || '-' || n * 3, 0), %(asker)s, 'Known, and being mended.', now(),
    now() + interval '7 days'
FROM catalog_service service, generate_series(1, 5) n;

INSERT INTO deployments_target (deployment_id, target_id, status, updated_at)
SELECT id, 'host-' || n, 'Succeeded', now() FROM deployments_deployment, generate_series(1, 2) n;

INSERT INTO deployments_hookevent
    (target_id, position, name, status, started_at, finished_at, error_code, script, message, log_tail)
SELECT target.id, n, 'Event' || n, 'Succeeded', now(), now(), '', 'scripts/codedeploy/event_' || n, '', ''
FROM deployments_target target, generate_series(1, 4) n
"""  # noqa: E501  # as SQL is read best
