"""The admin's sidebar."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse_lazy


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Groups of pages in the order in which a release meets them; the last two are for superusers."""
    superuser = getattr(request.user, "is_superuser", False)
    return [
        {
            "items": [
                {"title": "Overview", "icon": "water_lock", "link": reverse_lazy("admin:index")},
            ],
        },
        _group(
            "Delivery",
            ("Promotions", "upgrade", "promotions_promotion"),
            ("Releases", "package_2", "releases_release"),
            ("Builds", "construction", "builds_build"),
            ("Deployments", "rocket_launch", "deployments_deployment"),
        ),
        _group(
            "Gates",
            ("Decisions", "gavel", "gates_decision"),
            ("Approvals", "thumbs_up_down", "promotions_approval"),
            ("Pins", "push_pin", "promotions_pin"),
            ("Vetoes", "block", "promotions_veto"),
            ("Overrides", "key", "promotions_override"),
            ("Quarantines", "coronavirus", "builds_quarantine"),
            ("Policies", "rule", "gates_policy"),
            ("Windows", "calendar_month", "promotions_window"),
        ),
        _group(
            "Evidence",
            ("Reports", "lab_profile", "builds_report"),
            ("What did not pass", "bug_report", "builds_testresult"),
            ("Flaky and broken", "shuffle", "builds_casestate"),
            ("Test cases", "checklist", "builds_testcase"),
            ("Raw files", "draft", "builds_reportfile"),
        ),
        _group(
            "Hosts",
            ("What ran where", "history", "deployments_occupancy"),
            ("Targets", "dns", "deployments_target"),
            ("Lifecycle events", "event_list", "deployments_hookevent"),
        ),
        _group(
            "Administration",
            ("Ledger", "book_2", "ledger_entry"),
            ("Services", "deployed_code", "catalog_service"),
            ("Environments", "lan", "catalog_environment"),
            ("Memberships", "group", "catalog_membership"),
            ("Approver groups", "groups", "catalog_approvergroup"),
            ("Tokens", "key", "access_token"),
            *([("Users", "person", "access_user")] if superuser else []),
            *([("Migrations", "database", "rollout_migrationrun")] if superuser else []),
        ),
    ]


def _group(title: str, *pages: tuple[str, str, str]) -> dict[str, Any]:
    return {
        "title": title,
        "separator": True,
        "items": [
            {"title": name, "icon": icon, "link": reverse_lazy(f"admin:{model}_changelist")}
            for name, icon, model in pages
        ],
    }
