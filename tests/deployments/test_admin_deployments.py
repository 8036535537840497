"""The page of a deployment: what failed and the way out, hosts, steps, migrations."""

from django.db import connection
from django.test import TestCase
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.deployments.models import FlightWatch
from tests.clients import signed_in
from tests.factories import make_deployment, make_record, make_target, make_user

EVENTS = ("BeforeInstall", "AfterInstall", "ApplicationStart")


class DeploymentPageTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.root = make_user("root", is_superuser=True, is_staff=True)
        cls.deployment = make_deployment(status="failed")
        cls.target = make_target(cls.deployment, "staging-1", *EVENTS, status="Failed")
        cls.failed = cls.target.events.get(name="AfterInstall")
        cls.failed.status, cls.failed.error_code = "Failed", "ScriptFailed"
        cls.failed.message = "Script at specified location: after_install.sh failed with exit code 1"
        cls.failed.log_tail = "[stderr] !     AfterInstall failed: <b>bold</b>"
        cls.failed.save()

    def page(self) -> str:
        path = reverse("admin:deployments_deployment_change", args=[self.deployment.pk])
        response = signed_in(self.root).get(path)
        assert response.status_code == 200
        return response.content.decode()

    def test_what_failed_comes_first_with_its_cause_and_the_way_out(self) -> None:
        make_record(self.failed, result="failed", error="The disk is full.", cause="no-space", seconds=4.25)
        page = self.page()
        assert "AfterInstall failed on staging-1 after 4.3 s" in " ".join(page.split())
        assert "The disk is full." in page
        assert "There is no room on the host&#x27;s disk." in page
        assert "Way out: See `df -h" in page
        assert page.index("Way out") < page.index("-----&gt; Environment")

    def test_without_a_record_codedeploys_log_is_shown_and_escaped(self) -> None:
        page = self.page()
        assert "&lt;b&gt;bold&lt;/b&gt;" in page
        assert "<b>bold" not in page
        assert "No flight record came from this host." in " ".join(page.split())
        FlightWatch.objects.create(deployment=self.deployment, problem="S3: AccessDenied: Allow the action.")
        page = " ".join(self.page().split())
        assert "No flight record has come from this host yet. S3: AccessDenied: Allow the action." in page

    def test_steps_have_their_seconds(self) -> None:
        steps = [
            {"name": "release", "text": "Copying", "started_s": 0.0, "seconds": 0.25, "result": "succeeded"},
            {"name": "prepare", "text": "Migrating", "started_s": 0.25, "seconds": None, "result": "running"},
        ]
        make_record(self.failed, steps=steps, result="running")
        page = " ".join(self.page().split())
        for text in ("release", "0.25 s", "Copying", "prepare", "cut off", "its host says running"):
            assert text in page

    def test_migrations_are_told_for_each_host(self) -> None:
        other = make_target(self.deployment, "staging-2", *EVENTS)
        made = {"plan": ["shop.0002_price"], "seconds": 0.5, "host": "staging-1", "error": ""}
        applied = made | {"applied": ["shop.0002_price"], "result": "applied"}
        make_record(self.failed, migrations=applied)
        event = other.events.get(name="AfterInstall")
        make_record(event, migrations=made | {"applied": [], "result": "by-another"})
        page = " ".join(self.page().split())
        assert "staging-1 applied 1 in 0.5 s: shop.0002_price" in page
        assert "staging-2 waited 0.5 s for staging-1, which applied them" in page

    def test_an_unreadable_record_says_why(self) -> None:
        record = make_record(self.failed)
        record.document, record.result, record.problem = {}, "unreadable", "It is not JSON."
        record.save()
        page = self.page()
        assert "its flight record is unreadable" in page
        assert "cannot be read: It is not JSON." in page

    def test_a_host_that_failed_comes_before_those_that_did_not(self) -> None:
        make_target(self.deployment, "a-good-one", *EVENTS)
        page = self.page()
        assert page.index("staging-1</span>") < page.index("a-good-one</span>")

    def test_its_queries_do_not_grow_with_its_hosts(self) -> None:
        def cost() -> int:
            with CaptureQueriesContext(connection) as queries:
                self.page()
            return len([query for query in queries if "django_session" not in query["sql"]])

        self.page()  # what Django asks once per process
        before = cost()
        for number in range(4):
            target = make_target(self.deployment, f"more-{number}", *EVENTS, status="Failed")
            target.events.update(status="Failed")
            for event in target.events.all():
                make_record(event, result="failed")
        assert cost() == before
