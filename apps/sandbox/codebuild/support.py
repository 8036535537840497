"""What a sandbox without containers cannot do of a valid buildspec."""

from apps.specs.buildspec import Artifacts, Buildspec, Cache


class UnsupportedError(Exception):
    """A valid buildspec asks for what this sandbox does not do."""


def check_supported(spec: Buildspec) -> list[str]:
    """Return notes on what has no effect here; raise UnsupportedError for what would change the build."""
    _refuse_run_as(spec.run_as)
    if spec.shell not in ("sh", "bash"):
        raise UnsupportedError(f"env/shell {spec.shell}: the sandbox has sh and bash")
    if spec.secrets_manager:
        raise UnsupportedError("env/secrets-manager: give builds a parameter-store instead")
    if not spec.phases:
        raise UnsupportedError("a buildspec without phases: batch builds are none of the sandbox")
    for name, phase in spec.phases.items():
        _refuse_run_as(phase.run_as)
        if phase.steps:
            raise UnsupportedError(f"steps in phase {name}")
        if phase.on_failure.startswith("RETRY"):
            raise UnsupportedError(f"on-failure {phase.on_failure} in phase {name}")
    if spec.artifacts:
        for artifacts in (spec.artifacts, *spec.artifacts.secondary.values()):
            _check_artifacts(artifacts)
    _check_cache(spec.cache)
    return [
        f"the {section} section has no effect in the sandbox"
        for section, given in (("proxy", spec.proxy), ("batch", spec.batch))
        if given
    ]


def _check_cache(cache: Cache) -> None:
    if cache.key or cache.fallback_keys:
        raise UnsupportedError("cache/key: the sandbox keeps one cache per project")


def _check_artifacts(artifacts: Artifacts) -> None:
    if artifacts.s3_prefix:
        raise UnsupportedError("artifacts/s3-prefix")


def _refuse_run_as(user: str) -> None:
    if user:
        raise UnsupportedError(f"run-as {user}: the sandbox builds as the user it runs as")
