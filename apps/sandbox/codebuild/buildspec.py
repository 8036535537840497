"""Read and check a buildspec.

https://docs.aws.amazon.com/codebuild/latest/userguide/build-spec-ref.html

The check follows the documented syntax: keys that it does not name are refused. CodeBuild is lenient where
many public buildspecs rely on it: `files: a` and `commands: a` stand for a list of one, scalars are text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

PHASES = ("install", "pre_build", "build", "post_build")
MAX_BYTES = 1 << 20
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOP = {"version", "run-as", "env", "proxy", "batch", "phases", "reports", "artifacts", "cache"}
_ENV = {
    "shell",
    "variables",
    "parameter-store",
    "exported-variables",
    "secrets-manager",
    "git-credential-helper",
}
_PHASE = {"run-as", "on-failure", "runtime-versions", "commands", "finally", "steps"}
_ARTIFACTS = {
    "files",
    "name",
    "discard-paths",
    "base-directory",
    "exclude-paths",
    "enable-symlinks",
    "s3-prefix",
    "secondary-artifacts",
}
_REPORT = {"files", "base-directory", "discard-paths", "file-format"}
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


class BuildspecError(Exception):
    """The buildspec is not valid: the message of CodeBuild's YAML_FILE_ERROR."""


class UnsupportedError(Exception):
    """A valid buildspec asks for what this sandbox does not do."""


@dataclass
class Phase:
    """The commands of one phase."""

    commands: list[str] = field(default_factory=list)
    finally_: list[str] = field(default_factory=list)
    on_failure: str = ""  # "" | ABORT | CONTINUE
    runtime_versions: dict[str, str] = field(default_factory=dict)


@dataclass
class FileSet:
    """Which files to take from the source folder: those of artifacts, or of one report."""

    files: list[str]
    base_directory: str = ""
    discard_paths: bool = False
    exclude: list[str] = field(default_factory=list)


@dataclass
class Artifacts(FileSet):
    """The artifacts section."""

    name: str = ""


@dataclass
class ReportSpec(FileSet):
    """One entry of the reports section; `group` is a name or the ARN of a report group."""

    group: str = ""
    file_format: str = "JUNITXML"


@dataclass
class Buildspec:
    """A buildspec that was checked."""

    version: str
    shell: str = "sh"
    variables: dict[str, str] = field(default_factory=dict)
    parameter_store: dict[str, str] = field(default_factory=dict)
    exported_variables: list[str] = field(default_factory=list)
    phases: dict[str, Phase] = field(default_factory=dict)
    artifacts: Artifacts | None = None
    reports: list[ReportSpec] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # accepted, without effect here


def parse_buildspec(text: str) -> Buildspec:
    """Read a buildspec.

    Raises BuildspecError, naming the place, where it is invalid, and UnsupportedError where it is valid but
    asks for something that a sandbox without containers cannot do.
    """
    top = _mapping(_compose(text), "the buildspec", known=_TOP)
    if "version" not in top:
        raise BuildspecError("version is missing; the first line should be: version: 0.2")
    version = _text(top["version"], "version")
    if version not in ("0.1", "0.2"):
        raise BuildspecError(f"unsupported version {version!r}{_at(top['version'])}; use 0.2")
    spec = Buildspec(version=version)
    if "phases" not in top:
        batch = "; a batch build is not supported by the sandbox" if "batch" in top else ""
        raise BuildspecError(f"phases is missing{batch}")
    _refuse_run_as(top)
    _read_env(top, spec)
    _read_phases(top["phases"], spec)
    if "artifacts" in top:
        spec.artifacts = _read_artifacts(top["artifacts"])
    if "reports" in top:
        for name, node in _mapping(top["reports"], "reports").items():
            spec.reports.append(_read_report(name, node))
    for section in ("cache", "proxy", "batch"):
        if section in top:
            spec.notes.append(f"the {section} section has no effect in the sandbox")
    return spec


def _compose(text: str) -> yaml.Node:
    if len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise BuildspecError(f"the buildspec is larger than {MAX_BYTES} bytes")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f" at line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise BuildspecError(f"{error.problem or error.context}{line}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise BuildspecError(f"the buildspec is not YAML: {error}") from error
    if root is None:
        raise BuildspecError("the buildspec is empty")
    return root


def _read_env(top: dict[str, yaml.Node], spec: Buildspec) -> None:
    if "env" not in top:
        return
    env = _mapping(top["env"], "env", known=_ENV)
    if "shell" in env:
        spec.shell = _text(env["shell"], "env/shell").removeprefix("/bin/")
        if spec.shell not in ("sh", "bash"):
            raise UnsupportedError(f"env/shell {spec.shell}: the sandbox has sh and bash")
    spec.variables = _variables(env, "variables")
    spec.parameter_store = _variables(env, "parameter-store")
    if "secrets-manager" in env and _mapping(env["secrets-manager"], "env/secrets-manager"):
        raise UnsupportedError("env/secrets-manager: the sandbox has no Secrets Manager")
    if "exported-variables" in env:
        names = list(_strings(env["exported-variables"], "exported-variables"))
        spec.exported_variables = [_variable_name(name, env["exported-variables"]) for name in names]


def _variables(env: dict[str, yaml.Node], section: str) -> dict[str, str]:
    if section not in env:
        return {}
    nodes = _mapping(env[section], f"env/{section}")
    return {_variable_name(n, node): _text(node, f"env/{section}/{n}") for n, node in nodes.items()}


def _variable_name(name: str, node: yaml.Node) -> str:
    if not _NAME.fullmatch(name):
        raise BuildspecError(f"{name!r} is not the name of an environment variable{_at(node)}")
    if name.startswith("CODEBUILD_"):
        raise BuildspecError(f"{name} is reserved: CodeBuild sets the CODEBUILD_ variables{_at(node)}")
    return name


def _read_phases(node: yaml.Node, spec: Buildspec) -> None:
    for name, phase in _mapping(node, "phases", known=set(PHASES), what="phase").items():
        spec.phases[name] = _read_phase(name, phase)


def _read_phase(name: str, node: yaml.Node) -> Phase:
    keys = _mapping(node, f"phase {name}", known=_PHASE)
    _refuse_run_as(keys)
    if "steps" in keys:
        raise UnsupportedError(f"steps in phase {name}")
    phase = Phase()
    # A phase may have only `finally` or, for install, only `runtime-versions`.
    if "commands" in keys:
        phase.commands = list(_strings(keys["commands"], "Commands"))
        if not phase.commands:
            raise BuildspecError(f"phase {name}: commands is empty{_at(keys['commands'])}")
    if "finally" in keys:
        phase.finally_ = list(_strings(keys["finally"], "Finally"))
    if not keys.keys() & {"commands", "finally", "runtime-versions"}:
        raise BuildspecError(f"phase {name} has no commands{_at(node)}")
    if "runtime-versions" in keys:
        versions = _mapping(keys["runtime-versions"], f"phase {name}/runtime-versions")
        phase.runtime_versions = {key: _text(value, key) for key, value in versions.items()}
    if "on-failure" in keys:
        phase.on_failure = _text(keys["on-failure"], "on-failure").upper()
        if phase.on_failure.startswith("RETRY"):
            raise UnsupportedError(f"on-failure {phase.on_failure} in phase {name}")
        if phase.on_failure not in ("ABORT", "CONTINUE"):
            raise BuildspecError(
                f"phase {name}: on-failure must be ABORT or CONTINUE, not {phase.on_failure!r}"
                f"{_at(keys['on-failure'])}"
            )
    return phase


def _read_artifacts(node: yaml.Node) -> Artifacts:
    keys = _mapping(node, "artifacts", known=_ARTIFACTS)
    for key in ("secondary-artifacts", "s3-prefix"):
        if key in keys:
            raise UnsupportedError(f"artifacts/{key}")
    if "files" not in keys:
        raise BuildspecError(f"artifacts has no files{_at(node)}")
    return Artifacts(
        files=list(_strings(keys["files"], "artifacts/files")),
        base_directory=_optional(keys, "base-directory"),
        discard_paths=_yes(keys, "discard-paths"),
        exclude=list(_strings(keys["exclude-paths"], "exclude-paths")) if "exclude-paths" in keys else [],
        name=_optional(keys, "name"),
    )


def _read_report(group: str, node: yaml.Node) -> ReportSpec:
    keys = _mapping(node, f"reports/{group}", known=_REPORT)
    if "files" not in keys:
        raise BuildspecError(f"reports/{group} has no files{_at(node)}")
    file_format = _optional(keys, "file-format").upper() or "JUNITXML"
    if file_format not in FILE_FORMATS:
        raise BuildspecError(
            f"reports/{group}: file-format {file_format} is none of {', '.join(FILE_FORMATS)}"
            f"{_at(keys['file-format'])}"
        )
    return ReportSpec(
        files=list(_strings(keys["files"], f"reports/{group}/files")),
        base_directory=_optional(keys, "base-directory"),
        discard_paths=_yes(keys, "discard-paths"),
        group=group,
        file_format=file_format,
    )


def _refuse_run_as(keys: dict[str, yaml.Node]) -> None:
    if "run-as" in keys:
        raise UnsupportedError(f"run-as{_at(keys['run-as'])}: the sandbox builds as the user it runs as")


def _at(node: yaml.Node) -> str:
    return f" at line {node.start_mark.line + 1}"


def _mapping(
    node: yaml.Node, place: str, known: set[str] | None = None, what: str = "key"
) -> dict[str, yaml.Node]:
    """Return a mapping's nodes by key; an empty value counts as an empty mapping."""
    if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null":
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise BuildspecError(f"{place} must be a mapping of keys to values{_at(node)}")
    found: dict[str, yaml.Node] = {}
    pairs: list[Any] = node.value  # `? [a, b]` makes a key that is no scalar, which the stubs do not know
    for key, value in pairs:
        if not isinstance(key, yaml.ScalarNode):
            raise BuildspecError(f"{place} has a key that is not text{_at(key)}")
        if known is not None and key.value not in known:
            raise BuildspecError(
                f"unknown {what} {key.value} in {place}{_at(key)}; known are {', '.join(sorted(known))}"
            )
        if key.value in found:
            raise BuildspecError(f"{key.value} appears twice in {place}, again{_at(key)}")
        found[key.value] = value
    return found


def _text(node: yaml.Node, place: str) -> str:
    """Return a scalar as it is written: `true` and `010` are text, as CodeBuild takes them."""
    if not isinstance(node, yaml.ScalarNode):
        raise BuildspecError(f"Expected {place} to be of string type: found subkeys instead{_at(node)}")
    return str(node.value)


def _strings(node: yaml.Node, place: str) -> Iterator[str]:
    """Yield a list's texts, empty ones left out; a single text counts as a list of one."""
    items: list[Any]
    if isinstance(node, yaml.ScalarNode):
        items = [node] if node.tag != "tag:yaml.org,2002:null" else []
    elif isinstance(node, yaml.SequenceNode):
        items = node.value
    else:
        raise BuildspecError(f"Expected {place} to be a list{_at(node)}")
    for index, item in enumerate(items):
        if not isinstance(item, yaml.ScalarNode):
            # CodeBuild's own words; the usual cause is an unquoted colon and space in a command.
            line = item.start_mark.line + 1
            raise BuildspecError(
                f"Expected {place}[{index}] to be of string type: found subkeys instead at line {line}, "
                f"value of the key tag on line {max(line - 1, 1)} might be empty"
            )
        if item.tag != "tag:yaml.org,2002:null":
            yield str(item.value)


def _optional(keys: dict[str, yaml.Node], name: str) -> str:
    return _text(keys[name], name) if name in keys else ""


def _yes(keys: dict[str, yaml.Node], name: str) -> bool:
    return _optional(keys, name).lower() in ("yes", "true")
