"""Promotions at the REST API."""

from django.test import TestCase

from apps.ledger.models import Entry
from apps.promotions.models import Approval, Promotion
from tests.clients import ApiClient
from tests.factories import (
    make_decision,
    make_deployment,
    make_environment,
    make_member,
    make_policy,
    make_promotion,
    make_release,
    make_report,
    make_service,
    make_user,
)

LIST = "/api/v1/promotions/"
APPROVED = [{"rule": "approved", "parameters": {}}]


class PromotionApiCase(TestCase):
    """A service whose production wants an approval, and its cast."""

    @classmethod
    def setUpTestData(cls) -> None:
        cls.service = make_service("web")
        cls.production = make_environment(cls.service, "production")
        make_policy(cls.production, APPROVED)
        cls.release = make_release(cls.service)
        make_report(cls.release.build)
        cls.developer = make_member(cls.service, "developer", username="dev")
        cls.approver = make_member(cls.service, "approver", username="boss")
        cls.viewer = make_member(cls.service, "viewer", username="looker")
        cls.stranger = make_user("stranger")

    def ask(self, user=None, **body: object):
        wish = {"release": self.release.pk, "environment": "production", **body}
        return ApiClient(user or self.developer).post(LIST, wish)

    def waiting(self) -> Promotion:
        return Promotion.objects.get(pk=self.ask().json()["id"])

    def assert_problem(self, response, status: int, *words: str) -> None:
        assert response.status_code == status, response.content
        assert response["Content-Type"] == "application/problem+json"
        problem = response.json()
        assert problem["status"] == status
        for word in words:
            assert word in problem["detail"], problem


class AskTests(PromotionApiCase):
    def test_the_gate_answers_at_once(self) -> None:
        response = self.ask()
        assert response.status_code == 201, response.content
        found = response.json()
        assert found["verdict"] == "waiting_human"
        assert (found["status"], found["final"]) == ("pending", False)
        assert found["findings"][0]["rule"] == "approved"
        assert found["requested_by"] == "dev"
        assert found["deployment"] is None
        assert response["Location"] == found["links"]["self"]

    def test_asked_again_it_is_the_same(self) -> None:
        first, second = self.ask(), self.ask()
        assert second.status_code == 200
        assert first.json()["id"] == second.json()["id"]

    def test_a_viewer_may_not_ask(self) -> None:
        self.assert_problem(self.ask(self.viewer), 403, "developer")
        assert not Promotion.objects.exists()

    def test_a_stranger_does_not_learn_that_the_release_exists(self) -> None:
        missing = ApiClient(self.stranger).post(LIST, {"release": 10**9, "environment": "production"})
        hidden = self.ask(self.stranger)
        self.assert_problem(hidden, 404)
        self.assert_problem(missing, 404)
        for response, key in ((hidden, self.release.pk), (missing, 10**9)):
            assert response.json()["detail"].startswith(f"There is no release {key};")

    def test_an_unknown_environment_is_named_with_those_there_are(self) -> None:
        self.assert_problem(self.ask(environment="prod"), 404, "'prod'", "production")

    def test_wrong_missing_and_unknown_fields_are_named(self) -> None:
        response = ApiClient(self.developer).post(LIST, {"release": "x", "enviroment": "production"})
        self.assert_problem(response, 400)
        pointers = {error["pointer"] for error in response.json()["errors"]}
        assert pointers == {"#/enviroment"}
        response = ApiClient(self.developer).post(LIST, {"release": "x"})
        pointers = {error["pointer"] for error in response.json()["errors"]}
        assert pointers == {"#/release", "#/environment"}

    def test_a_token_needs_the_scope_ci(self) -> None:
        wish = {"release": self.release.pk, "environment": "production"}
        response = ApiClient(self.developer, "read", "approve").post(LIST, wish)
        self.assert_problem(response, 403, "ci")


class AnswerTests(PromotionApiCase):
    def test_an_approver_approves(self) -> None:
        promotion = self.waiting()
        response = ApiClient(self.approver).post(f"{LIST}{promotion.pk}/approve/", {"comment": "Go."})
        assert response.status_code == 200, response.content
        found = response.json()
        assert found["verdict"] == "pass"
        (approval,) = found["approvals"]
        assert (approval["user"], approval["verdict"], approval["comment"]) == ("boss", "approved", "Go.")
        assert Entry.objects.filter(action="promotion.approved", actor=self.approver).exists()

    def test_an_approver_withdraws(self) -> None:
        path = f"{LIST}{self.waiting().pk}/"
        client = ApiClient(self.approver)
        client.post(f"{path}approve/")
        response = client.post(f"{path}withdraw/", {"comment": "Wait."})
        assert response.status_code == 200, response.content
        assert response.json()["verdict"] == "waiting_human"
        assert response.json()["approvals"][0]["withdrawn_at"]
        self.assert_problem(client.post(f"{path}withdraw/"), 409, "has not approved")
        self.assert_problem(ApiClient(self.approver, "read", "ci").post(f"{path}withdraw/"), 403, "approve")
        self.assert_problem(ApiClient(self.stranger).post(f"{path}withdraw/"), 404)

    def test_an_approver_rejects_without_a_comment(self) -> None:
        promotion = self.waiting()
        response = ApiClient(self.approver).post(f"{LIST}{promotion.pk}/reject/")
        assert response.status_code == 200, response.content
        assert (response.json()["status"], response.json()["final"]) == ("rejected", True)

    def test_only_approvers_who_did_not_ask_may_answer(self) -> None:
        promotion = self.waiting()
        superuser = make_user("root", is_superuser=True)
        for user, status in (
            (self.viewer, 403),
            (self.developer, 403),
            (superuser, 403),
            (self.stranger, 404),
        ):
            for verb in ("approve", "reject"):
                with self.subTest(user=user.username, verb=verb):
                    response = ApiClient(user).post(f"{LIST}{promotion.pk}/{verb}/")
                    self.assert_problem(response, status)
        assert not Approval.objects.exists()

    def test_answering_twice_or_too_late_is_a_conflict(self) -> None:
        promotion = self.waiting()
        client = ApiClient(self.approver)
        assert client.post(f"{LIST}{promotion.pk}/reject/").status_code == 200
        self.assert_problem(client.post(f"{LIST}{promotion.pk}/approve/"), 409, "rejected")

    def test_a_token_needs_the_scope_approve(self) -> None:
        promotion = self.waiting()
        client = ApiClient(self.approver, "read", "ci", "operate")
        self.assert_problem(client.post(f"{LIST}{promotion.pk}/approve/"), 403, "approve")

    def test_a_comment_is_text_of_a_sane_length(self) -> None:
        promotion = self.waiting()
        client = ApiClient(self.approver)
        for body in ({"comment": ["x"]}, {"comment": "x" * 2001}, {"reason": "x"}, [1]):
            with self.subTest(body=str(body)[:20]):
                self.assert_problem(client.post(f"{LIST}{promotion.pk}/approve/", body), 400)
        assert not Approval.objects.exists()


class CancelTests(PromotionApiCase):
    def test_the_requester_cancels(self) -> None:
        promotion = self.waiting()
        client = ApiClient(self.developer, "read", "ci")
        response = client.post(f"{LIST}{promotion.pk}/cancel/", {"comment": "wrong release"})
        assert response.status_code == 200, response.content
        assert response.json()["status"] == "cancelled"
        assert "wrong release" in response.json()["reason"]

    def test_cancelling_for_others_needs_the_scope_operate(self) -> None:
        promotion = self.waiting()
        operator = make_member(self.service, "operator")
        path = f"{LIST}{promotion.pk}/cancel/"
        self.assert_problem(ApiClient(operator, "read", "ci").post(path), 403, "operate")
        assert ApiClient(operator, "operate").post(path).status_code == 200

    def test_viewers_strangers_and_latecomers_cannot(self) -> None:
        promotion = self.waiting()
        path = f"{LIST}{promotion.pk}/cancel/"
        self.assert_problem(ApiClient(self.viewer).post(path), 403)
        self.assert_problem(ApiClient(self.stranger).post(path), 404)
        assert ApiClient(self.developer).post(path).status_code == 200
        self.assert_problem(ApiClient(self.developer).post(path), 409)


class ReadTests(PromotionApiCase):
    def test_a_poll_with_an_etag_costs_no_body_until_something_changes(self) -> None:
        promotion = self.waiting()
        client = ApiClient(self.viewer)
        path = f"{LIST}{promotion.pk}/"
        first = client.get(path)
        assert first["Retry-After"] == "5"
        same = client.get(path, headers={"if-none-match": first["ETag"]})
        assert (same.status_code, same.content, same["Retry-After"]) == (304, b"", "5")
        assert same["ETag"] == first["ETag"]
        ApiClient(self.approver).post(f"{path}reject/")
        changed = client.get(path, headers={"if-none-match": first["ETag"]})
        assert changed.status_code == 200
        assert changed["ETag"] != first["ETag"]
        assert "Retry-After" not in changed

    def test_the_list_tells_what_one_tells_but_for_the_evidence(self) -> None:
        promotion = self.waiting()
        client = ApiClient(self.viewer)
        (listed,) = client.get(LIST).json()["results"]
        one = client.get(f"{LIST}{promotion.pk}/").json()
        assert all(finding.pop("evidence") is not None for finding in one["findings"])
        assert listed == {name: one[name] for name in listed}
        assert one.keys() - listed.keys() == {"waits_for", "overrides", "links"}

    def test_it_shows_its_deployment(self) -> None:
        deployment = make_deployment(self.production, self.release, status="running")
        promotion = make_promotion(self.production, self.release, status="deploying", deployment=deployment)
        found = ApiClient(self.viewer).get(f"{LIST}{promotion.pk}/").json()
        assert found["deployment"]["codedeploy_id"] == deployment.codedeploy_id
        assert found["links"]["deployment"].endswith(f"/api/v1/deployments/{deployment.pk}/")
        assert found["verdict"] is None

    def test_filters(self) -> None:
        promotion = self.waiting()
        other = make_promotion(make_environment(self.service, "staging"), self.release, status="cancelled")
        client = ApiClient(self.viewer)

        def found(**query: object) -> list[int]:
            return [row["id"] for row in client.get(LIST, query).json()["results"]]

        assert found() == [other.pk, promotion.pk]
        assert found(status="pending") == [promotion.pk]
        assert found(service="web", environment="staging") == [other.pk]
        assert found(release=self.release.pk + 1) == []

    def test_a_stranger_sees_nothing(self) -> None:
        promotion = self.waiting()
        client = ApiClient(self.stranger)
        assert client.get(LIST).json()["results"] == []
        self.assert_problem(client.get(f"{LIST}{promotion.pk}/"), 404)

    def test_it_says_what_holds_it_up_and_nothing_once_it_has_ended(self) -> None:
        deployment = make_deployment(self.production, status="intended", codedeploy_id=None)
        promotion = make_promotion(self.production, status="deploying", deployment=deployment)
        client = ApiClient(self.viewer)
        where = f"{LIST}{promotion.pk}/"
        assert "has not been told yet" in client.get(where).json()["waits_for"]
        deployment.error_message = "CodeDeploy CreateDeployment: Rate exceeded"
        deployment.save()
        assert client.get(where).json()["waits_for"].endswith("Rate exceeded")
        Promotion.objects.filter(pk=promotion.pk).update(status="errored")
        assert client.get(where).json()["waits_for"] == ""

    def test_the_list_does_not_query_per_row(self) -> None:
        for _ in range(3):
            release = make_release(self.service)
            decision = make_decision(self.production, release)
            promotion = make_promotion(self.production, release, decision=decision)
            Approval.objects.create(promotion=promotion, user=self.approver, verdict="approved")
        client = ApiClient(self.viewer)
        # 1: token with user  2: promotions with environment, service, release, decision, deployment and
        # requester, without facts and manifests, and in JSON the approvals with their users
        with self.assertNumQueries(2) as queries:
            client.get(LIST)
        assert "manifest" not in queries[1]["sql"]
        assert '"facts"' not in queries[1]["sql"]
