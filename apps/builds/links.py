"""Where else a build has a page: at the Git host, in the pipeline that started it, and in AWS's console."""

import re
from urllib.parse import urlsplit

from apps.aws import codebuild
from apps.builds.models import Build

# What hosts call a commit's page; the rest do as GitHub does.
COMMIT_PATHS = {"bitbucket.org": "commits", "gitlab.com": "-/commit"}


def build_links(build: Build) -> dict[str, str]:
    """Addresses by what they are called; without those that are not known. ``build.service`` is read."""
    found = {
        "commit": commit_url(build.service.repository, build.commit),
        "pipeline": build.pipeline_url,
        "CodeBuild": codebuild.console_url(build.codebuild_id),
        "log": build.log_url,
    }
    return {name: url for name, url in found.items() if url.startswith(("https://", "http://"))}


def is_page(url: str) -> bool:
    """Whether a browser can be sent to it: HTTP, on a host, and nobody's password in it."""
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in ("https", "http")
            and bool(parts.hostname)
            and "@" not in parts.netloc
            and url.isprintable()
            and " " not in url
        )
    except ValueError:
        return False


def commit_url(repository: str, commit: str) -> str:
    """The page of a commit at its Git host; empty where the repository is not one that browsers can open."""
    if not commit:
        return ""
    if ssh := re.fullmatch(r"(?:ssh://)?git@([\w.-]+)[:/](.+)", repository):
        repository = f"https://{ssh[1]}/{ssh[2]}"
    try:
        parts = urlsplit(repository)
        port = parts.port
    except ValueError:
        return ""
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.username:
        return ""
    path = parts.path.rstrip("/").removesuffix(".git")
    host = f"{parts.hostname}:{port}" if port else parts.hostname
    return f"{parts.scheme}://{host}{path}/{COMMIT_PATHS.get(parts.hostname, 'commit')}/{commit}"
