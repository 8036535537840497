"""Cucumber JSON: what counts as what, backgrounds and hooks, large embeddings, and what is refused."""

import io
import json
from itertools import chain, repeat

import pytest

from apps.builds.parsers import cucumber
from apps.builds.parsers.case import Case, Outcome
from apps.builds.parsers.errors import ReportRefused
from tests.builds.reading import Endless, read


def step(status="passed", **more):
    return {"keyword": "Given ", "name": "a", "result": {"status": status, "duration": 5}} | more


def scenario(*steps, **more):
    return {"type": "scenario", "keyword": "Scenario", "name": "s", "line": 3, "steps": list(steps)} | more


def background(*steps):
    return scenario(*steps, type="background", keyword="Background", name="")


def feature(*elements, **more):
    return {"uri": "f.feature", "keyword": "Feature", "name": "F", "elements": list(elements)} | more


def found(*features):
    return read(cucumber, json.dumps(features))


def test_a_scenario_is_a_case_of_its_feature():
    assert found(feature(scenario(step(), step()))) == [
        Case("F", "f.feature", "s", Outcome.PASSED, 10, file="f.feature", line=3)
    ]


@pytest.mark.parametrize(
    ("statuses", "outcome"),
    [
        (["passed", "passed"], Outcome.PASSED),
        (["passed", "skipped"], Outcome.SKIPPED),
        (["failed", "skipped"], Outcome.FAILED),
        (["Failed"], Outcome.FAILED),
        (["pending"], Outcome.FAILED),
        (["passed", "undefined"], Outcome.FAILED),
        (["ambiguous"], Outcome.FAILED),
        (["splendid"], Outcome.UNKNOWN),
        (["skipped", "splendid"], Outcome.UNKNOWN),
        ([None], Outcome.UNKNOWN),
        ([], Outcome.UNKNOWN),
    ],
)
def test_the_gravest_step_counts(statuses, outcome):
    (case,) = found(feature(scenario(*map(step, statuses))))
    assert case.outcome is outcome


def test_a_step_without_a_result_is_unknown():
    for result in (None, [], "passed", {}):
        (case,) = found(feature(scenario(step(), step(result=result))))
        assert case.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("when", ["before", "after"])
def test_hooks_around_scenario_and_step_count(when):
    hook = {"match": {}, "result": {"status": "failed", "error_message": "boom\n at x"}}
    for failing in (scenario(step(), **{when: [hook]}), scenario(step(**{when: [hook]}))):
        (case,) = found(feature(failing))
        assert (case.outcome, case.message, case.details) == (Outcome.FAILED, "boom", "boom\n at x")


def test_a_message_is_the_error_or_names_the_step():
    (case,) = found(feature(scenario(step("failed", result={"status": "failed", "error_message": "no"}))))
    assert (case.message, case.details) == ("no", "")
    (case,) = found(feature(scenario(step("undefined"))))
    assert case.message == "undefined: Given a"


def test_what_fails_in_a_background_fails_for_the_scenario_after_it():
    cases = found(feature(background(step("failed")), scenario(step("skipped")), scenario(step())))
    assert [case.outcome for case in cases] == [Outcome.FAILED, Outcome.PASSED]
    assert cases[0].duration_ns == 10


def test_the_name_of_a_feature_can_come_after_its_scenarios():
    (case,) = read(cucumber, json.dumps([dict(reversed(feature(scenario(step())).items()))]))
    assert (case.suite, case.class_name) == ("F", "f.feature")


def test_a_feature_without_scenarios_is_no_error():
    assert found({"uri": "f", "keyword": "Feature", "name": "F"}, feature()) == []


def test_the_last_of_two_equal_keys_counts_and_nan_is_no_duration():
    text = json.dumps([feature(scenario(step()))])
    text = text.replace(
        '"status": "passed", "duration": 5', '"status": "passed", "status": "failed", "duration": NaN'
    )
    (case,) = read(cucumber, text)
    assert (case.outcome, case.duration_ns) == (Outcome.FAILED, 0)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_encodings(encoding):
    text = json.dumps([feature(scenario(step()), name="é")], ensure_ascii=False)
    (case,) = read(cucumber, text.encode(encoding))
    assert case.suite == "é"


def test_steps_with_large_embeddings_are_read_without_them():
    png = {"mime_type": "image/png", "data": "A" * 1_000_000}
    hook = {"embeddings": [png, png], "result": {"status": "failed", "error_message": "x" * 300_000}}
    (case,) = found(feature(scenario(step(embeddings=[png]), step(after=[hook]), after=[hook])))
    assert (case.outcome, len(case.details)) == (Outcome.FAILED, 4000)


def test_an_embedding_of_100_mb_is_passed_over():
    before, after = json.dumps([feature(scenario(step(embeddings=["HERE"])))]).encode().split(b"HERE")
    (case,) = cucumber.cases(Endless(chain([before], repeat(b"A" * 100_000, 1000), [after])))
    assert case.outcome is Outcome.PASSED


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("{}", "not a list of features"),
        ("[]", "lists no feature"),
        ("[1]", "an object is expected"),
        ("[{}]", "an item of the list is no feature"),
        ('[{"tests": 1}]', "an item of the list is no feature"),
        ('[{"uri": "a"}', "the file ends too early"),
        ('[{"uri": "a"}]]', "something follows its end"),
        ('[\n{"uri": "a",\n"elements": [{"name": nope}]}]', r"not well-formed JSON: .* \(line 3\)"),
        ("[" * 100_000, "an object is expected"),
        ('[{"a": ' * 100_000, "deep"),
        ('[{"uri": "a", "elements": [{"steps": [' + "[" * 100_000, "deep"),
        (b'[{"uri": "\xff"}]', "it is not UTF-8"),
        ('[{"uri": "a', "not well-formed JSON"),
        ('[{"uri": "a"; "name": 1}]', "is expected"),
        ('[{"x": [1}', "closes nothing"),
        ('[{"uri": "a", "elements": [{"line": ' + "9" * 5000 + "}]}]", "not readable JSON"),
    ],
)
def test_what_cannot_be_read_says_why(text, reason):
    with pytest.raises(ReportRefused, match=reason):
        read(cucumber, text)


def test_scenarios_of_a_feature_are_bounded(monkeypatch):
    monkeypatch.setattr(cucumber, "SCENARIO_LIMIT", 2)
    with pytest.raises(ReportRefused, match="more than 2 scenarios"):
        found(feature(*[scenario(step())] * 3))


def test_a_file_cut_anywhere_is_refused():
    text = json.dumps([feature(background(step()), scenario(step(), before=[step()]))])
    for end in range(1, len(text)):
        with pytest.raises(ReportRefused):
            list(cucumber.cases(io.BytesIO(text[:end].encode())))
