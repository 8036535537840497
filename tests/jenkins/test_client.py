"""scripts/jenkins/lockkeeper.py against a server that answers as told."""

import ast
import json
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from email.utils import formatdate

import pytest

from tests.jenkins.conftest import CLIENT, Reply

PROMOTION = "promotions/7/"
LISTING = "promotions/?release=5&environment=staging"


def finding(verdict="pass", rule="built_as_defined", sentence="The build ran as defined.", who=""):
    return {"rule": rule, "verdict": verdict, "sentence": sentence, "evidence": {}, "who": who}


def promotion(status="pending", verdict=None, findings=(), reason=""):
    return {
        "id": 7,
        "release": 5,
        "environment": "staging",
        "status": status,
        "verdict": verdict,
        "findings": list(findings),
        "reason": reason,
        "deployment": None,
    }


def explanation(answer="1 of 2 conditions is not met."):
    return {"answer": answer, "links": {"page": "https://lockkeeper.example/admin/7/", "promotion": "…"}}


def build(collected=True, release=True, status="SUCCEEDED", problem="", reports=()):
    return {
        "id": 3,
        "codebuild_id": "lockkeeper:1234",
        "status": status,
        "problem": problem,
        "log_url": "https://logs.example/1",
        "collected_at": "2026-01-01T00:00:00Z" if collected else None,
        "final": collected,
        "release": {"id": 5, "version": "0.1.0+abc", "digest": "d" * 64} if release else None,
        "reports": list(reports),
    }


def report(**changes):
    counts = {"passed": 0, "failed": 0, "errors": 0, "skipped": 0, "unknown": 0}
    return {"name": "lockkeeper-unit", "complete": True, "problem": "", **counts, **changes}


def reply(data, **headers):
    return Reply(200, data, {name.replace("_", "-"): value for name, value in headers.items()})


def problem(status, detail, errors=(), **headers):
    data = {"type": "about:blank", "title": "Title", "status": status, "detail": detail}
    if errors:
        data["errors"] = list(errors)
    return Reply(status, data, {name.replace("_", "-"): value for name, value in headers.items()})


class TestRegisterBuild:
    def test_it_waits_for_the_evidence_and_prints_the_release(self, server, run, monkeypatch):
        monkeypatch.delenv("BUILD_URL", raising=False)
        server.on("POST", "builds/", Reply(201, build(collected=False, release=False, status="IN_PROGRESS")))
        server.on(
            "GET",
            "builds/3/",
            reply(build(collected=False, release=False, status="IN_PROGRESS"), Retry_After="3"),
            reply(build(reports=[report(passed=700, skipped=2)])),
        )
        result = run(
            "register-build", "--service", "lockkeeper", "--build", "lockkeeper:1234", "--commit", "a" * 40
        )
        assert (result.code, result.out) == (0, "5\n")
        assert "build IN_PROGRESS" in result.err
        assert "report lockkeeper-unit: 700 passed, 2 skipped" in result.err
        assert server.requests[0].body == {
            "service": "lockkeeper",
            "codebuild_id": "lockkeeper:1234",
            "commit": "a" * 40,
        }

    def test_the_run_of_the_pipeline_is_sent_along(self, server, run, monkeypatch):
        server.on("POST", "builds/", Reply(201, build()))
        server.on("GET", "builds/3/", reply(build()))
        monkeypatch.setenv("BUILD_URL", "https://jenkins.example/job/web/7/")
        register = ("register-build", "--service", "x", "--build", "p:1")
        assert run(*register).code == 0
        assert run(*register, "--pipeline-url", "https://ci.example/9").code == 0
        sent = [request.body["pipeline_url"] for request in server.requests if request.method == "POST"]
        assert sent == ["https://jenkins.example/job/web/7/", "https://ci.example/9"]

    def test_a_build_without_a_bundle_is_an_error_with_its_log(self, server, run):
        broken = build(release=False, status="FAILED", problem="Phase BUILD failed:\n lint")
        server.on("POST", "builds/", Reply(201, broken))
        server.on("GET", "builds/3/", reply(broken))
        result = run("register-build", "--service", "lockkeeper", "--build", "lockkeeper:1234")
        assert (result.code, result.out) == (1, "")
        assert (
            "error: there is no release: Phase BUILD failed: lint; log: https://logs.example/1" in result.err
        )

    def test_evidence_that_does_not_come_ends_with_its_own_code(self, server, run):
        server.on("POST", "builds/", Reply(201, build(collected=False)))
        server.on("GET", "builds/3/", reply(build(collected=False), Retry_After="1"))
        result = run("register-build", "--service", "x", "--build", "p:1", "--timeout", "0.05")
        assert result.code == 14
        assert "was not complete after 0 s" in result.err

    def test_an_incomplete_report_says_why(self, server, run):
        server.on("POST", "builds/", Reply(201, build()))
        server.on(
            "GET", "builds/3/", reply(build(reports=[report(complete=False, problem="500 of 900 cases")]))
        )
        assert "incomplete: 500 of 900 cases" in run("register-build", "--service", "x", "--build", "p:1").err

    def test_registering_is_repeated_when_its_answer_is_lost(self, server, run):
        server.on("POST", "builds/", Reply(cut=True), Reply(502), Reply(200, build()))
        server.on("GET", "builds/3/", reply(build()))
        assert run("register-build", "--service", "x", "--build", "p:1").code == 0
        assert len(server.paths("POST")) == 3


class TestPromote:
    @pytest.mark.parametrize(
        ("verdict", "code"),
        [
            ("pass", 0),
            ("overridden", 0),
            ("blocked", 10),
            ("waiting_human", 11),
            ("waiting_time", 12),
            ("inconclusive", 13),
            ("waiting_evidence", 14),
            (None, 14),
        ],
    )
    def test_without_waiting_the_verdict_is_the_exit_code(self, server, run, verdict, code):
        server.on("GET", LISTING, reply({"results": []}))
        server.on("POST", "promotions/", Reply(201, promotion(verdict=verdict)))
        result = run("promote", "--release", "5", "--environment", "staging")
        assert (result.code, result.out) == (code, "7\n")

    def test_it_waits_until_the_release_has_arrived(self, server, run):
        server.on("GET", LISTING, reply({"results": []}))
        server.on("POST", "promotions/", Reply(201, promotion()))
        server.on(
            "GET",
            PROMOTION,
            reply(promotion(verdict="waiting_evidence", findings=[finding("waiting_evidence")]), ETag='"1"'),
            reply(promotion("deploying", "pass", [finding()]), ETag='"2"'),
            reply(promotion("verifying", "pass", [finding()]), ETag='"3"'),
            reply(promotion("succeeded", "pass", [finding()]), ETag='"4"'),
        )
        result = run("promote", "--release", "5", "--environment", "staging", "--wait")
        assert result.code == 0
        shown = [line.split(" ", 1)[1] for line in result.err.splitlines()]
        assert shown[1:] == [
            "staging: pending, the gate says waiting_evidence",
            "  waiting_evidence built_as_defined: The build ran as defined.",
            "staging: deploying, the gate says pass",
            "  pass             built_as_defined: The build ran as defined.",
            "staging: verifying, the gate says pass",
            "staging: succeeded, the gate says pass",
        ]

    def test_it_says_what_holds_up_a_release_that_has_passed(self, server, run):
        held = {**promotion("deploying", "pass"), "waits_for": "The deployment waits: Rate exceeded"}
        server.on("GET", PROMOTION, reply(held), reply(promotion("succeeded", "pass")))
        assert "  The deployment waits: Rate exceeded" in run("wait", "--promotion", "7").err

    def test_it_asks_with_the_etag_and_shows_nothing_twice(self, server, run):
        same = reply(promotion("deploying", "pass", [finding()]), ETag='"1"')
        server.on("GET", PROMOTION, same, same, same, reply(promotion("succeeded", "pass"), ETag='"2"'))
        result = run("wait", "--promotion", "7")
        assert result.code == 0
        assert [request.headers.get("If-None-Match") for request in server.requests] == [
            None,
            '"1"',
            '"1"',
            '"1"',
        ]
        assert result.err.count("deploying") == 1

    @pytest.mark.parametrize(
        ("verdict", "code"),
        [("blocked", 10), ("waiting_human", 11), ("waiting_time", 12), ("inconclusive", 13)],
    )
    def test_it_stops_where_waiting_does_not_help(self, server, run, verdict, code):
        server.on(
            "GET",
            PROMOTION,
            reply(promotion(verdict=verdict, findings=[finding(verdict, who="an approver")])),
        )
        result = run("wait", "--promotion", "7")
        assert result.code == code
        assert "(asked: an approver)" in result.err

    def test_it_goes_on_through_what_it_is_told_to(self, server, run):
        server.on(
            "GET",
            PROMOTION,
            reply(promotion(verdict="waiting_human")),
            reply(promotion(verdict="waiting_time")),
            reply(promotion("succeeded", "pass")),
        )
        assert run("wait", "--promotion", "7", "--through", "human", "--through", "time").code == 0

    def test_waiting_for_a_person_ends_in_time_with_code_11(self, server, run):
        server.on("GET", PROMOTION, reply(promotion(verdict="waiting_human"), Retry_After="1"))
        result = run("wait", "--promotion", "7", "--through", "human", "--timeout", "0.05")
        assert result.code == 11

    def test_a_deployment_that_takes_too_long_is_an_error(self, server, run):
        server.on("GET", PROMOTION, reply(promotion("deploying", "pass"), Retry_After="1"))
        result = run("wait", "--promotion", "7", "--timeout", "0.05")
        assert result.code == 1
        assert "did not come to its end" in result.err

    @pytest.mark.parametrize(
        ("status", "code"),
        [("failed", 1), ("errored", 1), ("rejected", 10), ("cancelled", 1), ("superseded", 1)],
    )
    def test_a_bad_end_is_told_with_its_reason(self, server, run, status, code):
        server.on(
            "GET", PROMOTION, reply(promotion(status, "pass", reason="ApplicationStart failed\non web-1"))
        )
        result = run("wait", "--promotion", "7")
        assert result.code == code
        assert f"promotion 7 {status}: ApplicationStart failed on web-1" in result.err

    def test_explain_says_where_it_stands_and_asks_once(self, server, run):
        server.on("GET", PROMOTION, reply(promotion("deploying", "pass", [finding()])))
        assert run("explain", "--promotion", "7").code == 0
        assert len(server.requests) == 1


class TestALostAnswer:
    def test_a_promotion_that_was_made_is_found_and_not_made_again(self, server, run):
        older = {**promotion("succeeded"), "id": 2}
        server.on("GET", LISTING, reply({"results": [older]}), reply({"results": [promotion(), older]}))
        server.on("POST", "promotions/", Reply(cut=True))
        server.on("GET", PROMOTION, reply(promotion("succeeded", "pass")))
        result = run("promote", "--release", "5", "--environment", "staging", "--wait")
        assert (result.code, result.out) == (0, "7\n")
        assert len(server.paths("POST")) == 1

    def test_a_promotion_that_was_not_made_is_asked_for_again(self, server, run):
        server.on("GET", LISTING, reply({"results": []}))
        server.on("POST", "promotions/", Reply(504), Reply(201, promotion(verdict="pass")))
        assert run("promote", "--release", "5", "--environment", "staging").code == 0
        assert len(server.paths("POST")) == 2


class TestAServerThatIsAway:
    def test_it_is_tried_again_as_retry_after_says(self, server, run):
        away = problem(503, "AWS does not answer.", Retry_After="3")
        server.on("GET", PROMOTION, away, away, reply(promotion("succeeded")))
        result = run("wait", "--promotion", "7")
        assert result.code == 0
        assert result.err.count("AWS does not answer. (HTTP 503); trying again in 3 s") == 2

    def test_a_date_in_retry_after_is_understood(self, server, run):
        away = problem(503, "Away.", Retry_After=formatdate(time.time() + 30, usegmt=True))
        server.on("GET", PROMOTION, away, reply(promotion("succeeded")))
        assert re.search(r"trying again in (29|30) s", run("wait", "--promotion", "7").err)

    def test_patience_is_bounded(self, server, run):
        server.on("GET", PROMOTION, problem(503, "Away."))
        result = run("wait", "--promotion", "7", "--patience", "2")
        assert result.code == 1
        assert "error: Away. (HTTP 503) (given up after 2 s)" in result.err

    def test_a_refused_connection_is_named(self, server, run, monkeypatch):
        server.close()
        result = run("explain", "--promotion", "7", "--patience", "1")
        assert result.code == 1
        assert f"{server.url} does not answer: [Errno 111] Connection refused" in result.err

    def test_a_proxys_page_is_recognised(self, server, run):
        server.on("GET", PROMOTION, Reply(200, raw=b"<html>Sign in</html>"))
        result = run("explain", "--promotion", "7")
        assert result.code == 1
        assert "the answer is not one of this API" in result.err

    def test_a_redirect_is_refused_and_the_token_stays(self, server, run):
        server.on("GET", PROMOTION, Reply(302, headers={"Location": "https://elsewhere.example/"}))
        result = run("explain", "--promotion", "7")
        assert result.code == 1
        assert "redirects to https://elsewhere.example/" in result.err
        assert len(server.requests) == 1


class TestRefusals:
    def test_problem_details_become_one_line(self, server, run):
        errors = [{"pointer": "#/environment", "detail": "lockkeeper has no environment 'prod'."}]
        server.on("GET", "promotions/?release=5&environment=prod", reply({"results": []}))
        server.on("POST", "promotions/", problem(400, "Some fields are wrong.", errors))
        result = run("promote", "--release", "5", "--environment", "prod")
        assert result.code == 1
        assert result.err.splitlines()[-1].endswith(
            "error: Some fields are wrong. [#/environment: lockkeeper has no environment 'prod'.] (HTTP 400)"
        )

    def test_an_unknown_promotion_is_not_asked_for_again(self, server, run):
        assert "no /api/v1/promotions/7/ here (HTTP 404)" in run("explain", "--promotion", "7").err
        assert len(server.requests) == 1

    def test_the_token_is_sent_and_never_shown(self, server, run):
        server.on("GET", PROMOTION, problem(401, "This token has expired."))
        result = run("explain", "--promotion", "7")
        assert server.requests[0].headers["Authorization"] == "Bearer lk_secret"
        assert "expired" in result.err
        assert "lk_secret" not in result.out + result.err

    @pytest.mark.parametrize(
        ("environment", "message"),
        [
            ({"LOCKKEEPER_URL": ""}, "LOCKKEEPER_URL is not set"),
            ({"LOCKKEEPER_URL": "lockkeeper.example.com"}, "is not an address such as"),
            ({"LOCKKEEPER_URL": "ftp://lockkeeper.example.com"}, "is not an address such as"),
            ({"LOCKKEEPER_URL": "https://user@lockkeeper.example.com"}, "may have no user"),
            ({"LOCKKEEPER_TOKEN": ""}, "no token: set LOCKKEEPER_TOKEN"),
            ({"LOCKKEEPER_TOKEN": "lk_two words"}, "the token holds a blank"),
            ({"LOCKKEEPER_TOKEN_FILE": "/nowhere/token"}, "both set: unset one"),
            ({"LOCKKEEPER_TOKEN": "", "LOCKKEEPER_TOKEN_FILE": "/nowhere/token"}, "No such file"),
        ],
    )
    def test_wrong_settings_are_named(self, run, monkeypatch, environment, message):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        result = run("explain", "--promotion", "7")
        assert result.code == 1
        assert message in result.err

    def test_a_token_file_is_read(self, server, run, monkeypatch, tmp_path):
        (tmp_path / "token").write_text("lk_from_file\n")
        monkeypatch.delenv("LOCKKEEPER_TOKEN")
        monkeypatch.setenv("LOCKKEEPER_TOKEN_FILE", str(tmp_path / "token"))
        server.on("GET", PROMOTION, reply(promotion("succeeded")))
        assert run("explain", "--promotion", "7").code == 0
        assert server.requests[0].headers["Authorization"] == "Bearer lk_from_file"


class TestReports:
    FINDINGS = (
        finding(),
        finding("blocked", "max_failures", "2 tests failed | test_a\x00", "the author"),
        finding("waiting_human", "approved_by_other", "Nobody has approved.", "an approver"),
    )

    def test_findings_are_written_three_ways(self, server, run, tmp_path):
        server.on("GET", PROMOTION, reply(promotion(verdict="blocked", findings=self.FINDINGS)))
        assert run("explain", "--promotion", "7", "--reports", str(tmp_path / "new")).code == 10
        files = sorted(path.name for path in (tmp_path / "new").iterdir())
        assert files == [f"promotion-staging.{each}" for each in ("json", "md", "pause", "title", "xml")]
        assert json.loads((tmp_path / "new" / files[0]).read_text())["verdict"] == "blocked"
        assert (
            r"| blocked | max_failures | 2 tests failed \| test_a"
            in (tmp_path / "new" / files[1]).read_text()
        )
        suite = ET.parse(tmp_path / "new" / files[4]).getroot()  # noqa: S314  # we wrote it
        assert [[child.tag for child in case] for case in suite] == [[], ["failure"], ["skipped"]]
        assert suite[1][0].get("message") == "2 tests failed | test_a\ufffd"

    def test_they_say_what_it_comes_to_and_link_to_the_page(self, server, run, tmp_path):
        waiting = finding("waiting_time", "windows", "It is Sunday.")
        waiting["earliest"] = "2026-03-02T08:00:00+00:00"
        told = promotion(verdict="blocked", findings=[*self.FINDINGS, waiting])
        told["links"] = {"page": "https://lockkeeper.example/admin/7/"}
        server.on("GET", PROMOTION, reply(told))
        server.on("GET", f"{PROMOTION}explanation/", reply(explanation("3 of 4 conditions are not met.")))
        result = run("explain", "--promotion", "7", "--reports", str(tmp_path))
        assert result.code == 10
        shown = result.err.splitlines()
        assert shown[-2].endswith(" 3 of 4 conditions are not met.")
        assert shown[-1].endswith(" the whole answer: https://lockkeeper.example/admin/7/")
        assert "It is Sunday. (not before 2026-03-02T08:00:00+00:00)" in result.err
        page = (tmp_path / "promotion-staging.md").read_text()
        assert "\n3 of 4 conditions are not met.\n" in page
        assert "\n[Promotion 7 in Lockkeeper](https://lockkeeper.example/admin/7/)\n" in page
        assert "| waiting_time | windows | It is Sunday. |  | 2026-03-02T08:00:00+00:00 |" in page
        suite = ET.parse(tmp_path / "promotion-staging.xml").getroot()  # noqa: S314  # we wrote it
        assert suite[1][0].text == "asked: the author\nhttps://lockkeeper.example/admin/7/"
        stored = json.loads((tmp_path / "promotion-staging.json").read_text())
        assert stored["explanation"]["answer"] == "3 of 4 conditions are not met."

    @pytest.mark.parametrize(
        ("earliest", "pause"),
        [
            ((), 60),
            ((None,), 60),
            ((-60,), 10),
            ((30, 90.5), 91),
            ((90, None), 90),
            ((3600,), 600),
        ],
    )
    def test_they_say_how_long_nobody_need_ask(self, client_module, earliest, pause):
        now = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
        findings = [finding("blocked", "not_pinned", "It is pinned.")]
        for seconds in earliest:
            findings.append(finding("waiting_time", "soaked", "It soaks."))
            if seconds is not None:
                findings[-1]["earliest"] = (now + timedelta(seconds=seconds)).isoformat()
        assert client_module.pause(promotion(verdict="waiting_time", findings=findings), now) == pause

    def test_without_an_explanation_the_code_is_the_same(self, server, run):
        server.on("GET", PROMOTION, reply(promotion(verdict="blocked")))
        server.on("GET", f"{PROMOTION}explanation/", problem(503, "Away."))
        result = run("explain", "--promotion", "7")
        assert result.code == 10
        assert "no explanation: Away. (HTTP 503) (given up after 10 s)" in result.err

    def test_they_are_there_while_it_still_waits(self, server, run, tmp_path, monkeypatch, client_module):
        written = []
        write = client_module.write_reports

        def noted(promotion, *rest):
            written.append(promotion["status"])
            write(promotion, *rest)

        monkeypatch.setattr(client_module, "write_reports", noted)
        server.on(
            "GET",
            PROMOTION,
            reply(promotion(verdict="waiting_evidence"), ETag='"1"'),
            reply(promotion("deploying", "pass"), ETag='"2"'),
            reply(promotion("succeeded", "pass"), ETag='"3"'),
        )
        assert run("wait", "--promotion", "7", "--reports", str(tmp_path)).code == 0
        assert written == ["pending", "deploying", "succeeded", "succeeded"]

    @pytest.mark.parametrize(
        ("told", "title"),
        [
            (
                promotion(verdict="blocked", findings=FINDINGS),
                "blocked: max_failures: 2 tests failed | test_a\ufffd",
            ),
            (
                promotion(verdict="waiting_human", findings=[FINDINGS[0], FINDINGS[2]]),
                "waiting for a person: approved_by_other: Nobody has approved: an approver",
            ),
            (promotion(verdict="inconclusive"), "inconclusive"),
            (promotion(), "not judged yet"),
            (
                promotion("rejected", "blocked", reason="Rejected by ben:\nno."),
                "rejected: Rejected by ben: no.",
            ),
            (promotion("failed", "pass", reason="x" * 500), "failed: " + "x" * 111 + "…"),
            (promotion("succeeded", "pass"), "succeeded"),
        ],
    )
    def test_the_title_says_the_worst_in_one_line(self, client_module, told, title):
        assert client_module.entitle(told) == title

    def test_a_folder_that_cannot_be_written_is_named(self, server, run, tmp_path):
        (tmp_path / "file").touch()
        server.on("GET", PROMOTION, reply(promotion("succeeded")))
        result = run("explain", "--promotion", "7", "--reports", str(tmp_path / "file" / "below"))
        assert result.code == 1
        assert f"{tmp_path}/file/below: Not a directory" in result.err


def test_it_is_written_for_python_3_9_and_its_standard_library():
    tree = ast.parse(CLIENT.read_text(), feature_version=(3, 9))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= sys.stdlib_module_names


@pytest.mark.integration
def test_it_runs_by_itself_and_ends_on_term(server, tmp_path):
    server.on("GET", PROMOTION, reply(promotion("deploying", "pass"), Retry_After="30"))
    environment = {"PATH": "/usr/bin:/bin", "LOCKKEEPER_URL": server.url, "LOCKKEEPER_TOKEN": "lk_x"}
    with subprocess.Popen(
        [sys.executable, CLIENT, "wait", "--promotion", "7"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as process:
        assert "deploying" in process.stderr.readline()
        process.terminate()
        assert process.wait(5) == 128 + 15
        assert process.stderr.read() == ""
