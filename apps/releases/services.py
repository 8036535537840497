"""Make releases of the bundles that builds have published."""

import errno
import re
import tempfile
from typing import IO, cast

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from apps.aws import s3
from apps.aws.errors import AwsError
from apps.aws.s3 import Downloaded, ObjectInfo
from apps.builds.models import Build
from apps.catalog.models import Service
from apps.errors import Invalid, NotFound, Unavailable
from apps.ledger.services import record
from apps.releases.manifest import Manifest
from apps.releases.models import BundleLook, Release
from apps.releases.verify import read_bundle

# Wheels of a large service are some 100 MB. Beyond this a bundle is not read.
SIZE_LIMIT = 2 * 1024**3  # bytes
SHORTEST_DIGEST = 8  # characters


def find_release(*, service: Service, name: str) -> Release:
    """The service's release of that version, digest (or its first 8 digits or more) or id."""
    releases = Release.objects.filter(service=service)
    match = Q(version=name) | Q(digest=name)
    if len(name) >= SHORTEST_DIGEST:
        match |= Q(digest__startswith=name)
    if name.isdecimal() and len(name) < SHORTEST_DIGEST:
        match |= Q(pk=int(name))
    found = list(releases.filter(match).order_by("-id")[:2])
    if not found:
        newest = ", ".join(releases.order_by("-id").values_list("version", flat=True)[:5]) or "none"
        raise NotFound(f"{service.slug} has no release {name!r}. Newest: {newest}.")
    if len(found) > 1:
        raise Invalid(f"{name!r} is more than one release of {service.slug}: give the digest or the id.")
    return found[0]


def register_release(*, build: Build) -> Release:
    """Make a release of the bundle that a build says it published, after reading and measuring it.

    What the build exported only says where to look: digest, eTag, manifest and every file are computed
    and compared here. The same bundle from a newer build is the same release, which then stands on the
    newer build's evidence. A bundle that does not hold what it says is written down as the build's
    ``problem`` and raises Invalid, with nothing else written; AwsError and Unavailable when S3 or the
    disk are in the way, which says nothing about the bundle.
    """
    try:
        where = _exported(build)
        existing = Release.objects.filter(service=build.service_id, digest=where.digest).first()
        if existing is not None:
            _check_unchanged(existing)
            return _stand_on(existing, build)
        return _create(build, where, *_fetch(build, where))
    except Invalid as error:
        _refuse(build, str(error))
        raise


def bundle_problem(release: Release) -> str:
    """How the bundle in S3 differs from the one that was registered; empty where it does not.

    A version in S3 cannot be overwritten, but it can be deleted. AwsError when S3 gives no answer.
    """
    where = f"s3://{release.bucket}/{release.key}"
    try:
        told = s3.head(bucket=release.bucket, key=release.key, version=release.object_version)
    except AwsError as error:
        if s3.is_missing(error):
            return f"The bundle of release {release.version} is gone from {where}."
        raise
    if (told.version, told.etag, told.size) != (release.object_version, release.etag, release.size):
        return (
            f"S3 has version {told.version or 'none'} of {where} now, with eTag {told.etag} and {told.size:,}"
            f" bytes; release {release.version} was registered with version {release.object_version}, eTag "
            f"{release.etag} and {release.size:,} bytes."
        )
    return ""


def look_at_bundle(*, release: Release) -> BundleLook:
    """Ask S3 for a release's bundle, and write down what it says, also that it says nothing.

    The ledger tells of each turn. Call it with no transaction open: S3 may take seconds.
    """
    asked_at = timezone.now()
    problem = failure = ""
    try:
        problem = bundle_problem(release)
    except AwsError as error:
        failure = str(error)
    with transaction.atomic():
        # In place, since another may look at the same time.
        BundleLook.objects.bulk_create([BundleLook(release=release)], ignore_conflicts=True)
        look = BundleLook.objects.select_for_update(no_key=True).get(release=release)
        if look.asked_at is not None and look.asked_at > asked_at:
            return look
        turned = not failure and problem != look.problem
        look.asked_at = asked_at
        look.failure = failure
        look.failing_since = (look.failing_since or asked_at) if failure else None
        if not failure:
            look.since = asked_at if turned or look.since is None else look.since
            look.problem = problem
        look.save(update_fields=["asked_at", "problem", "since", "failing_since", "failure"])
        if turned:
            record(
                chain=release.service.slug,
                action="release.bundle_changed" if problem else "release.bundle_intact_again",
                subject=f"release:{release.pk}",
                data={"digest": release.digest, "problem": problem},
            )
    return look


class _Where:
    """Where a build says that its bundle lies."""

    def __init__(self, *, bucket: str, key: str, version: str, digest: str) -> None:
        self.bucket, self.key, self.version, self.digest = bucket, key, version, digest

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key} version {self.version}"


def _exported(build: Build) -> _Where:
    key = build.exports.get("LOCKKEEPER_BUNDLE_KEY", "")
    version = build.exports.get("LOCKKEEPER_BUNDLE_VERSION", "")
    digest = build.exports.get("LOCKKEEPER_BUNDLE_SHA256", "")
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise Invalid(f"LOCKKEEPER_BUNDLE_SHA256 of the build is {digest[:80]!r}, which is no SHA-256.")
    if not key.endswith(f"/{digest}.tar"):
        raise Invalid(
            f"LOCKKEEPER_BUNDLE_KEY of the build is {key[:200]!r}, which does not end in /{digest}.tar."
        )
    if not version or version == "null":
        raise Invalid("LOCKKEEPER_BUNDLE_VERSION of the build is empty: the bucket must keep versions.")
    return _Where(bucket=build.service.bucket, key=key, version=version, digest=digest)


def _fetch(build: Build, where: _Where) -> tuple[ObjectInfo, Manifest]:
    with tempfile.TemporaryFile() as file:
        stream = cast("IO[bytes]", file)
        try:
            told = s3.head(bucket=where.bucket, key=where.key, version=where.version)
            got = s3.download(
                bucket=where.bucket, key=where.key, version=where.version, into=stream, limit=SIZE_LIMIT
            )
        except s3.TooLarge as error:
            raise Invalid(f"{error}.") from error
        except AwsError as error:
            if s3.is_missing(error):
                raise Invalid(f"There is no {where}, which the build says it published.") from error
            raise
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            raise Unavailable(
                f"No space in {tempfile.gettempdir()} for the bundle {where.key}: make room there.",
                retry_after=60,
            ) from error
        _check_object(where, told, got)
        stream.seek(0)
        manifest = read_bundle(stream)
    if manifest.service != build.service.slug:
        raise Invalid(f"The bundle is of the service {manifest.service!r}, not of {build.service.slug!r}.")
    if build.commit and manifest.commit != build.commit:
        raise Invalid(f"The bundle is of commit {manifest.commit}, the build of {build.commit}.")
    return told, manifest


def _check_object(where: _Where, told: ObjectInfo, got: Downloaded) -> None:
    if got.sha256 != where.digest:
        raise Invalid(f"The digest of {where} is {got.sha256}, not {where.digest} as the build says.")
    if (told.version, got.version) != (where.version, where.version):
        raise Invalid(f"S3 gave version {got.version or 'none'} of {where.key}, not {where.version}.")
    # CodeDeploy's agent compares nothing but the eTag: it must be the one of what was read here.
    if told.etag != got.etag or (told.etag_is_md5 and told.etag != got.md5):
        raise Invalid(f"The eTag of {where} is {told.etag}, which does not match its content ({got.md5}).")


def _check_unchanged(release: Release) -> None:
    if problem := bundle_problem(release):
        raise Invalid(problem)


def _create(build: Build, where: _Where, told: ObjectInfo, manifest: Manifest) -> Release:
    with transaction.atomic():
        release, created = Release.objects.get_or_create(
            service_id=build.service_id,
            digest=where.digest,
            defaults={
                "build": build,
                "version": manifest.version,
                "commit": manifest.commit,
                "bucket": where.bucket,
                "key": where.key,
                "object_version": where.version,
                "etag": told.etag,
                "size": told.size,
                "manifest": manifest.document,
                "steps": [step.to_json() for step in manifest.steps],
            },
        )
        if created:
            record(
                chain=build.service.slug,
                action="release.registered",
                subject=f"release:{release.pk}",
                data={
                    "digest": release.digest,
                    "version": release.version,
                    "build": build.codebuild_id,
                    "object_version": release.object_version,
                },
            )
            return release
    # Another worker was faster.
    return _stand_on(release, build)


def _stand_on(release: Release, build: Build) -> Release:
    """Let a release stand on the evidence of this build, if that is newer than what it stands on."""
    if build.commit and release.commit != build.commit:
        raise Invalid(f"The bundle is of commit {release.commit}, the build of {build.commit}.")
    with transaction.atomic():
        newer = Release.objects.filter(pk=release.pk, build__lt=build.pk)
        if newer.update(build=build):
            record(
                chain=build.service.slug,
                action="release.rebuilt",
                subject=f"release:{release.pk}",
                data={"digest": release.digest, "build": build.codebuild_id},
            )
    release.refresh_from_db()
    return release


def _refuse(build: Build, problem: str) -> None:
    with transaction.atomic():
        if Build.objects.filter(pk=build.pk, problem="").update(problem=problem):
            record(
                chain=build.service.slug,
                action="release.refused",
                subject=f"build:{build.pk}",
                data={"problem": problem},
            )
