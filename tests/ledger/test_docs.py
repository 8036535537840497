"""docs/ledger.md has every action that is recorded, and no other."""

import ast
import re
from pathlib import Path

from apps.deployments.models import Deployment
from apps.promotions.models import Approval, Promotion

REPOSITORY = Path(__file__).resolve().parents[2]
NOUNS = (
    "build|case|deployment|environment|evidence|group|membership|policy|promotion|release|report|service",
    "window",
)
ACTION = re.compile(rf"({'|'.join(NOUNS)})\.[a-z_]+")
# Actions that are named after a state; these states are not recorded under their own name.
SILENT = {"deployment.intended", "promotion.pending", "promotion.deploying"}


def recorded():
    """Every action that the code spells out, and those that it puts together."""
    found = {f"deployment.{each}" for each in Deployment.Status.values}
    found |= {f"promotion.{each}" for each in (*Promotion.Status.values, *Approval.Verdict.values)}
    for path in (REPOSITORY / "apps").rglob("*.py"):
        tree = ast.parse(path.read_text())
        # A serializer's `source` only looks like one, as does the name of a file.
        sources = [
            each.value for each in ast.walk(tree) if isinstance(each, ast.keyword) and each.arg == "source"
        ]
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and node not in sources and ACTION.fullmatch(str(node.value)):
                found.add(node.value)
    return found - SILENT - {"release.json"}


def test_the_table_is_complete():
    rows = re.findall(r"^\| (`.+?) \|", (REPOSITORY / "docs/ledger.md").read_text(), re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`([\w.]+)`", row) if "." in name}
    assert recorded() == documented
