"""Upload a build's artifacts to S3.

https://docs.aws.amazon.com/codebuild/latest/APIReference/API_ProjectArtifacts.html
"""

import hashlib
import zipfile
from pathlib import Path
from typing import Any

from apps.sandbox.codebuild.files import open_regular


def artifact_key(settings: dict[str, Any], name: str, build_uuid: str) -> str:
    """Return the object's key, or with packaging NONE the folder: `path/build id/name`."""
    parts = [settings.get("path", "")]
    if settings.get("namespaceType") == "BUILD_ID":
        parts.append(build_uuid)
    parts.append(settings.get("name") or name)
    return "/".join(part.strip("/") for part in parts if part.strip("/"))


def upload_artifacts(
    s3: Any, settings: dict[str, Any], key: str, files: list[tuple[str, Path]], scratch: Path
) -> dict[str, Any]:
    """Upload files under `key`, one by one or as one ZIP; return BatchGetBuilds' `artifacts`."""
    bucket = settings["location"]
    told: dict[str, Any] = {
        "location": f"arn:aws:s3:::{bucket}/{key}",
        "encryptionDisabled": settings.get("encryptionDisabled"),
    }
    if settings.get("packaging") != "ZIP":
        for name, path in files:
            with open_regular(path) as stream:
                s3.upload_fileobj(stream, bucket, f"{key}/{name}")
        return told
    archive = scratch / "artifacts.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for name, path in files:
            info = zipfile.ZipInfo.from_file(path, name)
            info.compress_type = zipfile.ZIP_DEFLATED
            with open_regular(path) as stream, target.open(info, "w") as member:
                while chunk := stream.read(1 << 20):
                    member.write(chunk)
    with archive.open("rb") as stream:
        told["sha256sum"] = hashlib.file_digest(stream, "sha256").hexdigest()
    with archive.open("rb") as stream:
        told["md5sum"] = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    # upload_file would hide what S3 says in an exception of its own.
    with archive.open("rb") as stream:
        s3.upload_fileobj(stream, bucket, key)
    archive.unlink()
    return told
