"""docs/lint.md has every code that the linters know, and no other."""

import ast
import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def codes():
    """The code of each finding that is made anywhere in apps/specs."""
    found = set()
    for path in (REPOSITORY / "apps/specs").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("error", "warn", "DocumentError"):
                first = ast.walk(node.args[0])
                found |= {each.value for each in first if isinstance(each, ast.Constant)} - {"phase"}
    return found


def test_the_table_is_complete():
    rows = re.findall(r"^\| (`.+?) \|", (REPOSITORY / "docs/lint.md").read_text(), re.MULTILINE)
    documented = {code for row in rows for code in re.findall(r"`([\w.-]+)`", row)}
    assert len(documented) > 90
    assert codes() == documented
