"""The form that is hashed. It must never change: no chain that exists could be verified any more."""

import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from apps.ledger.hashing import GENESIS, digest_of, digest_without_fractions, hash_of
from apps.ledger.models import Entry

GUIDE = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text()
HASH = "4e6c9bafd33c5fe1f0327d92d65601171800ed7e3bbd20062a869f46ff49733c"


def test_an_entry_has_the_hash_that_it_always_had():
    entry = Entry(
        chain="shop",
        sequence=1,
        at=datetime(2026, 1, 2, 5, 4, 5, 6, tzinfo=timezone(timedelta(hours=2))),
        actor_id=7,
        action="promotion.approved",
        subject="promotion:17",
        data={"share": 0.5, "comment": "Größe geprüft"},
        previous_hash=GENESIS,
    )
    assert hash_of(entry) == HASH


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_the_quick_digest_is_the_same_one(value):
    assert digest_without_fractions(value) == digest_of(value)


def test_the_quick_digest_is_the_same_one_of_every_character():
    # Keys in the order of their characters, also beyond the first plane, and those that are escaped.
    characters = [chr(number) for number in range(0x110000) if not 0xD800 <= number < 0xE000]
    value = {"keys": dict.fromkeys(reversed(characters[::7]), 1), "text": "".join(characters)}
    assert digest_without_fractions(value) == digest_of(value)


def test_the_guide_computes_it_without_lockkeeper():
    (program,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == HASH
    assert f"This prints `{HASH}`" in GUIDE
