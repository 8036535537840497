"""The service's environment file, read as systemd reads it (systemd.exec(5), EnvironmentFile)."""

import re
from pathlib import Path

from deploy.errors import Failure

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_environment(path: Path) -> dict[str, str]:
    """Return the variables in an environment file; raise Failure naming a line that is not NAME=value."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise Failure(f"{path} is missing: run scripts/provision-host with --environment FILE.") from None
    variables = {}
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        name, equals, value = line.partition("=")
        if not equals or not NAME.fullmatch(name.strip()):
            raise Failure(f"{path} line {number} is not NAME=value.")
        try:
            variables[name.strip()] = _unquote(value.strip())
        except ValueError as error:
            raise Failure(f"{path} line {number}: {error}.") from None
    return variables


def _unquote(value: str) -> str:
    """Take away quotes and backslashes. A value that goes on in the next line is refused."""
    result = []
    quote = ""
    position = 0
    while position < len(value):
        character = value[position]
        position += 1
        if character == "\\" and quote != "'":
            if position == len(value):
                raise ValueError("a value must not go on in the next line")
            following = value[position]
            position += 1
            # Inside double quotes a backslash is itself before anything but these.
            result.append(following if not quote or following in '"\\`$' else character + following)
        elif character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
        else:
            result.append(character)
    if quote:
        raise ValueError(f"the value has no closing {quote}")
    return "".join(result)
