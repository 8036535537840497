"""Where else a build has a page."""

import pytest
from django.test import TestCase

from apps.aws.codebuild import console_url
from apps.builds.links import build_links, commit_url, is_page
from tests.clients import signed_in
from tests.factories import make_build, make_service, make_user

COMMIT = "a" * 40


@pytest.mark.parametrize(
    ("repository", "url"),
    [
        ("https://github.com/shop/web", f"https://github.com/shop/web/commit/{COMMIT}"),
        ("https://github.com/shop/web.git", f"https://github.com/shop/web/commit/{COMMIT}"),
        ("git@github.com:shop/web.git", f"https://github.com/shop/web/commit/{COMMIT}"),
        ("ssh://git@git.example/shop/web", f"https://git.example/shop/web/commit/{COMMIT}"),
        ("https://git.example:8443/web/", f"https://git.example:8443/web/commit/{COMMIT}"),
        ("https://gitlab.com/shop/web", f"https://gitlab.com/shop/web/-/commit/{COMMIT}"),
        ("https://bitbucket.org/shop/web", f"https://bitbucket.org/shop/web/commits/{COMMIT}"),
        ("https://user:secret@git.example/web", ""),
        ("javascript:alert(1)", ""),
        ("the third shelf", ""),
        ("https://git.example:shelf/web", ""),
        ("https://[git.example/web", ""),
        ("", ""),
    ],
)
def test_a_commit_has_a_page_where_the_repository_has_one(repository: str, url: str) -> None:
    assert commit_url(repository, COMMIT) == url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://jenkins.example/job/web/7/", True),
        ("http://jenkins:8080/job/a%20b/7/", True),
        ("http://[::1]:8080/job/web/7/", True),
        ("javascript:alert(1)", False),
        ("ftp://jenkins.example/", False),
        ("https:///job/web/7/", False),
        ("https://me:secret@jenkins.example/", False),
        ("https://jenkins.example/a b", False),
        ("https://jenkins.example/\n", False),
        ("https://[jenkins.example/", False),
        ("job/web/7/", False),
    ],
)
def test_only_pages_that_a_browser_can_be_sent_to_are_pages(url: str, expected: bool) -> None:
    assert is_page(url) is expected


def test_no_commit_no_page() -> None:
    assert commit_url("https://github.com/shop/web", "") == ""


def test_a_build_has_a_page_in_the_console(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL_CODEBUILD", raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert console_url("web:1-2") == (
        "https://eu-central-1.console.aws.amazon.com/codesuite/codebuild/projects/web/build/web%3A1-2"
        "/?region=eu-central-1"
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")
    assert console_url("web:1-2") == ""


class LinksTests(TestCase):
    def test_only_what_is_known_is_linked(self) -> None:
        service = make_service("web", repository="https://github.com/shop/web")
        build = make_build(service, log_url="javascript:alert(1)")
        links = build_links(build)
        assert links["commit"] == f"https://github.com/shop/web/commit/{build.commit}"
        assert "log" not in links

    def test_the_admin_links_to_them(self) -> None:
        service = make_service("web", repository="https://github.com/shop/web")
        build = make_build(service, log_url="https://logs.example/1", pipeline_url="https://ci.example/7/")
        client = signed_in(make_user("root", is_superuser=True, is_staff=True))
        page = client.get(f"/admin/builds/build/{build.pk}/change/")
        self.assertContains(page, f'href="https://github.com/shop/web/commit/{build.commit}"')
        self.assertContains(page, 'href="https://logs.example/1"')
        self.assertContains(page, 'href="https://ci.example/7/"')
