"""Faults that are switched on: which calls they meet, and what a client sees of them."""

import http.client
import json
import time

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from apps.sandbox.faults import PATH, Answer, Faults, Settings, SettingsError


class Work:
    def __init__(self, **document):
        self.done, self.document = 0, document

    def __call__(self):
        self.done += 1
        return Answer(200, json.dumps(self.document).encode())


def fates(faults, operation, calls=200):
    answers = [faults.answer(operation, Work(deploymentId="d-1", deployments=[])) for _ in range(calls)]
    return [(answer.status, answer.whole) for answer in answers]


def mixed(seed=7):
    return Faults(Settings(seed=seed, throttled=0.2, error_before=0.2, error_after=0.2, cut_after=0.2))


class TestFates:
    def test_the_same_seed_gives_each_operation_the_same_fates_in_any_order(self):
        one, other = mixed(), mixed()
        first = (fates(one, "ListDeployments"), fates(one, "CreateDeployment"))
        second = (fates(other, "CreateDeployment"), fates(other, "ListDeployments"))
        assert first == second[::-1]
        assert first[0] != first[1]
        assert fates(mixed(8), "CreateDeployment") != first[1]
        assert set(first[0]) == {(200, True), (200, False), (400, True), (500, True)}

    def test_setting_them_again_begins_the_seed_anew(self):
        faults = mixed()
        first = fates(faults, "CreateDeployment")
        faults.use(faults.settings)
        assert fates(faults, "CreateDeployment") == first

    @pytest.mark.parametrize(
        ("kind", "done", "status", "whole"),
        [
            ("throttled", 0, 400, True),
            ("error_before", 0, 500, True),
            ("error_after", 1, 500, True),
            ("cut_after", 1, 200, False),
        ],
    )
    def test_the_work_is_done_or_not_as_the_kind_says(self, kind, done, status, whole):
        work = Work(ok=True)
        answer = Faults(Settings(**{kind: 1.0})).answer("StopDeployment", work)
        assert (work.done, answer.status, answer.whole) == (done, status, whole)

    def test_slow_answers_come_late_and_are_true(self):
        began = time.monotonic()
        answer = Faults(Settings(slow=1.0, slow_seconds=0.2)).answer("StopDeployment", Work(ok=True))
        assert time.monotonic() - began >= 0.2
        assert json.loads(answer.body) == {"ok": True}

    def test_only_the_operations_named_are_met(self):
        faults = Faults(Settings(operations=("CreateDeployment",), error_before=1.0))
        assert faults.answer("ListDeployments", Work()).status == 200
        assert faults.answer("CreateDeployment", Work(deploymentId="d-1")).status == 500


class TestShownLate:
    def shown(self, faults):
        listed = faults.answer("ListDeployments", Work(deployments=["d-2", "d-1"]))
        infos = [{"deploymentId": "d-2"}, {"deploymentId": "d-1"}]
        described = faults.answer("BatchGetDeployments", Work(deploymentsInfo=infos))
        return (
            json.loads(listed.body)["deployments"],
            [info["deploymentId"] for info in json.loads(described.body)["deploymentsInfo"]],
        )

    def test_a_new_deployment_shows_after_its_time_and_old_ones_always(self):
        faults = Faults(Settings(listed_after=60, described_after=60))
        faults.answer("CreateDeployment", Work(deploymentId="d-2"))
        assert self.shown(faults) == (["d-1"], ["d-1"])
        faults.use(Settings(listed_after=0.001, described_after=60))
        time.sleep(0.01)
        assert self.shown(faults) == (["d-2", "d-1"], ["d-1"])
        faults.use(Settings())
        assert self.shown(faults) == (["d-2", "d-1"], ["d-2", "d-1"])

    def test_also_one_whose_making_was_answered_with_an_error(self):
        faults = Faults(Settings(error_after=1.0))
        faults.answer("CreateDeployment", Work(deploymentId="d-2"))
        faults.use(Settings(listed_after=60))
        assert self.shown(faults)[0] == ["d-1"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "not a JSON object"),
        ({"sloww": 1}, "no setting sloww"),
        ({"slow": 1.5}, "slow is a number from 0 to 1"),
        ({"slow": True}, "slow is a number"),
        ({"listed_after": -1}, "listed_after is a number from 0 to 300"),
        ({"slow_seconds": float("nan")}, "slow_seconds is a number"),
        ({"seed": 1.5}, "seed is a whole number"),
        ({"operations": "CreateDeployment"}, "operations is a list"),
        ({"slow": 0.6, "throttled": 0.6}, "more than 1 together"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(document, message):
    with pytest.raises(SettingsError, match=message):
        Settings.parse(document)


@pytest.mark.integration
class TestOfARunningSandbox:
    @pytest.fixture
    def own(self, start, tmp_path):
        sandbox = start(tmp_path)
        yield sandbox
        sandbox.stop()

    def control(self, sandbox, method, document=None):
        body = None if document is None else json.dumps(document).encode()
        connection = http.client.HTTPConnection(sandbox.endpoint.removeprefix("http://"), timeout=10)
        connection.request(method, PATH, body)
        answer = connection.getresponse()
        document = json.load(answer)
        connection.close()
        return answer.status, document

    def test_a_call_that_was_cut_was_done_and_the_truth_comes_back_with_delete(self, own):
        once = Config(retries={"total_max_attempts": 1})
        client = boto3.Session(
            aws_access_key_id="test", aws_secret_access_key="test", region_name="eu-central-1"
        ).client("codedeploy", endpoint_url=own.endpoint, config=once)
        assert self.control(own, "PUT", {"cut_after": 1, "seed": 3})[1]["cut_after"] == 1
        with pytest.raises(ConnectionClosedError):
            client.create_application(applicationName="shop")
        self.control(own, "PUT", {"throttled": 1})
        with pytest.raises(ClientError, match="ThrottlingException"):
            client.list_applications()
        self.control(own, "PUT", {"error_before": 1})
        with pytest.raises(ClientError, match="InternalFailure"):
            client.create_application(applicationName="other")
        assert self.control(own, "DELETE") == self.control(own, "GET")
        assert client.list_applications()["applications"] == ["shop"]

    def test_what_it_does_not_know_is_refused_and_changes_nothing(self, own):
        before = self.control(own, "GET")
        status, answer = self.control(own, "PUT", {"sloww": 1})
        assert status == 400
        assert "no setting sloww" in answer["message"]
        assert self.control(own, "POST", {})[0] == 405
        assert self.control(own, "GET") == before
