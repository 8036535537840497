"""The form that is hashed. It must never change: no chain that exists could be verified any more."""

import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

from apps.ledger.hashing import GENESIS, hash_of
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


def test_the_guide_computes_it_without_lockkeeper():
    (program,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == HASH
    assert f"This prints `{HASH}`" in GUIDE
