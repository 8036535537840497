"""The acceptance corpus: public files with known contents. It lies beside the checkout and is not part of it.

Many of its files state no licence. Tests on it are skipped where it is absent, but not in CI. A build in
CodeBuild also says CI=true; it has its source and nothing beside it.
"""

import os
from pathlib import Path

import pytest

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus"
REQUIRED = os.environ.get("CI", "").lower() == "true" and "CODEBUILD_BUILD_ID" not in os.environ
ABSENT = not CORPUS.is_dir() and not REQUIRED
REASON = f"the acceptance corpus is not at {CORPUS}"

needs_corpus = pytest.mark.skipif(ABSENT, reason=REASON)
