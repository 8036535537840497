"""The application as gunicorn loads it, before it makes its workers."""

import os
import subprocess
import sys

import pytest

from tests.backend.test_settings import ROOT, SERVER


@pytest.mark.integration
def test_what_workers_share_is_loaded_and_left_alone_by_the_garbage_collector() -> None:
    code = (
        "import gc, sys, backend.wsgi; print("
        "gc.get_freeze_count() > 100_000, len(gc.get_objects()) < 1000, 'apps.promotions.api' in sys.modules)"
    )
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=kept | SERVER,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["True", "True", "True"], done.stderr
