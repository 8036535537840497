"""The service's environment files, read and written as systemd does (systemd.exec(5), EnvironmentFile)."""

import re
from collections.abc import Mapping
from pathlib import Path

from deploy.errors import Failure

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
BLANK = " \t"


def read_environment(path: Path) -> dict[str, str]:
    """Return the variables in an environment file; raise Failure naming a line that is not NAME=value."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Failure(f"{path} is missing: run scripts/provision-host with --environment FILE.") from None
    except UnicodeDecodeError:
        raise Failure(f"{path} is not UTF-8, and systemd would ignore it; write it anew.") from None
    variables = {}
    # Not splitlines(): to systemd a line separator of Unicode is a character like others.
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), start=1):
        line = line.strip(BLANK)
        if not line or line[0] in "#;":
            continue
        name, equals, value = line.partition("=")
        if not equals or not NAME.fullmatch(name.strip(BLANK)):
            raise Failure(f"{path} line {number} is not NAME=value.")
        try:
            variables[name.strip(BLANK)] = _unquote(value)
        except ValueError as error:
            raise Failure(f"{path} line {number}: {error}.") from None
    return variables


def render_environment(variables: Mapping[str, str]) -> str:
    """An environment file that systemd, and read_environment, read back exactly.

    Raises Failure naming the variables, never their values, that such a file cannot hold.
    """
    if wrong := [name for name in variables if not NAME.fullmatch(name)]:
        raise Failure(
            f"{', '.join(map(repr, wrong))} cannot name a variable (letters, digits and _ can, with no digit "
            "first); rename it where it is kept."
        )
    if wrong := [name for name, value in variables.items() if not _can_be_held(value)]:
        raise Failure(
            f"The value of {', '.join(wrong)} has a newline or another control character, which a line of an "
            "environment file cannot hold; keep it encoded, in Base64 for example."
        )
    return "".join(f'{name}="{_escape(value)}"\n' for name, value in sorted(variables.items()))


def _can_be_held(value: str) -> bool:
    # Half a pair of UTF-16 can be written in JSON, but not in UTF-8.
    return not re.search("[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]", value)


def _escape(value: str) -> str:
    return re.sub(r'["\\`$]', r"\\\g<0>", value)


def _unquote(value: str) -> str:
    """Take away quotes and backslashes. A value that goes on in the next line is refused.

    A quote is one only where a value, or its next part, begins: ``a"b"`` has quotes in it.
    """
    result: list[str] = []
    quote = ""
    begins = True
    trailing = 0  # blanks that go if nothing follows
    characters = iter(value)
    for character in characters:
        if character == "\\" and quote != "'":
            following = next(characters, None)
            if following is None:
                raise ValueError("a value must not go on in the next line")
            # Inside double quotes a backslash is itself before anything but these.
            result.append(following if not quote or following in '"\\`$' else character + following)
            begins, trailing = bool(quote) and begins, 0
        elif quote and character == quote:
            quote, begins, trailing = "", True, 0
        elif quote:
            result.append(character)
        elif begins and character in "'\"":
            quote = character
        elif character in BLANK:
            if not begins:
                result.append(character)
                trailing += 1
        else:
            result.append(character)
            begins, trailing = False, 0
    if quote:
        raise ValueError(f"the value has no closing {quote}")
    return "".join(result[: len(result) - trailing])
