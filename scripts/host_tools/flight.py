"""Upload the flight records that hooks left in state/outbox to S3; lockkeeper-flight.service runs this.

Each is a link that goes once its record is in S3. What could not be uploaded stays and makes this fail, so
that the unit tries again; nothing here can delay or fail a deployment.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

# `python -I` leaves the folder of the program out.
sys.path.insert(0, str(Path(__file__).absolute().parent))

import aws
from botocore.exceptions import BotoCoreError, ClientError

OUTBOX = aws.ROOT / "srv/lockkeeper/state/outbox"
LARGEST = 64 * 1024


class NoRecordError(Exception):
    """A file that no later attempt could upload; the text says why."""


def destination(body: bytes) -> tuple[str, str]:
    """The bucket and the key of a record; raises NoRecordError."""
    if len(body) > LARGEST:
        raise NoRecordError(f"it has {len(body)} bytes, and a record has {LARGEST} at most")
    try:
        record = json.loads(body)
        names = ("application", "group", "deployment_id", "host", "event")
        parts = [str(record[name]) for name in names]
        bucket = str((record["bundle"] or {}).get("bucket") or "")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NoRecordError(f"it is no flight record ({type(error).__name__}: {error})") from None
    if not bucket:
        raise NoRecordError("its bundle came from no bucket")
    if not all(parts) or any("/" in part for part in parts):
        raise NoRecordError(f"{'/'.join(parts)} makes no key")
    return bucket, f"flight/{'/'.join(parts)}.json"


def waiting() -> list[Path]:
    """The files to upload, oldest first."""
    found = [path for path in OUTBOX.iterdir() if not path.name.startswith(".")] if OUTBOX.is_dir() else []
    return sorted(found, key=_changed)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # retention was faster
        return 0.0


def upload(path: Path, s3: Any) -> None:
    """Upload one file and take its link away; raises ClientError and BotoCoreError, the link stays then."""
    with path.open("rb") as stream:
        body = stream.read()
        read = os.fstat(stream.fileno())
    try:
        bucket, key = destination(body)
        s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json")
        print(f"{path.name}: uploaded to s3://{bucket}/{key}", flush=True)
    except NoRecordError as error:
        print(f"{path.name}: not uploaded, {error}; it stays on this host", flush=True)
    # The same event may have run again meanwhile, and put a newer record in its place.
    if path.stat().st_ino == read.st_ino:
        path.unlink()


def main() -> int:
    aws.keep_aws_variables()
    os.umask(0o077)
    s3 = None
    failed: set[str] = set()
    # Until nothing is left: records that come while this runs find the unit started already.
    while todo := [path for path in waiting() if path.name not in failed]:
        for path in todo:
            try:
                s3 = s3 or aws.client("s3", attempts=1)
                upload(path, s3)
            except FileNotFoundError:
                continue  # retention was faster
            except ClientError as error:
                print(f"{path.name}: {aws.explain(error)}.", file=sys.stderr, flush=True)
                failed.add(path.name)
            except BotoCoreError as error:
                # The next one would not come through either, only later.
                print(f"{path.name}: {aws.explain(error)}.", file=sys.stderr, flush=True)
                return 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
