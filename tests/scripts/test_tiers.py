"""scripts/test and scripts/bench: what they select and what they refuse."""

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.tiers import FIRST

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False)


def collected(tier: str) -> set[str]:
    """The tests that a tier, or a path, chooses."""
    done = run(ROOT / "scripts" / "test", tier, "--collect-only", "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    return {line for line in done.stdout.splitlines() if "::" in line}


def test_each_tier_is_its_own_and_together_they_are_all():
    with ThreadPoolExecutor(2) as pool:
        tiers = list(pool.map(collected, ("unit", "integration", "e2e", "hosts", "tests")))
    everything = tiers.pop()
    assert all(tiers)
    assert sum(len(tier) for tier in tiers) == len(everything)
    assert set().union(*tiers) == everything


def test_what_begins_first_is_there():
    assert [name for name in FIRST if not (ROOT / name).is_file()] == []


def test_arguments_go_to_pytest_and_its_status_comes_back(tmp_path):
    xml = tmp_path / "report.xml"
    here = "tests/scripts/test_pip_to_uv.py"
    done = run(ROOT / "scripts" / "test", here, "-q", "--junit-xml", str(xml))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout.splitlines()[-1]
    assert 'tests="4"' in xml.read_text()
    assert run(ROOT / "scripts" / "test", "all", "--no-such-option").returncode == 4


def test_all_runs_one_tier_after_the_other_and_reports_each(tmp_path):
    (tmp_path / "test_both.py").write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "@pytest.mark.integration\n"
        "def test_bad(): assert False\n"
        "@pytest.mark.e2e\n"
        "def test_good_again(): pass\n"
    )
    # In one process each: three small tests need no others.
    arguments = ["--numprocesses", "0", "--rootdir", ROOT, "-c", ROOT / "pyproject.toml"]
    arguments += ["--junit-xml", tmp_path / "x.xml"]
    done = run(ROOT / "scripts" / "test", "all", tmp_path / "test_both.py", *arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    counts = {
        path.stem: re.findall(r'(?:tests|failures)="(\d)"', path.read_text())
        for path in tmp_path.glob("*.xml")
    }
    # Failures come before tests; nothing was chosen from the tier of real hosts.
    assert counts == {
        "x-unit": ["0", "1"],
        "x-integration": ["1", "1"],
        "x-e2e": ["0", "1"],
        "x-hosts": ["0", "0"],
    }


def test_an_unknown_measurement_lists_the_known_ones():
    done = run(ROOT / "scripts" / "bench", "nothing")
    assert done.returncode == 2
    assert "there is no bench/nothing.py" in done.stderr
    assert "demo" in done.stderr
