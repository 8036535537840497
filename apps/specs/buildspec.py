"""A buildspec as CodeBuild reads it: what it refuses, and what it makes of the rest.

https://docs.aws.amazon.com/codebuild/latest/userguide/build-spec-ref.html

This is the one definition of what CodeBuild accepts, and follows the documented syntax: keys that it does not
name are refused. CodeBuild is lenient where many public buildspecs rely on it: `files: a` and `commands: a`
stand for a list of one, scalars are text; such things are warnings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .buildspec_values import FORM, Keys, key_values, on_or_off, read_keys, read_list, read_text
from .document import Document, DocumentError, Mapping, Node, Scalar, Sequence, is_null, load
from .duplicates import note_duplicates, note_second_document
from .findings import Finding, Findings, Place, closest, quoted

PHASES = ("install", "pre_build", "build", "post_build")
SHELLS = ("sh", "/bin/sh", "bash", "/bin/bash", "powershell.exe", "cmd.exe")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ON_FAILURE = re.compile(r"ABORT|CONTINUE|RETRY(-.+)?", re.IGNORECASE | re.DOTALL)
_TOP = ("version", "run-as", "env", "proxy", "batch", "phases", "reports", "artifacts", "cache")
_ENV = (
    "shell",
    "variables",
    "parameter-store",
    "secrets-manager",
    "exported-variables",
    "git-credential-helper",
)
_PHASE = ("run-as", "on-failure", "runtime-versions", "commands", "finally", "steps")
_FILES = (
    "files",
    "name",
    "discard-paths",
    "base-directory",
    "exclude-paths",
    "enable-symlinks",
    "s3-prefix",
)
_REPORT = ("files", "base-directory", "discard-paths", "file-format")
_CACHE = ("paths", "key", "fallback-keys", "action")
_BATCH = ("fast-fail", "build-list", "build-graph", "build-matrix", "build-fanout")
_PROXY = ("upload-artifacts", "logs")
FILE_FORMATS = (
    "JUNITXML",
    "CUCUMBERJSON",
    "NUNITXML",
    "NUNIT3XML",
    "TESTNGXML",
    "VISUALSTUDIOTRX",
    "CLOVERXML",
    "COBERTURAXML",
    "JACOCOXML",
    "SIMPLECOV",
)
COVERAGE_FORMATS = FILE_FORMATS[-4:]
# Files that lie about under the same name.
_OTHERS = {
    "AWSTemplateFormatVersion": "a CloudFormation template",
    "Resources": "a CloudFormation template",
    "jobs": "a workflow of GitHub Actions",
    "stages": "a pipeline of GitLab",
    "services": "a file of docker compose",
}


class BuildspecError(Exception):
    """The buildspec is not valid: the message of CodeBuild's YAML_FILE_ERROR."""


@dataclass
class Phase:
    """The commands of one phase."""

    commands: list[str] = field(default_factory=list)
    finally_: list[str] = field(default_factory=list)
    on_failure: str = ""  # "" | ABORT | CONTINUE | RETRY...
    runtime_versions: dict[str, str] = field(default_factory=dict)
    run_as: str = ""
    steps: bool = False


@dataclass
class FileSet:
    """Which files to take from the source folder: those of artifacts, or of one report."""

    files: list[str]
    base_directory: str = ""
    discard_paths: bool = False
    exclude: list[str] = field(default_factory=list)


@dataclass
class Artifacts(FileSet):
    """The artifacts section, or one of its secondary artifacts."""

    name: str = ""
    s3_prefix: str = ""
    secondary: dict[str, Artifacts] = field(default_factory=dict)


@dataclass
class ReportSpec(FileSet):
    """One entry of the reports section; `group` is a name or the ARN of a report group."""

    group: str = ""
    file_format: str = "JUNITXML"


@dataclass
class Cache:
    """The cache section."""

    paths: list[str] = field(default_factory=list)
    key: str = ""
    fallback_keys: list[str] = field(default_factory=list)


@dataclass
class Buildspec:
    """A buildspec that was checked."""

    version: str
    shell: str = "sh"
    run_as: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    parameter_store: dict[str, str] = field(default_factory=dict)
    secrets_manager: dict[str, str] = field(default_factory=dict)
    exported_variables: list[str] = field(default_factory=list)
    phases: dict[str, Phase] = field(default_factory=dict)
    artifacts: Artifacts | None = None
    reports: list[ReportSpec] = field(default_factory=list)
    cache: Cache = field(default_factory=Cache)
    batch: bool = False
    proxy: bool = False


def parse_buildspec(text: str) -> Buildspec:
    """Read a buildspec. Raises BuildspecError with CodeBuild's first complaint and its place."""
    try:
        document = load(text)
    except DocumentError as error:
        raise BuildspecError(_sentence(error.finding)) from None
    spec, findings = read_buildspec(document)
    if errors := findings.errors:
        raise BuildspecError(errors[0].words or _sentence(errors[0]))
    return spec


def _sentence(finding: Finding) -> str:
    return f"{finding.message.rstrip('.')} at line {finding.line}"


def read_buildspec(document: Document) -> tuple[Buildspec, Findings]:
    """What CodeBuild makes of a buildspec, and what was found; with an error, it makes nothing of it."""
    findings = Findings()
    spec = Buildspec(version="")
    root = document.root
    if root is None or is_null(root):
        findings.error("empty", Place(), "The buildspec is empty.", "Begin with the line: version: 0.2")
        return spec, findings
    note_second_document(document, findings)
    note_duplicates(root, findings)
    keys = read_keys(root, "the buildspec", _TOP, findings, special=_top_mends(root))
    if isinstance(root, Mapping):
        _version(root, keys, spec, findings)
        _sections(root, keys, spec, findings)
    return spec, findings


def _top_mends(root: Node) -> dict[str, str]:
    mends = {}
    for key in key_values(root):
        if key in _OTHERS:
            mends[key] = f"This looks like {_OTHERS[key]}: name the buildspec."
        elif key in PHASES:
            mends[key] = "Indent it below phases."
        elif key in _ENV:
            mends[key] = "Indent it below env."
        elif key in ("environment_variables", "plaintext"):
            mends[key] = "Write env: with variables: below it."
        elif key in ("commands", "finally", "runtime-versions"):
            mends[key] = "Indent it below one of the phases: install, pre_build, build or post_build."
        elif key in ("files", "discard-paths", "base-directory", "secondary-artifacts"):
            mends[key] = "Indent it below artifacts."
        elif key == "paths":
            mends[key] = "Indent it below cache."
    return mends


def _version(root: Mapping, keys: Keys, spec: Buildspec, findings: Findings) -> None:
    if "version" not in keys:
        findings.error(
            "version",
            root,
            "version is missing; the first line should be: version: 0.2.",
            "Write it first in the file: version: 0.2",
        )
        return
    node = keys["version"]
    spec.version = read_text(node, "version", findings)
    if spec.version not in ("0.1", "0.2"):
        findings.error(
            "version", node, f"unsupported version {spec.version!r}; use 0.2.", "Write: version: 0.2"
        )
    elif spec.version == "0.1":
        findings.warn(
            "version-0.1",
            node,
            "Version 0.1 runs each command in a shell of its own: cd and variables are lost after each.",
            "Write: version: 0.2",
        )


def _sections(root: Mapping, keys: Keys, spec: Buildspec, findings: Findings) -> None:
    spec.batch, spec.proxy = "batch" in keys, "proxy" in keys
    spec.run_as = _optional(keys, "run-as", findings)
    for name, node in keys.items():
        if is_null(node) and name not in ("version", "phases"):
            findings.warn("empty-section", node, f"{name} is empty.", f"Fill it, or take it away: {name}")
    _phases(root, keys, spec, findings)
    filled = {name: node for name, node in keys.items() if not is_null(node)}
    if "env" in filled:
        _env(filled["env"], spec, findings)
    if "artifacts" in filled:
        spec.artifacts = _artifacts(filled["artifacts"], findings)
    if "reports" in filled:
        for name, node in read_keys(filled["reports"], "reports", None, findings).items():
            spec.reports.append(_report(name, node, findings))
    if "cache" in filled:
        _cache(filled["cache"], spec, findings)
    for name, known in (("batch", _BATCH), ("proxy", _PROXY)):
        if name in filled:
            read_keys(filled[name], name, known, findings)


def _env(node: Node, spec: Buildspec, findings: Findings) -> None:
    env = read_keys(node, "env", _ENV, findings)
    if "shell" in env:
        shell = read_text(env["shell"], "env/shell", findings)
        if shell not in SHELLS:
            findings.error(
                "shell",
                env["shell"],
                f"env/shell {shell} is no shell of CodeBuild.",
                f"Write one of {', '.join(SHELLS)}.",
            )
        spec.shell = shell.removeprefix("/bin/")
    spec.variables = _variables(env, "variables", findings)
    spec.parameter_store = _variables(env, "parameter-store", findings)
    spec.secrets_manager = _variables(env, "secrets-manager", findings)
    for section, values in (
        ("parameter-store", spec.parameter_store),
        ("secrets-manager", spec.secrets_manager),
    ):
        for name, value in values.items():
            if not value:
                findings.error(
                    "env-empty",
                    env[section],
                    f"env/{section}/{name} names nothing.",
                    "Write the name of the parameter or of the secret.",
                )
    for name in spec.variables:
        _plain_secret(name, spec.variables[name], env["variables"], findings)
    if "exported-variables" in env:
        at = env["exported-variables"]
        spec.exported_variables = list(read_list(at, "exported-variables", findings))
        for name in spec.exported_variables:
            if not _NAME.fullmatch(name):
                findings.warn(
                    "exported-name",
                    at,
                    f"{quoted(name)} is not the name of a variable, so nothing is exported.",
                    "Write a list of names, one behind each hyphen.",
                )


def _variables(env: Keys, section: str, findings: Findings) -> dict[str, str]:
    if is_null(env.get(section)):
        return {}
    variables = {}
    for name, node in read_keys(env[section], f"env/{section}", None, findings).items():
        _variable_name(name, node, findings)
        variables[name] = read_text(node, f"env/{section}/{name}", findings)
        if isinstance(node, Scalar) and node.tag in ("bool", "int", "float", "null", "timestamp"):
            findings.warn(
                "env-not-text",
                node,
                f"env/{section}/{name} is not a text: YAML takes {quoted(node.text)} for a {node.tag}.",
                f'Put it in quotes: {name}: "{node.text}"',
            )
    return variables


def _variable_name(name: str, node: Node, findings: Findings) -> None:
    if not _NAME.fullmatch(name):
        findings.error(
            "env-name",
            node,
            f"{quoted(name)} is not the name of an environment variable.",
            "Use letters, digits and underscores, beginning with no digit.",
        )
    elif name.startswith("CODEBUILD_"):
        findings.warn(
            "env-reserved",
            node,
            f"{name} is reserved: CodeBuild sets the CODEBUILD_ variables, and its value wins.",
            "Choose another name.",
        )
    elif name in ("PATH", "HOME", "LD_PRELOAD", "LD_LIBRARY_PATH", "SHELL", "IFS"):
        findings.warn(
            "env-replaces",
            node,
            f"{name} replaces the image's own value for every command of the build.",
            f"Extend it in the first command instead, as in: export {name}=...:${name}"
            if name.endswith("PATH")
            else f"Set it for the command that needs it alone, as in: {name}=... COMMAND",
        )


def _plain_secret(name: str, value: str, node: Node, findings: Findings) -> None:
    if re.search(r"(?i)secret_?(access_?)?key|passw(or)?d|api_?key|private_?key|_token$", name) and value:
        if value.startswith("$") or re.fullmatch(r"<.*>", value):
            return
        at = next((key for text, key in key_values(node, keys=True).items() if text == name), node)
        findings.warn(
            "secret-in-plain-text",
            at,
            f"{name} looks like a secret, and everybody who sees the source or the build sees its value.",
            "Put it into env/secrets-manager or env/parameter-store, and change the secret.",
        )


def _phases(root: Node, keys: Keys, spec: Buildspec, findings: Findings) -> None:
    node = keys.get("phases")
    if node is None or is_null(node):
        # Only a batch build can do without: its builds have buildspecs of their own.
        if node is not None or not spec.batch:
            findings.error(
                "no-phases",
                node or root,
                "phases is missing." if node is None else "phases has no phase.",
                "Write phases:, and below it build:, and below that commands:",
            )
        return
    mends = {name: f"Move {name} out of phases, to the first column." for name in _TOP} | dict.fromkeys(
        ("test", "tests", "deploy", "package", "lint"), "Put its commands into build or post_build."
    )
    phases = read_keys(node, "phases", PHASES, findings, what="phase", special=mends)
    for name, phase in phases.items():
        spec.phases[name] = _phase(name, phase, findings)


def _phase(name: str, node: Node, findings: Findings) -> Phase:
    mends = dict.fromkeys(PHASES, f"Move it left, to the column of {name}: it is inside of {name} now.") | {
        section: f"Move {section} out of phases, to the first column."
        for section in ("artifacts", "reports", "cache", "env")
    }
    phase = Phase()
    mend = f"Write below {name}: a line commands:, and below that: - COMMAND"
    if is_null(node):
        findings.error("no-commands", node, f"phase {name} has no commands.", mend)
        return phase
    keys = read_keys(node, f"phase {name}", _PHASE, findings, special=mends)
    if "run-as" in keys:
        phase.run_as = read_text(keys["run-as"], "run-as", findings)
    phase.steps = "steps" in keys
    # A phase may have only `finally` or, for install, only `runtime-versions`.
    if "commands" in keys:
        phase.commands = list(read_list(keys["commands"], "Commands", findings, commands=True))
        if not phase.commands and not _has_items(keys["commands"]):
            findings.error(
                "no-commands",
                keys["commands"],
                f"phase {name}: commands is empty.",
                f"Add a command, or take {name} away.",
            )
    if "finally" in keys:
        phase.finally_ = list(read_list(keys["finally"], "Finally", findings, commands=True))
    if isinstance(node, Mapping) and not keys.keys() & {"commands", "finally", "runtime-versions", "steps"}:
        findings.error("no-commands", node, f"phase {name} has no commands.", mend)
    if not is_null(keys.get("runtime-versions")):
        versions = read_keys(keys["runtime-versions"], f"phase {name}/runtime-versions", None, findings)
        phase.runtime_versions = {key: read_text(value, key, findings) for key, value in versions.items()}
        if name != "install":
            findings.warn(
                "runtime-versions",
                keys["runtime-versions"],
                f"runtime-versions has no effect in {name}.",
                "Move it to the phase install.",
            )
    if "on-failure" in keys:
        _on_failure(name, keys["on-failure"], phase, findings)
    return phase


def _has_items(node: Node) -> bool:
    return isinstance(node, Mapping) or (
        isinstance(node, Sequence) and any(not is_null(item) for item in node.items)
    )


def _on_failure(name: str, node: Node, phase: Phase, findings: Findings) -> None:
    phase.on_failure = read_text(node, "on-failure", findings)
    if _ON_FAILURE.fullmatch(phase.on_failure):
        phase.on_failure = phase.on_failure.upper()
        return
    findings.error(
        "on-failure",
        node,
        f"phase {name}: on-failure must be ABORT, CONTINUE or RETRY, not {quoted(phase.on_failure)}.",
        "Write ABORT, CONTINUE, RETRY, RETRY-3 or RETRY-3-REGULAR_EXPRESSION.",
    )


def _artifacts(node: Node, findings: Findings, place: str = "artifacts") -> Artifacts:
    known = (*_FILES, "secondary-artifacts") if place == "artifacts" else _FILES
    keys = read_keys(node, place, known, findings, special=_ARTIFACT_MENDS)
    artifacts = Artifacts(
        files=list(read_list(keys["files"], f"{place}/files", findings)) if "files" in keys else [],
        base_directory=_optional(keys, "base-directory", findings),
        discard_paths=on_or_off(keys, "discard-paths", findings),
        exclude=list(read_list(keys["exclude-paths"], "exclude-paths", findings))
        if "exclude-paths" in keys
        else [],
        name=_optional(keys, "name", findings),
        s3_prefix=_optional(keys, "s3-prefix", findings),
    )
    on_or_off(keys, "enable-symlinks", findings)
    if not is_null(keys.get("secondary-artifacts")):
        for name, item in read_keys(
            keys["secondary-artifacts"], "secondary-artifacts", None, findings
        ).items():
            artifacts.secondary[name] = _artifacts(item, findings, f"secondary-artifacts/{name}")
    elif not artifacts.files and isinstance(node, Mapping):
        findings.error(
            "no-files",
            keys.get("files") or node,
            f"{place} has no files.",
            "Write files:, and below it: - NAME or - '**/*'",
        )
    return artifacts


_ARTIFACT_MENDS = {
    "type": "Take it away: the project says whether the artifact is a ZIP archive.",
    "location": "Take it away: the project says in which bucket.",
    "paths": "Write: files:",
}


def _report(group: str, node: Node, findings: Findings) -> ReportSpec:
    place = f"reports/{group}"
    keys = read_keys(node, place, _REPORT, findings)
    files = list(read_list(keys["files"], f"{place}/files", findings)) if "files" in keys else []
    if not files and not (isinstance(node, Scalar) and not is_null(node)):
        findings.error(
            "no-files", node, f"{place} has no files.", "Write files:, and below it: - 'results/*.xml'"
        )
    file_format = _optional(keys, "file-format", findings).upper() or "JUNITXML"
    if file_format not in FILE_FORMATS:
        meant = closest(file_format, FILE_FORMATS)
        findings.error(
            "file-format",
            keys["file-format"],
            f"{place}: file-format {file_format} is none of {', '.join(FILE_FORMATS)}.",
            f"Did you mean {meant}?"
            if meant
            else "Convert the file to one of those, or leave the report out.",
        )
    return ReportSpec(
        files=files,
        base_directory=_optional(keys, "base-directory", findings),
        discard_paths=on_or_off(keys, "discard-paths", findings),
        group=group,
        file_format=file_format,
    )


def _cache(node: Node, spec: Buildspec, findings: Findings) -> None:
    keys = read_keys(node, "cache", _CACHE, findings)
    spec.cache = Cache(
        paths=list(read_list(keys["paths"], "cache/paths", findings)) if "paths" in keys else [],
        key=_optional(keys, "key", findings),
        fallback_keys=(
            list(read_list(keys["fallback-keys"], "fallback-keys", findings))
            if "fallback-keys" in keys
            else []
        ),
    )
    if not spec.cache.paths and isinstance(node, Mapping):
        findings.warn("no-cache-paths", node, "cache has no paths, so nothing is cached.", f"{FORM} paths:")


def _optional(keys: Keys, name: str, findings: Findings) -> str:
    return read_text(keys[name], name, findings) if not is_null(keys.get(name)) else ""
