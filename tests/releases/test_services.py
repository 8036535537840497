"""Releases: made of bundles that hold what they say, and of nothing else."""

import errno
import hashlib

import pytest

from apps.aws.errors import AwsError
from apps.builds.models import Build
from apps.errors import Invalid, Unavailable
from apps.ledger.models import Entry
from apps.ledger.services import first_broken
from apps.releases import services
from apps.releases.models import BundleLook, Release
from apps.releases.services import look_at_bundle, register_release
from tests.builds.fake import AWAY, DENIED, FakeAws, install
from tests.factories import make_build, make_service
from tests.releases.trees import bundle_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def aws(monkeypatch) -> FakeAws:
    return install(monkeypatch)


@pytest.fixture
def service():
    return make_service("web", bucket="bucket")


def published(aws: FakeAws, service, body: bytes | None = None, **fields) -> Build:
    """A build that published this bundle, or a right one."""
    body = bundle_of() if body is None else body
    digest = hashlib.sha256(body).hexdigest()
    exports = {
        "LOCKKEEPER_BUNDLE_KEY": f"releases/web/{digest}.tar",
        "LOCKKEEPER_BUNDLE_VERSION": "v1",
        "LOCKKEEPER_BUNDLE_SHA256": digest,
    }
    aws.put(exports["LOCKKEEPER_BUNDLE_KEY"], body)
    return make_build(
        service, **{"commit": "a" * 40, **fields, "exports": exports | fields.get("exports", {})}
    )


def refused(build: Build, reason: str) -> None:
    """Registering says why, the build keeps it, and nothing else is there."""
    with pytest.raises(Invalid, match=reason) as caught:
        register_release(build=build)
    build.refresh_from_db()
    assert build.problem == str(caught.value)
    assert not Release.objects.exists()
    entry = Entry.objects.get()
    assert (entry.action, entry.data["problem"]) == ("release.refused", build.problem)


def test_a_right_bundle_becomes_a_release(aws, service):
    body = bundle_of()
    build = published(aws, service, body)
    release = register_release(build=build)
    assert (release.service, release.build) == (service, build)
    assert (release.version, release.commit) == ("1.2.3+aaaaaaaaaaaa", "a" * 40)
    assert release.digest == hashlib.sha256(body).hexdigest()
    assert release.etag == hashlib.md5(body, usedforsecurity=False).hexdigest()
    assert (release.bucket, release.key) == ("bucket", f"releases/web/{release.digest}.tar")
    assert (release.object_version, release.size) == ("v1", len(body))
    assert release.manifest["migrations"] == [{"app": "shop", "name": "0001_initial"}]
    entry = Entry.objects.get()
    assert (entry.action, entry.subject) == ("release.registered", f"release:{release.pk}")
    assert first_broken(chain="web") is None


def test_again_it_is_the_same_release_and_the_bundle_is_not_read_again(aws, service):
    build = published(aws, service)
    release = register_release(build=build)
    aws.asked.clear()
    assert register_release(build=build) == release
    assert aws.asked == ["head"]
    assert Entry.objects.count() == 1


def test_the_same_bundle_of_a_newer_build_stands_on_the_newer_evidence(aws, service):
    old, new = published(aws, service), published(aws, service)
    release = register_release(build=old)
    assert register_release(build=new).build == new
    assert register_release(build=old).build == new
    assert Release.objects.get() == release
    assert [entry.action for entry in Entry.objects.order_by("id")] == [
        "release.registered",
        "release.rebuilt",
    ]


def test_the_caller_need_not_have_known_the_commit(aws, service):
    assert register_release(build=published(aws, service, commit="")).commit == "a" * 40


@pytest.mark.parametrize(
    ("exports", "reason"),
    [
        ({"LOCKKEEPER_BUNDLE_SHA256": "abc"}, "LOCKKEEPER_BUNDLE_SHA256 of the build is 'abc'"),
        ({"LOCKKEEPER_BUNDLE_SHA256": ""}, "LOCKKEEPER_BUNDLE_SHA256 of the build is ''"),
        ({"LOCKKEEPER_BUNDLE_SHA256": "0" * 64}, "does not end in"),
        ({"LOCKKEEPER_BUNDLE_KEY": "x.tar"}, "LOCKKEEPER_BUNDLE_KEY of the build is 'x.tar'"),
        ({"LOCKKEEPER_BUNDLE_VERSION": ""}, "must keep versions"),
        ({"LOCKKEEPER_BUNDLE_VERSION": "null"}, "must keep versions"),
        (
            {
                "LOCKKEEPER_BUNDLE_SHA256": "0" * 64,
                "LOCKKEEPER_BUNDLE_KEY": f"releases/web/{'0' * 64}.tar",
            },
            "There is no s3://bucket/releases/web/0000.* which the build says it published",
        ),
    ],
)
def test_what_the_build_exported_must_lead_somewhere(aws, service, exports, reason):
    refused(published(aws, service, exports=exports), reason)


def test_a_bundle_with_another_digest_is_refused(aws, service):
    build = published(aws, service)
    aws.put(build.exports["LOCKKEEPER_BUNDLE_KEY"], bundle_of(version="9.9.9"))
    refused(build, "The digest of s3://bucket/releases/web/.* is [0-9a-f]{64}, not [0-9a-f]{64}")


def test_a_bundle_with_another_etag_is_refused(aws, service):
    build = published(aws, service)
    aws.etags[build.exports["LOCKKEEPER_BUNDLE_KEY"]] = "0" * 32
    refused(build, "The eTag of s3://bucket/.* is 0{32}, which does not match")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"service": "other"}, "is of the service 'other', not of 'web'"),
        ({"commit": "b" * 40}, "is of commit bbbb.*, the build of aaaa"),
        ({"schema": 7}, "schema is 7"),
        ({"files": {}}, "files must be an object"),
    ],
)
def test_a_bundle_with_another_manifest_is_refused(aws, service, fields, reason):
    refused(published(aws, service, bundle_of(**fields)), reason)


def test_what_is_no_tar_is_refused(aws, service):
    refused(published(aws, service, b"x" * 1000), "not a readable tar")


def test_a_bundle_beyond_the_limit_is_refused(aws, service, monkeypatch):
    monkeypatch.setattr(services, "SIZE_LIMIT", 100)
    refused(published(aws, service), "at most 100 are read")


def test_a_release_whose_bundle_has_gone_or_changed_is_told(aws, service):
    first = published(aws, service)
    release = register_release(build=first)
    aws.etags[release.key] = "0" * 32
    second = published(aws, service)
    with pytest.raises(Invalid, match="was registered with"):
        register_release(build=second)
    aws.objects.clear()
    third = make_build(service, exports=first.exports, commit="a" * 40)
    with pytest.raises(Invalid, match="is gone"):
        register_release(build=third)
    release.refresh_from_db()
    assert release.build == first


def test_a_newer_build_of_another_commit_does_not_take_a_release_over(aws, service):
    release = register_release(build=published(aws, service))
    with pytest.raises(Invalid, match="is of commit aaaa"):
        register_release(build=published(aws, service, commit="b" * 40))
    old = release.build
    release.refresh_from_db()
    assert release.build == old


@pytest.mark.parametrize("error", [AWAY, DENIED])
@pytest.mark.parametrize("function", ["head", "download"])
def test_s3_away_or_refusing_says_nothing_of_the_bundle(aws, service, function, error):
    build = published(aws, service)
    aws.errors[function] = error
    with pytest.raises(AwsError):
        register_release(build=build)
    build.refresh_from_db()
    assert build.problem == ""
    assert not Entry.objects.exists()
    aws.errors.clear()
    assert register_release(build=build)


def test_no_space_says_nothing_of_the_bundle(aws, service):
    build = published(aws, service)

    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    aws.meanwhile = full
    with pytest.raises(Unavailable, match="make room"):
        register_release(build=build)
    build.refresh_from_db()
    assert build.problem == ""


class TestLook:
    @pytest.fixture
    def release(self, aws, service):
        return register_release(build=published(aws, service))

    def actions(self):
        return list(Entry.objects.order_by("sequence").values_list("action", flat=True))

    def test_an_intact_bundle_is_found_so_since_the_first_look(self, aws, release):
        first = look_at_bundle(release=release)
        assert (first.problem, first.failing_since, first.since) == ("", None, first.asked_at)
        second = look_at_bundle(release=release)
        assert second.asked_at > first.asked_at
        assert second.since == first.since
        assert BundleLook.objects.count() == 1
        assert self.actions() == ["release.registered"]

    def test_a_bundle_that_is_gone_and_comes_back_turns_and_the_ledger_tells(self, aws, release):
        look_at_bundle(release=release)
        body = aws.objects.pop(("bucket", release.key))
        gone = look_at_bundle(release=release)
        assert gone.problem == (
            f"The bundle of release {release.version} is gone from s3://bucket/{release.key}."
        )
        assert gone.since == gone.asked_at
        assert look_at_bundle(release=release).since == gone.since
        aws.put(release.key, body)
        assert look_at_bundle(release=release).problem == ""
        assert self.actions()[1:] == ["release.bundle_changed", "release.bundle_intact_again"]
        assert first_broken(chain="web") is None

    @pytest.mark.parametrize(("what", "value"), [("etag", "0" * 32), ("size", 1), ("object_version", "v2")])
    def test_anything_that_differs_is_another_bundle(self, aws, release, what, value):
        aws.head_version = "v1"
        Release.objects.update(**{what: value})
        release.refresh_from_db()
        assert f"{value}" in look_at_bundle(release=release).problem

    @pytest.mark.parametrize("error", [AWAY, DENIED])
    def test_s3_saying_nothing_is_no_answer(self, aws, release, error):
        intact = look_at_bundle(release=release)
        aws.errors["head"] = error
        failing = look_at_bundle(release=release)
        assert (failing.problem, failing.since, failing.failure) == ("", intact.since, str(error))
        assert failing.failing_since == failing.asked_at
        assert look_at_bundle(release=release).failing_since == failing.failing_since
        aws.errors.clear()
        again = look_at_bundle(release=release)
        assert (again.failing_since, again.failure, again.since) == (None, "", intact.since)

    def test_a_slow_look_does_not_undo_a_later_one(self, aws, release, monkeypatch):
        def slow(release):
            monkeypatch.setattr(services, "bundle_problem", lambda release: "It is gone.")
            look_at_bundle(release=release)
            return ""

        monkeypatch.setattr(services, "bundle_problem", slow)
        look_at_bundle(release=release)
        assert BundleLook.objects.get().problem == "It is gone."
