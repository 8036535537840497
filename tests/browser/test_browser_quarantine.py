"""A test case is quarantined and let go in the admin, as an approver does it."""

import re
from datetime import timedelta
from unittest.mock import patch

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from apps.builds.models import CaseState, Quarantine, TestCase
from apps.builds.parsers.case import Outcome
from tests.browser.test_browser_admin import sign_in
from tests.builds.test_store import case, read, write
from tests.factories import make_build, make_member, make_service

pytestmark = [pytest.mark.browser, pytest.mark.integration]


def test_a_flaky_test_is_quarantined_and_let_go(
    page: Page, live_server: LiveServer, transactional_db: None
) -> None:
    service = make_service("web")
    make_member(service, "approver", username="ben", is_staff=True)
    for outcome in (Outcome.FAILED, Outcome.PASSED):
        build = make_build(service, commit="c" * 40)
        write(build, read(build, case("test_total", outcome)))
    assert CaseState.objects.get().state == "flaky"

    sign_in(page, live_server, "ben")
    page.goto(f"{live_server.url}/admin/builds/casestate/")
    page.get_by_role("link", name="quarantine it").click()
    page.get_by_label("Reason").fill("times out, #481")
    until = timezone.now() + timedelta(days=14)
    page.locator("[name=until_0]").fill(f"{until:%Y-%m-%d}")
    page.locator("[name=until_1]").fill("12:00:00")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("times out, #481")).to_be_visible()
    quarantine = Quarantine.objects.get()
    assert (quarantine.by.username, quarantine.in_force) == ("ben", True)

    page.goto(f"{live_server.url}/admin/builds/quarantine/{quarantine.pk}/change/")
    page.get_by_role("link", name=re.compile(r"\bLift$")).click()
    dialog = page.locator("#dialog")
    dialog.get_by_label("Comment").fill("mended")
    dialog.get_by_role("button", name="Lift it").click()
    expect(page.get_by_text("Lifted:")).to_be_visible()
    quarantine.refresh_from_db()
    assert quarantine.lifted_by is not None


def test_a_search_for_a_test_that_takes_too_long_says_what_to_do(
    page: Page, live_server: LiveServer, transactional_db: None
) -> None:
    service = make_service("web")
    make_member(service, "approver", username="ben", is_staff=True)
    TestCase.objects.bulk_create(
        TestCase(id=number, service=service, group="unit", class_name="C", name=f"test_{number}")
        for number in range(30_000)
    )
    sign_in(page, live_server, "ben")
    page.goto(f"{live_server.url}/admin/builds/quarantine/add/")
    page.locator(".field-case .select2-selection").click()
    with patch("apps.search.SEARCH_MS", 1):
        page.locator(".select2-search__field").fill("nothing")
        told = page.get_by_role("option", name=re.compile("The search was given up"))
        expect(told).to_be_visible()
    expect(told).to_be_disabled()
