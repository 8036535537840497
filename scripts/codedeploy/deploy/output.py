"""What the hooks print: CodeDeploy keeps it in scripts.log and shows its end."""

import sys


def heading(text: str) -> None:
    """Say what begins."""
    print(f"-----> {text}", flush=True)


def detail(text: str) -> None:
    """Say more about the step."""
    print(f"       {text}", flush=True)


def warn(text: str) -> None:
    """Say what did not go as it should, where the deployment goes on."""
    sys.stdout.flush()
    print(f" !     {text}", file=sys.stderr, flush=True)
