"""Fleets of hosts that were provisioned as real ones are, and releases that this repository's hooks ship."""

import json
import subprocess
import sys
from urllib.request import urlopen

from tests.hooks import trees
from tests.sandbox.deploying import Fleet
from tests.sandbox.hosts import free_port


class ProvisionedFleet(Fleet):
    """On-premises hosts, each with a front door of its own."""

    def __init__(self, sandbox, bucket, folder, hosts=1, **group):
        super().__init__(sandbox, bucket, hosts=0, **group)
        (folder / "environment").write_text(f"UNREADY_FILE={folder}/unready\n")
        self.hosts = [f"{self.name}-{number}" for number in range(hosts)]
        self.ports = [free_port() for _ in range(hosts)]
        for number, host in enumerate(self.hosts):
            self.root(number).mkdir(parents=True)
            options = {
                "root": self.root(number),
                "application": self.name,
                "group": "group",
                "host": host,
                "port": self.ports[number],
                "python": sys.executable,
                "tools-python": sys.executable,
                "environment": folder / "environment",
                "prove-seconds": 60,
            }
            command = [trees.REPOSITORY / "scripts/provision-host"]
            for name, value in options.items():
                command += [f"--{name}", str(value)]
            subprocess.run(command, check=True, capture_output=True)
            self.register(host)

    def ship(self, bundle, **options):
        """Deploy a release and return the deployment's description when it has ended."""
        return self.wait(self.start(self.upload(bundle.path.read_bytes()), **options), seconds=300)

    def serving(self, host=0):
        """The digest of the release that answers at a host's front door."""
        with urlopen(f"http://127.0.0.1:{self.ports[host]}/version", timeout=10) as answer:
            return json.load(answer)["digest"]


def make_releases(folder, lines, hooks=()):
    """Releases of a tiny service as {tale: Bundle}.

    `lines` are {tale: a line for the module that gunicorn imports}; `hooks` are {tale: {script: a line of
    shell that it begins with}}.
    """
    wheelhouse = trees.make_wheelhouse(folder / "house", ["gunicorn", "uv"])
    made = {}
    for tale, line in lines.items():
        (folder / tale).mkdir()
        tree = trees.make_tiny_tree(folder / tale, tale=tale, at_import=line)
        for script, first in dict(hooks).get(tale, {}).items():
            path = tree / "scripts/codedeploy" / script
            shebang, _, rest = path.read_text().partition("\n")
            path.write_text(f"{shebang}\n{first}\n{rest}")
        made[tale] = trees.bundle(tree, wheelhouse, folder / f"{tale}.tar")
    return made
