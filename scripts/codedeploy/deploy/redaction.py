"""Keep secrets out of what hooks print and record."""

import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote

REDACTED = "[redacted]"
# Shorter ones would blot out ordinary words, and protect nothing.
SHORTEST = 6
SECRET_NAME = re.compile(
    r"SECRET|PASS(WORD|WD|PHRASE)?($|_)|PWD|TOKEN|(^|_)(API)?KEYS?($|_)|CREDENTIAL|PRIVATE|DSN($|_)|SALT|"
    r"(^|_)AUTH($|_|ORIZATION)|COOKIE|SIGNATURE|CANARY",
    re.IGNORECASE,
)
# Where a secret is, and what the agent says of the bundle.
NOT_SECRET = re.compile(r"(FILE|PATH|DIR)$|^BUNDLE_", re.IGNORECASE)
URL_PASSWORD = re.compile(
    r"(?P<before>\b[a-z][a-z0-9+.-]*://[^\s/:@\"']*:)(?P<password>[^\s/\"']+)(?=@)", re.I
)
# What secrets look like, whoever they belong to.
SHAPES = re.compile(
    r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"
    r"|\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{20,}|\bxox[abprs]-[\w-]{10,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*"
)
# `password=…`, `"SECRET_KEY": "…"`, `Authorization: Bearer …`
NAMED = re.compile(
    r"(?P<before>\b\w*(?:password|passwd|secret|token|api_?key|access_?key|private_?key|secret_?key)\w*[\"']?\s*"
    r"[=:]\s*[\"']?|\b(?:bearer|basic)\s+)(?P<value>[^\s\"',;&]{6,})",
    re.IGNORECASE,
)


class Redactor:
    """Replaces the secrets it was told of, and whatever looks like one."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._known: re.Pattern[str] | None = None

    def learn(self, variables: Mapping[str, str], *, all_secret: bool = False) -> None:
        """Take the secrets from named values: those whose name suggests one, and the passwords of URLs.

        With ``all_secret`` every value counts that is more than one plain word or number.
        """
        before = len(self._values)
        for name, value in variables.items():
            suggested = SECRET_NAME.search(name) and not NOT_SECRET.search(name)
            if suggested or (all_secret and not re.fullmatch(r"[A-Za-z]*|[\d.]*", value)):
                self._add(value.splitlines())
            for match in URL_PASSWORD.finditer(value):
                self._values |= _spellings(match["password"])
        if len(self._values) > before:
            longest_first = sorted(self._values, key=len, reverse=True)
            self._known = re.compile("|".join(map(re.escape, longest_first)))

    def _add(self, lines: Iterable[str]) -> None:
        for line in lines:
            if len(line.strip()) >= SHORTEST:
                self._values |= _spellings(line.strip())

    def __call__(self, text: str) -> str:
        """The text without secrets."""
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
        text = URL_PASSWORD.sub(lambda match: match["before"] + REDACTED, text)
        text = SHAPES.sub(REDACTED, text)
        return NAMED.sub(lambda match: match["before"] + REDACTED, text)


def _spellings(secret: str) -> set[str]:
    """A secret as it is, and as programs print it: decoded, escaped."""
    decoded = unquote(secret)
    spellings = {secret, decoded, repr(decoded)[1:-1], decoded.replace("\\", "\\\\").replace('"', '\\"')}
    return {each for each in spellings if len(each) >= 4}


redact = Redactor()
