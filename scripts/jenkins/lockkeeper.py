#!/usr/bin/env python3
"""Lockkeeper for pipelines: register a build, ask for a promotion, wait at the gate.

    lockkeeper.py register-build --service NAME --build PROJECT:UUID [--commit SHA] [--pipeline-url URL]
    lockkeeper.py promote --release ID --environment NAME [--wait]
    lockkeeper.py wait --promotion ID
    lockkeeper.py explain --promotion ID

LOCKKEEPER_URL says where Lockkeeper is; LOCKKEEPER_TOKEN, or the file that LOCKKEEPER_TOKEN_FILE names, holds
the token. Neither is ever an argument, which other users of the machine could read.

Standard output carries one thing, the id a script needs next (of the release, of the promotion); everything
for people goes to standard error. Exit codes: 0 pass or done, 10 blocked, 11 a person is waited for, 12 time
is waited for, 13 inconclusive, 14 evidence is waited for, 1 an error.

With --reports DIR the findings are written there whenever they change: promotion-ENVIRONMENT.json, .md for
people, .xml (JUnit) for the pipeline, .title, one line that says the worst of it, and .pause, the seconds to
sleep before asking again where time is waited for.

One file, standard library only, Python 3.9 or later: copy it to wherever your pipeline runs.
"""

from __future__ import annotations

import argparse
import contextlib
import email.utils
import http.client
import json
import math
import os
import re
import signal
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ET
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

EXIT_CODES = {
    "pass": 0,
    "overridden": 0,
    "blocked": 10,
    "waiting_human": 11,
    "waiting_time": 12,
    "inconclusive": 13,
    "waiting_evidence": 14,
}
ERROR = 1
# How a promotion ends; whatever is not here goes on.
ENDS = {"succeeded": 0, "rejected": 10, "failed": 1, "errored": 1, "cancelled": 1, "superseded": 1}
# What waiting a little longer will not change; evidence comes by itself.
STANDSTILL = {"blocked", "inconclusive", "waiting_human", "waiting_time"}
# The worst first, as the server orders them.
IMPORTANCE = ("blocked", "inconclusive", "waiting_human", "waiting_evidence", "waiting_time")
WORDS = {
    "waiting_human": "waiting for a person",
    "waiting_time": "waiting for time",
    "waiting_evidence": "waiting for evidence",
}
TITLE_LENGTH = 120  # characters; more does not fit above a stage
SHORTEST_SLEEP, USUAL_SLEEP, LONGEST_SLEEP = 10, 60, 600  # seconds to sleep where time is waited for
EXPLANATION_PATIENCE = 10.0  # seconds; what it is about is known without it
TRANSIENT = {429, 502, 503, 504}
USUAL_PAUSE = 5.0  # seconds between two questions where the server does not say
LONGEST_PAUSE = 60.0  # seconds, whatever the server says
REQUEST_TIMEOUT = 30.0  # seconds


class Failure(Exception):
    """The end of the program, with a message of one line."""


class Unsettled(Failure):
    """A request whose answer was lost: it may or may not have been carried out."""


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuse redirects: urllib would carry the token to wherever it is sent."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        raise Failure(f"{req.full_url} redirects to {newurl}: set LOCKKEEPER_URL to Lockkeeper's own address")


class Answer:
    """A response, whatever its status; `data` is its JSON, or None."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.data: Any = None
        with contextlib.suppress(ValueError):  # an empty body, or a page of a proxy; `problem` says so
            self.data = json.loads(body)

    @property
    def pause(self) -> float | None:
        """Seconds that Retry-After asks for, which may be a number or a date (RFC 9110, 10.2.3)."""
        value = self.headers.get("Retry-After")
        if value is None:
            return None
        if value.strip().isdigit():
            return float(value)
        when = email.utils.parsedate_tz(value)
        return max(0.0, email.utils.mktime_tz(when) - time.time()) if when else None

    @property
    def problem(self) -> str:
        """One line on what is wrong, from problem details (RFC 9457) where the server sent them."""
        status = f"HTTP {self.status}"
        if not isinstance(self.data, dict) or not ("detail" in self.data or "title" in self.data):
            return f"{status} without an explanation: is LOCKKEEPER_URL the address of Lockkeeper?"
        text = one_line(self.data.get("detail") or self.data["title"])
        errors = [
            f"{error.get('pointer') or error.get('parameter')}: {error.get('detail')}"
            for error in self.data.get("errors") or []
            if isinstance(error, dict)
        ]
        return f"{text} [{one_line('; '.join(errors))}] ({status})" if errors else f"{text} ({status})"


class Client:
    """The REST API. `patience` is for how many seconds a server that is away is tried again."""

    def __init__(self, url: str, token: str, patience: float) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Failure(f"LOCKKEEPER_URL={url!r} is not an address such as https://lockkeeper.example.com")
        if parts.username or parts.query or parts.fragment:
            raise Failure("LOCKKEEPER_URL may have no user, no query and no fragment")
        if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
            say("warning: LOCKKEEPER_URL is http, so the token travels in the clear")
        self.site = url.rstrip("/")
        self.patience = patience
        self._token = token
        self._opener = urllib.request.build_opener(NoRedirect)

    def get(self, path: str, etag: str | None = None) -> Answer:
        """Ask for something; with `etag` the answer is a 304 where nothing has changed."""
        return self._patiently("GET", path, None, etag)

    def post(self, path: str, body: dict[str, Any], *, repeatable: bool) -> Answer:
        """Send a request; Unsettled when the answer was lost and sending it again is not `repeatable`."""
        return self._patiently("POST", path, body, None, repeatable)

    def _patiently(
        self, method: str, path: str, body: Any, etag: str | None, repeatable: bool = True
    ) -> Answer:
        give_up = time.monotonic() + self.patience
        backoff = 0.5
        while True:
            pause = None
            try:
                answer = self._once(method, path, body, etag)
                if answer.status not in TRANSIENT:
                    if answer.status >= 400:
                        raise Failure(answer.problem)
                    return answer
                # 429 and 503 refuse a request; behind a 502 or a 504 it may have been carried out.
                settled = answer.status in (429, 503)
                reason, pause = answer.problem, answer.pause
            except (OSError, http.client.HTTPException) as error:
                cause = getattr(error, "reason", error)
                settled = isinstance(cause, (ConnectionRefusedError, socket.gaierror))
                reason = f"{self.site} does not answer: {one_line(cause) or type(cause).__name__}"
            if not (settled or repeatable):
                raise Unsettled(reason)
            backoff = min(backoff * 2, LONGEST_PAUSE)
            pause = backoff if pause is None else min(max(pause, backoff), LONGEST_PAUSE)
            if time.monotonic() + pause > give_up:
                raise Failure(f"{reason} (given up after {self.patience:.0f} s)")
            say(f"{reason}; trying again in {pause:.0f} s")
            time.sleep(pause)

    def _once(self, method: str, path: str, body: Any, etag: str | None) -> Answer:
        url = f"{self.site}/api/v1/{path}"
        request = urllib.request.Request(url, method=method)  # noqa: S310  # http or https, see __init__
        request.add_header("Authorization", f"Bearer {self._token}")
        request.add_header("Accept", "application/json")
        if etag:
            request.add_header("If-None-Match", etag)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with self._opener.open(request, timeout=REQUEST_TIMEOUT) as response:
                return Answer(response.status, response.headers, response.read())
        except urllib.error.HTTPError as error:  # every status but 2xx, 304 among them
            with error:
                return Answer(error.code, error.headers, error.read())


def poll(client: Client, path: str, timeout: float) -> Any:
    """Yield what is at `path` at once and whenever it has changed, until `timeout` seconds are over."""
    deadline = time.monotonic() + timeout
    etag = None
    while True:
        answer = client.get(path, etag)
        if answer.status != 304:
            etag = answer.headers.get("ETag")
            yield answer.data
        left = deadline - time.monotonic()
        if left <= 0:
            return
        pause = USUAL_PAUSE if answer.pause is None else answer.pause
        time.sleep(min(max(pause, 0.1), LONGEST_PAUSE, left))


def register_build(client: Client, options: argparse.Namespace) -> int:
    """Register a build, wait until the server has read its evidence, and print the release's id."""
    body = {"service": options.service, "codebuild_id": options.build}
    if options.commit:
        body["commit"] = options.commit
    if options.pipeline_url:
        body["pipeline_url"] = options.pipeline_url
    # Registering twice is the same as once: the second answer is the first build.
    registered = client.post("builds/", body, repeatable=True).data
    say(f"build {registered['id']} is registered: {registered['codebuild_id']}")
    seen: tuple[str, ...] = ()
    for build in poll(client, f"builds/{registered['id']}/", options.timeout):
        lines = (f"build {build['status']}", *(describe_report(report) for report in build["reports"]))
        seen = tell(lines, seen)
        if build["final"]:
            break
    else:
        say(f"the evidence of the build was not complete after {options.timeout:.0f} s")
        return EXIT_CODES["waiting_evidence"]
    release = build["release"]
    if release is None:
        reason = build["problem"] or f"the build is {build['status']} and made no bundle"
        raise Failure(f"there is no release: {one_line(reason)}; log: {build['log_url'] or 'none'}")
    say(f"release {release['id']}: {release['version']}, sha256 {release['digest']}")
    print(release["id"])
    return 0


def promote(client: Client, options: argparse.Namespace) -> int:
    """Ask for a promotion; with --wait stay with it."""
    promotion = request_promotion(client, options.release, options.environment)
    say(f"promotion {promotion['id']}: release {options.release} to {options.environment}")
    print(promotion["id"], flush=True)
    if options.wait:
        return stay(client, promotion["id"], options)
    return conclude(client, promotion, options)


def request_promotion(client: Client, release: int, environment: str) -> Any:
    """Create a promotion exactly once, although an answer may be lost on the way."""
    listing = "promotions/?" + urllib.parse.urlencode({"release": release, "environment": environment})
    before = {row["id"] for row in client.get(listing).data["results"]}
    body = {"release": release, "environment": environment}
    while True:
        try:
            return client.post("promotions/", body, repeatable=False).data
        except Unsettled as error:
            say(f"{error}; looking whether the promotion was made")
            made = [row for row in client.get(listing).data["results"] if row["id"] not in before]
            if made:
                return made[0]
            time.sleep(1)


def wait(client: Client, options: argparse.Namespace) -> int:
    """Stay with a promotion until it ends or stands still."""
    return stay(client, options.promotion, options)


def stay(client: Client, promotion_id: int, options: argparse.Namespace) -> int:
    stops = STANDSTILL - {f"waiting_{name}" for name in options.through}
    seen: tuple[str, ...] = ()
    promotion: Any = None
    for promotion in poll(client, f"promotions/{promotion_id}/", options.timeout):
        seen = tell(tuple(describe(promotion)), seen)
        if options.reports:
            write_reports(promotion, options.reports)  # now: an aborted pipeline publishes them too
        pending = promotion["status"] == "pending"
        if promotion["status"] in ENDS or (pending and promotion["verdict"] in stops):
            break
    else:
        say(f"promotion {promotion_id} did not come to its end within {options.timeout:.0f} s")
    return conclude(client, promotion, options)


def explain(client: Client, options: argparse.Namespace) -> int:
    """Say where a promotion stands, and why."""
    promotion = client.get(f"promotions/{options.promotion}/").data
    tell(tuple(describe(promotion)), ())
    return conclude(client, promotion, options)


def conclude(client: Client, promotion: dict[str, Any], options: argparse.Namespace) -> int:
    """Say what it comes to, write the reports that were asked for and return the exit code."""
    code = exit_code(promotion, options)
    status = promotion["status"]
    if ENDS.get(status):
        say(f"promotion {promotion['id']} {status}: {one_line(promotion['reason']) or 'no reason given'}")
    explanation = fetch_explanation(client, promotion["id"]) if code or options.reports else None
    if explanation and code:
        say(one_line(explanation["answer"]))
        say(f"the whole answer: {explanation['links']['page']}")
    if options.reports:
        write_reports(promotion, options.reports, explanation)
    return code


def exit_code(promotion: dict[str, Any], options: argparse.Namespace) -> int:
    status = promotion["status"]
    if status in ENDS:
        return ENDS[status]
    if status == "pending":
        return EXIT_CODES.get(promotion["verdict"], EXIT_CODES["waiting_evidence"])
    # It passed its gate; that it has not arrived is an error only to somebody who waited for it.
    return ERROR if options.waits else 0


def fetch_explanation(client: Client, promotion_id: int) -> Any:
    """Why the promotion is where it is; None where the server cannot say, which changes nothing."""
    patience, client.patience = client.patience, min(client.patience, EXPLANATION_PATIENCE)
    try:
        return client.get(f"promotions/{promotion_id}/explanation/").data
    except Failure as failure:
        say(f"no explanation: {failure}")
        return None
    finally:
        client.patience = patience


def describe(promotion: dict[str, Any]) -> list[str]:
    """Say where a promotion stands, a line for each thing."""
    verdict = f", the gate says {promotion['verdict']}" if promotion["verdict"] else ""
    lines = [f"{promotion['environment']}: {promotion['status']}{verdict}"]
    if promotion.get("waits_for"):
        lines.append(f"  {one_line(promotion['waits_for'])}")
    for finding in promotion["findings"]:
        who = f" (asked: {finding['who']})" if finding.get("who") else ""
        when = f" (not before {finding['earliest']})" if finding.get("earliest") else ""
        text = one_line(finding["sentence"])
        lines.append(f"  {finding['verdict']:<16} {finding['rule']}: {text}{who}{when}")
    return lines


def entitle(promotion: dict[str, Any]) -> str:
    """One short line that says the worst of it, such as for the title of a stage."""
    status, verdict = promotion["status"], promotion["verdict"]
    if status != "pending":
        text = f"{status}: {promotion['reason']}" if promotion["reason"] else status
    elif not verdict:
        text = "not judged yet"
    else:
        order = {name: position for position, name in enumerate(IMPORTANCE)}
        unmet = [finding for finding in promotion["findings"] if finding["verdict"] in order]
        text = WORDS.get(verdict, verdict)
        if unmet:
            worst = min(unmet, key=lambda finding: order[finding["verdict"]])
            text += f": {worst['rule']}: {worst['sentence']}"
            if verdict == "waiting_human" and worst.get("who"):
                text = f"{text.rstrip('.')}: {worst['who']}"
    text = xml_text(one_line(text))
    return text if len(text) <= TITLE_LENGTH else text[: TITLE_LENGTH - 1] + "…"


def pause(promotion: dict[str, Any], now: datetime) -> int:
    """How many seconds nobody need ask again: until time alone could let it pass, but never long.

    A policy, a window or a pin may change the time, and an override end the wait, so it is not slept through.
    """
    times = [
        datetime.fromisoformat(finding["earliest"].replace("Z", "+00:00"))
        for finding in promotion["findings"]
        if finding["verdict"] == "waiting_time" and finding.get("earliest")
    ]
    seconds = math.ceil((max(times) - now).total_seconds()) if times else USUAL_SLEEP
    return min(max(seconds, SHORTEST_SLEEP), LONGEST_SLEEP)


def describe_report(report: dict[str, Any]) -> str:
    """Say what a test report holds."""
    counts = [(report[name], name) for name in ("passed", "failed", "errors", "skipped", "unknown")]
    text = ", ".join(f"{count} {name}" for count, name in counts if count) or "no cases"
    state = text if report["complete"] else f"incomplete: {one_line(report['problem']) or 'not read yet'}"
    return f"  report {report['name']}: {state}"


def write_reports(promotion: dict[str, Any], folder: Path, explanation: Any = None) -> None:
    """Write the promotion as JSON, its findings as Markdown for people and as JUnit XML for the pipeline.

    `explanation` adds what it comes to: the answer, the earliest times and the address of the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = "promotion-" + re.sub(r"[^\w-]", "_", promotion["environment"])
    content = {**promotion, "explanation": explanation} if explanation else promotion
    replace(folder / f"{name}.json", json.dumps(content, indent=2, sort_keys=True) + "\n")
    replace(folder / f"{name}.title", entitle(promotion) + "\n")
    replace(folder / f"{name}.pause", f"{pause(promotion, datetime.now().astimezone())}\n")

    cells = ("verdict", "rule", "sentence", "who", "earliest")
    rows = [
        [one_line(finding.get(cell)).replace("|", r"\|") for cell in cells]
        for finding in promotion["findings"]
    ]
    table = [
        "| verdict | rule | finding | asked | not before |",
        "|---|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    head = f"# {promotion['environment']}: {promotion['status']}, {promotion['verdict'] or 'not judged yet'}"
    page = (promotion.get("links") or {}).get("page")
    paragraphs = [
        one_line(promotion["reason"]),
        one_line(explanation["answer"]) if explanation else "",
        f"[Promotion {promotion['id']} in Lockkeeper]({page})" if page else "",
    ]
    above = [line for text in paragraphs if text for line in (text, "")]
    replace(folder / f"{name}.md", "\n".join([head, "", *above, *table]) + "\n")

    suite = ET.Element("testsuite", name=f"gate {promotion['environment']}", tests=str(len(rows)))
    for finding in promotion["findings"]:
        case = ET.SubElement(suite, "testcase", classname=suite.get("name", ""), name=finding["rule"])
        if EXIT_CODES.get(finding["verdict"], ERROR):
            # Waiting is not failing: a pipeline that counts failures must not count it.
            kind = "failure" if finding["verdict"] in ("blocked", "inconclusive") else "skipped"
            told = ET.SubElement(case, kind, message=xml_text(finding["sentence"]), type=finding["verdict"])
            more = [
                f"asked: {finding['who']}" if finding.get("who") else "",
                f"not before {finding['earliest']}" if finding.get("earliest") else "",
                page or "",
            ]
            told.text = xml_text("\n".join(line for line in more if line))
    replace(folder / f"{name}.xml", ET.tostring(suite, encoding="unicode", xml_declaration=True))


def xml_text(text: str) -> str:
    """The text without what XML 1.0 has no place for, most control characters among it."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)


def replace(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old or the new one, never half of it."""
    handle, name = tempfile.mkstemp(dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink()
        raise


def tell(lines: tuple[str, ...], seen: tuple[str, ...]) -> tuple[str, ...]:
    """Show the lines that were not shown just before; return all of them."""
    for line in lines:
        if line not in seen:
            say(line)
    return lines


def one_line(text: Any) -> str:
    return " ".join(str(text or "").split())


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def read_settings() -> tuple[str, str]:
    """Return the address and the token from the environment."""
    url = os.environ.get("LOCKKEEPER_URL", "")
    if not url:
        raise Failure(
            "LOCKKEEPER_URL is not set: the address of Lockkeeper, such as https://lockkeeper.example.com"
        )
    token, file = os.environ.get("LOCKKEEPER_TOKEN", ""), os.environ.get("LOCKKEEPER_TOKEN_FILE", "")
    if token and file:
        raise Failure("LOCKKEEPER_TOKEN and LOCKKEEPER_TOKEN_FILE are both set: unset one")
    if file:
        try:
            token = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Failure(
                f"LOCKKEEPER_TOKEN_FILE={file}: {getattr(error, 'strerror', None) or error}"
            ) from error
    if not token:
        raise Failure("no token: set LOCKKEEPER_TOKEN, or LOCKKEEPER_TOKEN_FILE to a file that holds one")
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise Failure("the token holds a blank or a character that no token has: was it pasted whole?")
    return url, token


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="lockkeeper.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--patience", type=float, default=300, metavar="S", help="seconds to try a server that is away; 300"
    )
    reports = argparse.ArgumentParser(add_help=False)
    reports.add_argument(
        "--reports", type=Path, metavar="DIR", help="write findings as JSON, Markdown and JUnit XML there"
    )
    waiting = argparse.ArgumentParser(add_help=False)
    waiting.add_argument("--timeout", type=float, default=1800, metavar="S", help="seconds to wait; 1800")
    waiting.add_argument(
        "--through",
        action="append",
        default=[],
        choices=["human", "time"],
        help="go on waiting while a person, or time, is waited for; repeat for both",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser(
        "register-build", parents=[common], help="register a build, print its release"
    )
    command.add_argument("--service", required=True)
    command.add_argument("--build", required=True, metavar="PROJECT:UUID", help="CodeBuild's id of the build")
    command.add_argument("--commit", help="the commit that was built, 40 hexadecimal digits")
    command.add_argument(
        "--pipeline-url",
        default=os.environ.get("BUILD_URL", ""),
        metavar="URL",
        help="the page of this run; BUILD_URL, which Jenkins sets",
    )
    command.add_argument("--timeout", type=float, default=1800, metavar="S", help="seconds to wait; 1800")
    command.set_defaults(run=register_build)

    command = commands.add_parser("promote", parents=[common, reports, waiting], help="ask for a promotion")
    command.add_argument("--release", type=int, required=True, metavar="ID")
    command.add_argument("--environment", required=True, metavar="NAME")
    command.add_argument("--wait", action="store_true", help="until it ends, or stands still")
    command.set_defaults(run=promote)

    command = commands.add_parser("wait", parents=[common, reports, waiting], help="wait for a promotion")
    command.add_argument("--promotion", type=int, required=True, metavar="ID")
    command.set_defaults(run=wait)

    command = commands.add_parser("explain", parents=[common, reports], help="say where a promotion stands")
    command.add_argument("--promotion", type=int, required=True, metavar="ID")
    command.set_defaults(run=explain)

    options = parser.parse_args(arguments)
    options.waits = options.run is wait or (options.run is promote and options.wait)
    return options


def main(arguments: list[str] | None = None) -> NoReturn:
    options = parse_arguments(arguments)
    # A pipeline that is aborted sends TERM; the promotion itself goes on and can be waited for again.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        sys.exit(options.run(Client(*read_settings(), patience=options.patience), options))
    except Failure as failure:
        say(f"error: {failure}")
    except (KeyError, TypeError, IndexError) as error:
        say(f"error: the answer is not one of this API ({type(error).__name__} {error}): see LOCKKEEPER_URL")
    except OSError as error:
        say(f"error: {error.filename or 'output'}: {error.strerror or error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    sys.exit(ERROR)


if __name__ == "__main__":
    main()
