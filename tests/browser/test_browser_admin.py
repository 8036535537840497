"""The admin as an approver uses it, with its scripts running."""

import re

import pytest
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from apps.promotions.models import Approval, Pin, Promotion
from apps.promotions.services import request_promotion
from tests.factories import (
    PASSWORD,
    make_deployment,
    make_environment,
    make_member,
    make_occupancy,
    make_policy,
    make_release,
    make_report,
    make_service,
    make_user,
)

pytestmark = [pytest.mark.browser, pytest.mark.integration]


@pytest.fixture
def promotion(transactional_db: None) -> Promotion:
    """One that waits for somebody's approval, in a service with a requester and an approver."""
    service = make_service("web")
    production = make_environment(service, "production")
    make_policy(production, [{"rule": "approved", "parameters": {}}])
    make_occupancy(make_deployment(production, make_release(service, version="1.0.0")))
    requester = make_member(service, "developer", username="requester", is_staff=True)
    make_member(service, "approver", username="approver", is_staff=True)
    release = make_release(service, version="1.1.0")
    make_report(release.build)
    return request_promotion(release=release, environment=production, requested_by=requester)


def sign_in(page: Page, server: LiveServer, username: str, password: str = PASSWORD) -> None:
    page.goto(f"{server.url}/")
    page.get_by_label("Username").fill(username)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name=re.compile("log in", re.IGNORECASE)).click()


def test_an_approver_signs_in_approves_and_sees_it(
    page: Page, live_server: LiveServer, promotion: Promotion
) -> None:
    sign_in(page, live_server, "approver")
    # The overview: what runs, and what waits for whom.
    expect(page.get_by_text("1.0.0")).to_be_visible()
    waiting = page.get_by_role("link", name=re.compile("1.1.0.*waiting for a person", re.DOTALL))
    expect(waiting).to_contain_text("asked for by requester")
    waiting.click()
    # The promotion's page: what the gate says, with buttons for the answer.
    expect(page.get_by_text("It needs 1 more approval")).to_be_visible()
    expect(page.get_by_text("Cancel", exact=True)).to_have_count(0)
    # Not the link to approver groups; an icon's name may come first.
    approve = page.get_by_role("link", name=re.compile(r"\bApprove$"))
    approve.click()
    dialog = page.locator("#dialog")
    expect(dialog).to_contain_text("Approve this promotion?")
    dialog.get_by_label("Comment").fill("Looks good.")
    dialog.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("Approved: 1.1.0")).to_be_visible()
    expect(page.get_by_text("Looks good.")).to_be_visible()
    expect(approve).to_have_count(0)
    approval = Approval.objects.get(promotion=promotion)
    assert (approval.user.username, approval.verdict) == ("approver", "approved")


def test_a_dialog_can_be_left(page: Page, live_server: LiveServer, promotion: Promotion) -> None:
    sign_in(page, live_server, "requester")
    page.goto(f"{live_server.url}/admin/promotions/promotion/{promotion.pk}/change/")
    page.get_by_role("link", name="Cancel").click()
    dialog = page.locator("#dialog")
    expect(dialog).to_contain_text("Cancel this promotion?")
    dialog.get_by_role("link", name="Cancel", exact=True).click()
    expect(dialog).to_be_hidden()
    promotion.refresh_from_db()
    assert promotion.status == Promotion.Status.PENDING


def test_a_wrong_password_opens_nothing(page: Page, live_server: LiveServer, promotion: Promotion) -> None:
    sign_in(page, live_server, "approver", "a-wrong-password")
    expect(page.get_by_text("Please enter the correct username and password")).to_be_visible()


def test_the_documentation_of_the_api_shows_its_operations(
    page: Page, live_server: LiveServer, promotion: Promotion
) -> None:
    page.goto(f"{live_server.url}/api/docs/")
    page.get_by_label("Username").fill("approver")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name=re.compile("log in", re.IGNORECASE)).click()
    expect(page.get_by_text("/api/v1/promotions/{id}/approve/")).to_be_visible()


def test_an_operator_says_when_an_environment_is_open(
    page: Page, live_server: LiveServer, promotion: Promotion
) -> None:
    make_member(promotion.environment.service, "operator", username="operator", is_staff=True)
    sign_in(page, live_server, "operator")
    page.goto(f"{live_server.url}/admin/promotions/window/add/")
    page.get_by_label("Environment").select_option(label="web: production")
    page.get_by_label("Kind").select_option("allow")
    page.get_by_label("Name").fill("weekday nights")
    page.get_by_label("Starts at").fill("2026-01-05T22:00")
    page.get_by_label("Timezone").select_option("Europe/Berlin")
    page.get_by_label("Minutes").fill("120")
    page.get_by_label("Recurrence").fill("FREQ=MINUTELY")
    save = page.get_by_role("button", name="Save and continue editing")
    save.click()
    # What is wrong is said, and what was typed is still there.
    expect(page.get_by_text("opens too often")).to_be_visible()
    expect(page.get_by_label("Starts at")).to_have_value("2026-01-05T22:00")
    page.get_by_label("Recurrence").fill("FREQ=WEEKLY;BYDAY=MO,TU,WE,TH")
    save.click()
    expect(page.get_by_text(re.compile("weekday nights (opens next at|is open until)"))).to_be_visible()
    openings = page.get_by_text(re.compile(r"^(Mon|Tue|Wed|Thu) .* 22:00 to .* 00:00 Europe/Berlin"))
    expect(openings).to_have_count(5)


def test_an_operator_overrides_and_another_seconds_it(
    page: Page, live_server: LiveServer, promotion: Promotion
) -> None:
    terms = {"rule": "override", "parameters": {"second_person": True}}
    make_policy(promotion.environment, [{"rule": "approved", "parameters": {}}, terms])
    for name in ("olga", "omar"):
        make_member(promotion.environment.service, "operator", username=name, is_staff=True)
    sign_in(page, live_server, "olga")
    page.goto(f"{live_server.url}/admin/promotions/promotion/{promotion.pk}/change/")
    page.get_by_role("link", name=re.compile(r"\bOverride$")).click()
    dialog = page.locator("#dialog")
    expect(dialog).to_contain_text("Let it pass against its gate?")
    dialog.get_by_role("button", name="Override").click()
    # It does not close without a justification.
    expect(dialog).to_contain_text("This field is required")
    dialog.get_by_label("Justification").fill("The site is down.")
    dialog.get_by_label("approved", exact=True).check()
    dialog.get_by_role("button", name="Override").click()
    expect(page.get_by_text("Override given: 1.1.0")).to_be_visible(timeout=20_000)
    expect(page.get_by_text("waits for a second operator: The site is down.")).to_be_visible()
    page.context.clear_cookies()
    sign_in(page, live_server, "omar")
    page.goto(f"{live_server.url}/admin/promotions/promotion/{promotion.pk}/change/")
    page.get_by_role("link", name=re.compile(r"\bSecond the override$")).click()
    dialog.get_by_role("button", name="Second it").click()
    expect(page.get_by_text("Override seconded: 1.1.0")).to_be_visible(timeout=20_000)
    expect(page.get_by_text("Overridden by olga and omar until")).to_be_visible()
    promotion.refresh_from_db()
    assert promotion.decision is not None
    assert promotion.decision.verdict == "overridden"


def test_an_operator_pins_what_runs_and_lifts_it(
    page: Page, live_server: LiveServer, promotion: Promotion
) -> None:
    make_member(promotion.environment.service, "operator", username="olga", is_staff=True)
    sign_in(page, live_server, "olga")
    page.goto(f"{live_server.url}/admin/promotions/pin/add/")
    page.get_by_label("Environment").select_option("web production")
    page.get_by_label("Reason").fill("Black Friday.")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("link", name="web production").click()
    page.get_by_role("link", name=re.compile(r"\bLift$")).click()
    page.locator("#dialog").get_by_role("button", name="Lift it").click()
    expect(page.get_by_text("Lifted.")).to_be_visible()
    assert Pin.objects.get().lifted_by == promotion.environment.service.memberships.get(role="operator").user


def test_a_policy_is_put_together_from_rules(
    page: Page, live_server: LiveServer, promotion: Promotion
) -> None:
    make_user("root", is_superuser=True, is_staff=True, password=PASSWORD)
    sign_in(page, live_server, "root")
    page.goto(f"{live_server.url}/admin/gates/policy/{promotion.environment.policies.get().pk}/change/")
    rules = page.locator("[data-rules]").first
    expect(rules.get_by_label("count")).to_have_value("1")
    rules.get_by_label("A rule to add").select_option("soak")
    rules.get_by_role("button", name="Add this rule").click()
    expect(rules.get_by_label("minutes", exact=True)).to_be_focused()
    rules.get_by_label("minutes", exact=True).fill("90")
    rules.get_by_label("upstreams").fill("staging\ncanary")
    for unwanted in range(2):
        rules.get_by_label("A rule to add").select_option("override")
        rules.get_by_role("button", name="Add this rule").click()
        if unwanted:
            rules.get_by_role("button", name="Remove override").first.click()
    rules.get_by_label("second person").check()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("is in force now")).to_be_visible()
    newest = promotion.environment.policies.latest("version")
    assert [each["rule"] for each in newest.rules] == ["approved", "soak", "override"]
    assert newest.rules[1]["parameters"]["minutes"] == 90
    assert newest.rules[1]["parameters"]["upstreams"] == ["staging", "canary"]
    assert newest.rules[2]["parameters"]["second_person"] is True
    page.goto(f"{live_server.url}/admin/gates/policy/{newest.pk}/change/")
    expect(rules.get_by_label("minutes", exact=True)).to_have_value("90")
