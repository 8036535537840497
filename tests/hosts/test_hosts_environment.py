"""systemd itself reads environment files as the deploy program writes and reads them."""

import pytest
from deploy.service_environment import read_environment, render_environment

from tests.hooks.test_hooks_configuration import AWKWARD

# Lines that people write, in every way of quoting.
WRITTEN = """
B1=b"c"
B2='a' "b"
B3=pass"word'
B4=a\\ b
B5="a"b"c"
B6=a\\\\
B7=x\u2028y
B8="x" 'y' z w
B9="\\n \\$x"
"""


@pytest.mark.parametrize("text", [render_environment(AWKWARD), WRITTEN], ids=["rendered", "written"])
def test_an_environment_file_means_the_same_to_systemd(boxes, text):
    _, (box, *_) = boxes
    path = box.root / "srv/awkward"
    path.write_text(text, encoding="utf-8")
    wanted = read_environment(path)
    assert len(wanted) > 8
    settings = ("--property=EnvironmentFile=/srv/awkward", "--property=StandardOutput=file:/srv/seen")
    box.enter("systemd-run", "--quiet", "--wait", "--collect", *settings, "env", "-0")
    lines = (box.root / "srv/seen").read_text(encoding="utf-8").split("\0")
    seen = dict(line.split("=", 1) for line in lines if line)
    assert {name: seen.get(name) for name in wanted} == wanted
    for name in ("awkward", "seen"):
        (box.root / "srv" / name).unlink()
