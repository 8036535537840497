"""scripts/test and scripts/bench: what they select and what they refuse."""

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)


def test_each_tier_is_its_own_and_together_they_are_all():
    collected = {}
    for tier in ("unit", "integration", "e2e", "all"):
        done = run(ROOT / "scripts" / "test", tier, "--collect-only", "-q")
        assert done.returncode == 0, done.stdout + done.stderr
        collected[tier] = {line for line in done.stdout.splitlines() if "::" in line}
    assert all(collected.values())
    assert collected["unit"].isdisjoint(collected["integration"] | collected["e2e"])
    assert collected["unit"] | collected["integration"] | collected["e2e"] == collected["all"]


def test_arguments_go_to_pytest_and_its_status_comes_back(tmp_path):
    xml = tmp_path / "report.xml"
    here = "tests/scripts/test_pip_to_uv.py"
    done = run(ROOT / "scripts" / "test", here, "-q", "--junit-xml", str(xml))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout.splitlines()[-1]
    assert 'tests="4"' in xml.read_text()
    assert run(ROOT / "scripts" / "test", "all", "tests/no_such_file.py").returncode == 4


def test_an_unknown_measurement_lists_the_known_ones():
    done = run(ROOT / "scripts" / "bench", "nothing")
    assert done.returncode == 2
    assert "there is no bench/nothing.py" in done.stderr
    assert "demo" in done.stderr
