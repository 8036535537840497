"""The ledger's heads in the embedded S3, and what they show that a chain cannot show of itself."""

import io
import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command

from apps.aws import s3
from apps.aws.errors import AwsError
from apps.catalog.heads import COPY_EVERY, begin_copies, copy_head, read_heads
from apps.catalog.models import LedgerCopy
from apps.leases import LeaseLost, database_time, take
from apps.ledger.hashing import hash_of
from apps.ledger.models import Entry
from apps.ledger.services import record
from tests.factories import make_service
from tests.ledger.tampering import delete, make_chain, tamper, update

pytestmark = [pytest.mark.django_db, pytest.mark.integration]


@pytest.fixture
def web(versioned_bucket):
    service = make_service(slug="web", bucket=versioned_bucket)
    make_chain("web", 5)
    return service


def copy_now():
    """What the reconciler does about one chain that is due; whether there was one."""
    begin_copies()
    LedgerCopy.objects.update(lease_until=None)
    lease = take(LedgerCopy.objects.behind(), owner="here:1", duration=timedelta(seconds=30))
    if lease is None:
        return False
    lease.release(copy_head(copy=LedgerCopy.objects.get(pk=lease.pk), lease=lease))
    return True


def verify(*arguments):
    """The lines that verify_ledger prints, and its exit code."""
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command("verify_ledger", *arguments, stdout=out, stderr=err)
    except SystemExit as end:
        return out.getvalue().splitlines(), end.code
    except CommandError as error:
        return [*out.getvalue().splitlines(), err.getvalue().strip(), str(error)], error.returncode
    return out.getvalue().splitlines(), 0


def rewrite_from(sequence):
    """Change what an entry says, and compute all hashes from there on anew."""
    previous = Entry.objects.get(sequence=sequence - 1).hash
    for entry in Entry.objects.filter(sequence__gte=sequence).order_by("sequence"):
        entry.action, entry.previous_hash = "x.y", previous
        previous = hash_of(entry)
        changed = f"action = 'x.y', previous_hash = '{entry.previous_hash}', hash = '{previous}'"
        tamper(update(changed, entry.sequence))


class TestCopying:
    def test_a_head_says_which_entry_had_which_hash(self, web):
        assert copy_now()
        last = Entry.objects.order_by("sequence").last()
        (head,) = read_heads(web)
        assert (head.sequence, head.hash) == (5, last.hash)
        body = io.BytesIO()
        key = f"ledger/web/heads/{5:012d}-{last.hash}.json"
        s3.download(bucket=web.bucket, key=key, into=body, limit=10_000)
        assert json.loads(body.getvalue()) == {
            "service": "web",
            "sequence": 5,
            "hash": last.hash,
            "at": last.at.isoformat(),
        }

    def test_a_chain_that_has_not_grown_is_not_copied_again(self, web):
        assert copy_now()
        assert not copy_now()
        record(chain="web", action="a.b", subject="c:6")
        assert copy_now()
        assert [head.sequence for head in read_heads(web)] == [5, 6]

    def test_a_busy_chain_is_copied_once_a_minute(self, web):
        copy_now()
        record(chain="web", action="a.b", subject="c:6")
        assert take(LedgerCopy.objects.behind(), owner="here:1", duration=COPY_EVERY) is None
        later = LedgerCopy.objects.filter(lease_until__lte=database_time(COPY_EVERY))
        assert later.filter(lease_until__gt=database_time(COPY_EVERY - timedelta(seconds=20))).exists()

    def test_a_copy_that_was_made_and_not_noted_is_noted(self, web):
        copy_now()
        LedgerCopy.objects.update(sequence=0)
        assert copy_now()
        assert LedgerCopy.objects.get().sequence == 5
        assert len(list(read_heads(web))) == 1

    def test_a_worker_that_lost_its_lease_notes_nothing(self, web):
        begin_copies()
        lease = take(LedgerCopy.objects.behind(), owner="here:1", duration=timedelta(seconds=30))
        LedgerCopy.objects.update(lease_fence=99)
        with pytest.raises(LeaseLost):
            copy_head(copy=LedgerCopy.objects.get(), lease=lease)
        assert LedgerCopy.objects.get().sequence == 0

    def test_without_its_bucket_nothing_is_noted(self, web):
        web.bucket = "nobodys-bucket"
        web.save()
        with pytest.raises(AwsError):
            copy_now()
        assert LedgerCopy.objects.get().sequence == 0


class TestComparing:
    def test_a_whole_chain_agrees(self, web):
        copy_now()
        record(chain="web", action="a.b", subject="c:6")
        lines, code = verify()
        assert code == 0
        assert lines[0].startswith("web: whole, 6 entries, last hash ")
        assert lines[0].endswith(", as 1 head in S3 up to entry 5")
        ((line,), _) = verify("--json")
        assert (json.loads(line)["heads"], json.loads(line)["newest_head"]) == (1, 5)

    def test_no_head_yet_is_said(self, web):
        lines, code = verify()
        assert (lines[0].endswith(", no head in S3 yet"), code) == (True, 0)

    def test_entries_removed_from_the_end(self, web):
        copy_now()
        tamper(delete(4, 5))
        lines, code = verify()
        assert code == 1
        assert lines[0].startswith("web: BROKEN at 5, missing: It was copied to S3 on ")
        assert lines[0].endswith("; the chain ends at 3. Whole before: 3 entries.")
        assert verify("--offline")[1] == 0

    def test_a_chain_removed_as_a_whole(self, web):
        copy_now()
        make_service(slug="api", bucket=web.bucket)
        make_chain("api", 1)
        tamper(delete(1, 2, 3, 4, 5))
        lines, code = verify()
        assert code == 1
        assert [line.partition(":")[0] for line in lines] == ["api", "web"]
        assert "BROKEN at 5, missing" in lines[1]

    def test_history_written_anew_with_new_hashes(self, web):
        copy_now()
        rewrite_from(3)
        lines, code = verify()
        assert code == 1
        assert "BROKEN at 5, changed: It was copied to S3" in lines[0]

    def test_a_head_of_the_forged_chain_hides_nothing(self, web):
        copy_now()
        rewrite_from(3)
        record(chain="web", action="a.b", subject="c:6")
        copy_now()
        assert len(list(read_heads(web))) == 2
        assert "BROKEN at 5, changed" in verify()[0][0]

    def test_what_is_written_anew_after_the_last_head_is_not_found(self, web):
        """As the help and docs/ledger.md say: the time until the next head."""
        copy_now()
        record(chain="web", action="a.b", subject="c:6")
        tamper(delete(6))
        assert verify()[1] == 0

    def test_other_objects_and_services_beside_it_are_left_alone(self, web):
        copy_now()
        other = make_service(slug="web-two", bucket=web.bucket)
        make_chain("web-two", 2)
        copy_now()
        for key in ("ledger/web/heads/README", "ledger/web/heads/000000000009-ff.json"):
            s3.put_if_absent(bucket=web.bucket, key=key, body=io.BytesIO(b""), sha256=EMPTY)
        assert [head.sequence for head in read_heads(web)] == [5]
        assert [head.sequence for head in read_heads(other)] == [2]
        assert verify()[1] == 0

    def test_s3_that_does_not_answer_is_not_whole(self, web):
        web.bucket = "nobodys-bucket"
        web.save()
        lines, code = verify()
        assert code == 2
        assert lines[0].startswith("web: whole, 5 entries")
        assert lines[1].startswith("web: not compared with S3: S3 ListObjectsV2 of s3://nobodys-bucket/")
        assert verify("--offline")[1] == 0

    def test_a_chain_of_no_service_cannot_be_compared(self, web):
        make_chain("ghost", 1)
        lines, code = verify("ghost")
        assert code == 2
        assert "there is no service ghost, so its bucket is not known" in lines[1]


EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
