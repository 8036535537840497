"""Reports that callers send: each row of the table in docs/reports.md, and what comes of good ones."""

import gzip
import io
import json
import zipfile
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart
from django.utils import timezone
from rest_framework.exceptions import ParseError

from apps.builds import cases, files, received
from apps.builds.models import Report, ReportFile, ReportGroup, TestCase, TestResult
from apps.builds.retention import prune_batch
from apps.builds.services import collect_build
from apps.builds.signals import evidence_added
from apps.leases import take
from apps.ledger.models import Entry
from apps.ledger.services import first_broken
from tests.builds.fake import AWAY, DENIED, FakeAws, build_info, install, junit, report_info
from tests.clients import ApiClient
from tests.factories import make_build, make_member, make_service, make_user
from tests.races import all_at_once

pytestmark = pytest.mark.django_db


@pytest.fixture
def aws(monkeypatch) -> FakeAws:
    return install(monkeypatch)


@pytest.fixture
def service():
    return make_service("web", bucket="bucket")


@pytest.fixture
def build(service):
    return make_build(service)


@pytest.fixture
def client(service):
    return ApiClient(make_member(service, "developer", username="jenkins"))


def send(client, build, *sent, name="e2e", **fields):
    """Send files, each as (name, content)."""
    parts = [
        SimpleUploadedFile(each[0], each[1].encode() if isinstance(each[1], str) else each[1])
        for each in sent
    ]
    body = {"name": name, "file": parts, **fields}
    return client.post(f"/api/v1/builds/{build.pk}/reports/", body, content_type=MULTIPART_CONTENT)


def refused(response, status, *words):
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    text = response.content.decode()
    for word in words:
        assert word in text
    assert not Report.objects.exists()
    assert not TestCase.objects.exists()


def cobertura(*hits: int, file: str = "a.py") -> str:
    """A report of one file, by how often each line was run."""
    lines = "".join(f'<line number="{number}" hits="{times}"/>' for number, times in enumerate(hits, 1))
    classes = f'<class name="a" filename="{file}"><lines>{lines}</lines></class>'
    return f"<coverage><packages><package>{classes}</package></packages></coverage>"


def zipped(**members: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(f"{name}.xml", text)
    return content.getvalue()


class TestGoodOnes:
    def test_it_is_read_kept_and_marked_as_the_callers_word(self, aws, build, client):
        text = junit(passed=3, failed=1, skipped=1)
        response = send(client, build, ("a.xml", text))
        assert response.status_code == 201, response.content
        told = response.json()
        assert (told["name"], told["source"], told["asserted_by"]) == ("e2e", "asserted", "jenkins")
        assert (told["passed"], told["failed"], told["skipped"], told["parsed"]) == (3, 1, 1, 5)
        assert (told["complete"], told["status"], told["arn"]) == (True, "FAILED", None)
        file = ReportFile.objects.get()
        assert file.key == f"uploads/web/{build.pk}/{file.sha256}/a.xml"
        assert (file.version, file.size) == ("1", len(text))
        assert aws.objects["bucket", file.key] == text.encode()
        assert TestResult.objects.filter(report=told["id"]).count() == 2
        entry = Entry.objects.get(action="report.asserted")
        assert (entry.actor.username, entry.subject) == ("jenkins", f"build:{build.pk}")
        assert entry.data["files"][0]["sha256"] == file.sha256
        assert first_broken(chain="web") is None

    def test_it_is_told_once_it_is_there(self, aws, build, client, django_capture_on_commit_callbacks):
        heard = []

        def hear(build, **_) -> None:
            heard.append((build.pk, Report.objects.count()))

        evidence_added.connect(hear)
        for _ in range(2):
            with django_capture_on_commit_callbacks(execute=True):
                send(client, build, ("a.xml", junit(passed=1)))
        assert heard == [(build.pk, 1)]

    def test_it_is_among_the_builds_reports(self, aws, build, client):
        send(client, build, ("a.xml", junit(passed=1)))
        (told,) = client.get(f"/api/v1/builds/{build.pk}/").json()["reports"]
        listed = client.get(f"/api/v1/builds/{build.pk}/reports/").json()["results"]
        assert [told] == listed
        assert told["asserted_by"] == "jenkins"

    def test_several_files_gzip_and_zip_together(self, aws, build, client):
        response = send(
            client,
            build,
            ("a.xml", junit(passed=1)),
            ("b.xml.gz", gzip.compress(junit(passed=2, name="b").encode())),
            ("c.zip", zipped(c=junit(passed=3, name="c"), d=junit(failed=1, name="d"))),
            format="junitxml",
        )
        assert response.status_code == 201, response.content
        assert (response.json()["passed"], response.json()["failed"]) == (6, 1)
        assert ReportFile.objects.count() == 3

    def test_the_same_again_is_the_same_report(self, aws, build, client):
        sent = [("a.xml", junit(passed=1)), ("b.xml", junit(passed=2))]
        first = send(client, build, *sent)
        again = send(client, build, *reversed(sent))
        assert (first.status_code, again.status_code) == (201, 200)
        assert first.json() == again.json()
        assert Report.objects.count() == Entry.objects.count() == 1

    def test_other_files_under_the_name_are_refused(self, aws, build, client):
        send(client, build, ("a.xml", junit(passed=1)))
        response = send(client, build, ("a.xml", junit(passed=2)))
        assert response.status_code == 409
        assert "another name" in response.json()["detail"]
        assert Report.objects.get().passed == 1

    def test_what_was_pruned_is_not_sent_again(self, aws, service, build, client):
        send(client, build, ("a.xml", junit(passed=1)))
        before = timezone.now() + timedelta(seconds=1)
        assert prune_batch(service=service, before=before, keep=[], size=1) == 1
        response = send(client, build, ("a.xml", junit(passed=1)))
        assert response.status_code == 409
        assert "was pruned on" in response.json()["detail"]

    def test_raw_files_that_are_in_s3_already_are_taken_as_they_are(self, aws, build, client):
        aws.errors["head"] = AWAY
        assert send(client, build, ("a.xml", junit(passed=1))).status_code == 201
        Report.objects.all().delete()
        del aws.errors["head"]
        assert send(client, build, ("a.xml", junit(passed=1))).status_code == 201

    def test_a_file_that_breaks_off_is_kept_so_far_and_incomplete(self, aws, build, client):
        broken = junit(passed=2, failed=1).replace("</testsuite>", "\n<testcase name=")
        response = send(client, build, ("a.xml", broken))
        assert response.status_code == 201
        told = response.json()
        assert (told["complete"], told["parsed"], told["failed"]) == (False, 3, 1)
        assert told["problem"].startswith("a.xml: not well-formed XML")
        assert "line 2" in told["problem"]
        assert told["problem"].endswith("3 test cases were read before that")
        assert "a.xml" in ReportFile.objects.get().key

    def test_too_many_cases_are_cut_and_incomplete(self, aws, build, client, monkeypatch):
        monkeypatch.setattr(cases, "CASE_LIMIT", 4)
        told = send(client, build, ("a.xml", junit(passed=5))).json()
        assert (told["complete"], told["parsed"]) == (False, 4)
        assert "more than 4 test cases" in told["problem"]

    def test_long_names_are_cut_and_told_apart(self, aws, build, client):
        long = "x" * 10_000
        text = f'<testsuite><testcase name="{long}1"/><testcase name="{long}2"/></testsuite>'
        assert send(client, build, ("a.xml", text)).json()["passed"] == 2
        rows = TestCase.objects.order_by("ordinal").values_list("name", "ordinal")
        assert list(rows) == [("x" * 4000, 0), ("x" * 4000, 1)]

    def test_durations_that_are_none(self, aws, build, client):
        times = ("-1", "NaN", "Infinity", "1e999", "1,234.5", "")
        text = "".join(f'<testcase name="t{n}" time="{time}"/>' for n, time in enumerate(times))
        told = send(client, build, ("a.xml", f"<testsuite>{text}</testsuite>")).json()
        assert told["duration_ns"] == 1_234_500_000_000

    def test_text_that_no_database_takes(self, aws, build, client):
        step = {"result": {"status": "failed", "error_message": "a\0b\ud800"}}
        feature = [{"uri": "f", "name": "\ud800", "elements": [{"name": "s\0", "steps": [step]}]}]
        assert send(client, build, ("a.json", json.dumps(feature))).status_code == 201
        assert "\ufffd" in TestResult.objects.get().message
        assert TestCase.objects.get().name == "s\ufffd"


class TestCoverage:
    def test_it_is_read_kept_by_file_and_marked_as_the_callers_word(self, aws, build, client):
        response = send(
            client, build, ("a.xml", cobertura(1, 0)), ("b.zip", zipped(b=cobertura(1, file="b.py")))
        )
        assert response.status_code == 201, response.content
        told = response.json()
        assert (told["type"], told["source"], told["asserted_by"]) == ("CODE_COVERAGE", "asserted", "jenkins")
        assert (told["lines_covered"], told["lines_total"], told["parsed"]) == (2, 3, None)
        assert (told["complete"], told["status"], told["problem"]) == (True, "SUCCEEDED", "")
        assert ReportFile.objects.count() == 2
        assert not ReportGroup.objects.exists()
        found = client.get(f"/api/v1/builds/{build.pk}/coverage/").json()
        assert [(each["path"], each["now"]["lines_total"]) for each in found["files"]] == [
            ("a.py", 2),
            ("b.py", 1),
        ]
        entry = Entry.objects.get(action="report.asserted")
        assert (entry.data["lines_covered"], entry.data["lines_total"]) == (2, 3)

    def test_the_same_again_is_the_same_report_and_others_are_refused(self, aws, build, client):
        codes = [send(client, build, ("a.xml", cobertura(*hits))).status_code for hits in ((1,), (1,), (0,))]
        assert codes == [201, 200, 409]

    def test_tests_and_coverage_are_two_reports(self, aws, build, client):
        sent = [("a.xml", cobertura(1)), ("b.xml", junit(passed=1))]
        refused(send(client, build, *sent), 400, "two formats, COBERTURAXML and JUNITXML")
        refused(send(client, build, *reversed(sent)), 400, "two formats, COBERTURAXML and JUNITXML")
        for name, each in zip(("lines", "tests"), sent, strict=True):
            assert send(client, build, each, name=name).status_code == 201

    def test_a_bomb(self, aws, build, client, monkeypatch):
        monkeypatch.setattr(files, "BYTE_LIMIT", 100_000)
        bomb = gzip.compress(cobertura(*[1] * 10_000).encode())
        refused(send(client, build, ("a.xml.gz", bomb)), 413, "more than 100,000 bytes")


class TestBadOnes:
    @pytest.mark.parametrize(
        ("name", "content", "fields", "words"),
        [
            ("a.txt", "hello", {}, ["a.txt: it is neither XML nor JSON"]),
            ("a.xml", "<html/>", {}, ["belongs to no known format"]),
            ("a.xml", junit(passed=1), {"format": "TESTNGXML"}, ["declared as TESTNGXML", "JUNITXML"]),
            ("a.xml", junit(passed=1), {"format": "WORD"}, ["There is no format", "JUNITXML"]),
            ("a.xml", "<coverage><packages/></coverage>", {}, ["tell of no line"]),
            ("a.xml", cobertura(1)[:-9], {}, ["a.xml: not well-formed", "Nothing was kept"]),
            ("a.xml", cobertura(1), {"format": "JACOCOXML"}, ["declared as JACOCOXML", "COBERTURAXML"]),
            ("a.xml", "<testsuite/>", {}, ["No test case is in any of the files"]),
            ("a.xml", "", {}, ["a.xml: the file is empty"]),
            ("a.xml", "<testsuite><testcase", {}, ["a.xml: not well-formed", "line 1"]),
            (
                "a.xml",
                b'<?xml version="1.0" encoding="utf-8"?><testsuite name="\xff\xfe"/>',
                {},
                ["a.xml", "line"],
            ),
            ("a.json", b'[{"name": "\xff"}]', {}, ["a.json", "UTF-8"]),
            ("a.xml.gz", gzip.compress(b"x" * 100, mtime=0)[:-9], {}, ["a.xml.gz"]),
            ("a.gz", b"\x1f\x8bnothing", {}, ["a.gz"]),
            ("a.zip", b"PK\x03\x04nothing", {}, ["a.zip is not a readable ZIP archive"]),
            ("a.xml", junit(passed=1), {"nme": "x"}, ["#/nme", "Unknown field"]),
            ("a.xml", junit(passed=1), {"name": "a/b"}, ["is no name of a report"]),
            ("a.xml", junit(passed=1), {"name": "x" * 201}, ["#/name"]),
            ("a.xml", junit(passed=1), {"name": ""}, ["#/name"]),
        ],
    )
    def test_what_is_no_report_is_refused_with_the_reason(
        self, aws, build, client, name, content, fields, words
    ):
        refused(send(client, build, (name, content), **fields), 400, *words)
        assert aws.objects == {}

    def test_no_file(self, aws, build, client):
        refused(send(client, build), 400, "#/file")

    def test_two_files_of_one_name(self, aws, build, client):
        sent = [("a.xml", junit(passed=1)), ("a.xml", junit(passed=2))]
        refused(send(client, build, *sent), 400, "Two of the files are called a.xml")

    def test_two_formats(self, aws, build, client):
        sent = [("a.xml", junit(passed=1)), ("b.xml", "<test-run/>")]
        refused(send(client, build, *sent), 400, "b.xml: the report has files of two formats", "NUNIT3XML")

    def test_a_file_and_a_request_that_are_too_large(self, aws, build, client, monkeypatch):
        monkeypatch.setattr(received, "FILE_LIMIT", 1000)
        refused(send(client, build, ("a.xml", "x" * 1001)), 413, "a.xml has more than 1,000 bytes")
        monkeypatch.setattr(received, "REQUEST_LIMIT", 2000)
        refused(send(client, build, *[(f"{n}.xml", "x" * 900) for n in range(3)]), 413, "at most 2,000")

    def test_too_many_files(self, aws, build, client):
        sent = [(f"{number}.xml", junit(passed=1)) for number in range(101)]
        refused(send(client, build, *sent), 413, "At most 100 files", "ZIP")

    def test_ten_thousand_files_come_in_an_archive(self, aws, build, client, monkeypatch):
        many = zipped(**{f"f{number}": junit(passed=1) for number in range(1001)})
        assert send(client, build, ("a.zip", many)).json()["passed"] == 1001
        Report.objects.all().delete()
        TestCase.objects.all().delete()
        monkeypatch.setattr(files, "FILE_LIMIT", 1000)
        refused(send(client, build, ("a.zip", many)), 413, "a.zip has more than 1,000 files")

    @pytest.mark.parametrize("pack", [gzip.compress, lambda text: zipped(a=text.decode())])
    def test_bombs(self, aws, build, client, monkeypatch, pack):
        monkeypatch.setattr(files, "BYTE_LIMIT", 1 << 20)
        bomb = pack(f"<testsuite>{' ' * (1 << 22)}{junit(passed=1)}</testsuite>".encode())
        assert len(bomb) < 20_000
        refused(send(client, build, ("a.bomb", bomb)), 413, "a.bomb", "unpacks to more than 1,048,576 bytes")
        assert aws.objects == {}

    def test_a_request_that_breaks_off(self):
        """By the parser alone: the test client sends no less than it announces."""
        parts = [SimpleUploadedFile(f"{n}.xml", junit(passed=1).encode()) for n in "ab"]
        body = encode_multipart(BOUNDARY, {"name": "e2e", "file": parts})
        request = SimpleNamespace(META={"CONTENT_LENGTH": str(len(body))})
        whole = received.ReportsParser().parse(io.BytesIO(body), MULTIPART_CONTENT, {"request": request})
        assert len(whole.files.getlist("file")) == 2
        # The first file is there to its end.
        cut = io.BytesIO(body[: body.rindex(BOUNDARY.encode(), 0, body.index(b"b.xml"))])
        with pytest.raises(ParseError, match="broke off after"):
            received.ReportsParser().parse(cut, MULTIPART_CONTENT, {"request": request})

    def test_what_is_no_form(self, aws, build, client):
        path = f"/api/v1/builds/{build.pk}/reports/"
        refused(client.post(path, {"name": "x"}), 415)
        refused(client.post(path, b"x", content_type="multipart/form-data"), 400, "no form with files")
        refused(client.generic("POST", path, b"x", content_type=MULTIPART_CONTENT), 400, "#/name", "#/file")

    @pytest.mark.parametrize(("error", "wait"), [(AWAY, "5"), (DENIED, "60")])
    def test_s3_away(self, aws, build, client, error, wait):
        aws.errors["put_if_absent"] = error
        response = send(client, build, ("a.xml", junit(passed=1)))
        refused(response, 503, "nothing was written")
        assert response["Retry-After"] == wait


class TestWho:
    def test_a_build_of_another_service(self, aws, client):
        refused(send(client, make_build(), ("a.xml", junit(passed=1))), 404)

    def test_a_stranger_a_viewer_and_another_scope(self, aws, service, build):
        sent = ("a.xml", junit(passed=1))
        refused(send(ApiClient(make_user()), build, sent), 404)
        refused(send(ApiClient(make_member(service, "viewer", "approver")), build, sent), 403, "developer")
        refused(send(ApiClient(make_member(service, "developer"), "read"), build, sent), 403, "ci")
        assert aws.asked == []

    def test_the_list_needs_no_query_per_report(self, aws, build, client, django_assert_num_queries):
        for number in range(3):
            send(client, build, ("a.xml", junit(passed=1)), name=f"e2e-{number}")
        # 1: token with user  2: reports with who sent them
        with django_assert_num_queries(2):
            assert len(client.get(f"/api/v1/builds/{build.pk}/reports/").json()["results"]) == 3


class TestBesideCodeBuilds:
    def test_nobody_takes_the_name_of_a_report_of_codebuild(self, aws, service, client):
        aws.put("reports/web-unit/id-1/a.xml", junit(passed=3))
        aws.add(build_info(), report_info(total=3))
        build = make_build(
            service,
            codebuild_id="web:1",
            status="IN_PROGRESS",
            finished_at=None,
            collected_at=None,
            deviations=None,
        )
        assert send(client, build, ("a.xml", junit(passed=9)), name="web-unit").status_code == 201
        lease = take(type(build).objects.filter(pk=build.pk), owner="me", duration=timedelta(seconds=30))
        collect_build(build=build, lease=lease)
        found = {report.name: (report.source, report.passed) for report in Report.objects.all()}
        asserted = Report.objects.get(source="asserted")
        assert found == {
            "web-unit": ("codebuild", 3),
            f"web-unit (asserted, {asserted.pk})": ("asserted", 9),
        }
        response = send(client, build, ("a.xml", junit(passed=9)), name="web-unit")
        assert response.status_code == 409

    def test_the_history_of_a_case_is_one_whoever_tells_it(self, aws, service, client):
        for _ in range(2):
            send(client, make_build(service), ("a.xml", junit(passed=2)), name="unit")
        assert ReportGroup.objects.get().reports.count() == 2
        assert TestCase.objects.count() == 2


@pytest.mark.integration
@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def test_ten_different_reports_of_one_build_lose_nothing(self, aws):
        service = make_service("web", bucket="bucket")
        build, user = make_build(service), make_member(service, "developer")
        clients = [ApiClient(user) for _ in range(10)]

        def job(number: int):
            # Names in common, in another order each, and some of its own.
            names = [f"shared{(number * 7 + step) % 50}" for step in range(50)] + [f"own{number}"]
            text = "".join(f'<testcase name="{name}"/>' for name in names)
            report = (f"{number}.xml", f"<testsuite>{text}</testsuite>")
            return lambda: send(clients[number], build, report, name=f"e2e-{number % 5}-{number // 5}")

        answers = all_at_once(*map(job, range(10)))
        assert [answer.status_code for answer in answers] == [201] * 10
        assert sorted(Report.objects.values_list("passed", flat=True)) == [51] * 10
        assert Entry.objects.count() == 10
        assert first_broken(chain="web") is None

    def test_ten_builds_report_to_one_group(self, aws):
        service = make_service("web", bucket="bucket")
        user = make_member(service, "developer")
        clients = [ApiClient(user) for _ in range(10)]
        builds = [make_build(service) for _ in range(10)]

        def job(number: int):
            names = [f"t{(number * 31 + step) % 120}" for step in range(80)]
            text = "".join(f'<testcase name="{name}"/>' for name in names)
            return lambda: send(clients[number], builds[number], ("a.xml", f"<testsuite>{text}</testsuite>"))

        answers = all_at_once(*map(job, range(10)))
        assert [answer.status_code for answer in answers] == [201] * 10
        group = ReportGroup.objects.get()
        positions = sorted(group.cases.values_list("position", flat=True))
        assert positions == list(range(group.size))
        assert group.size == 120

    def test_the_same_report_ten_times_at_once_is_one(self, aws):
        service = make_service("web", bucket="bucket")
        build, user = make_build(service), make_member(service, "developer")
        clients = [ApiClient(user) for _ in range(10)]
        text = junit(passed=50, failed=2)
        answers = all_at_once(
            *(lambda client=client: send(client, build, ("a.xml", text)) for client in clients)
        )
        assert sorted(answer.status_code for answer in answers) == [200] * 9 + [201]
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert Report.objects.count() == Entry.objects.count() == 1
        assert TestResult.objects.count() == 2
