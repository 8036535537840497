"""The cache of a project: what one build leaves and the next finds."""

import os

import pytest

pytestmark = pytest.mark.integration

# What a build finds is in its log; then it adds to it.
SPEC = """
version: 0.2
phases:
  build:
    commands:
      - cat kept/count 2>/dev/null || echo nothing kept
      - test -L kept/link && readlink kept/link || true
      - test -x kept/tool && echo executable || true
      - mkdir -p kept/sub && echo x >> kept/count && ln -sf count kept/link && cp -f run.sh kept/tool
      - mkfifo kept/fifo; echo left > out.txt
      - test ! -e fail
cache:
  paths: ["kept/**/*", /root/.m2/**/*]
"""
FILES = {"buildspec.yml": SPEC, "run.sh": "#!/bin/sh\n"}


def run(builder, files=FILES, **params):
    version = builder.upload(files)
    return builder.wait(builder.start(sourceVersion=version, **params))


def caches(builder):
    return {
        "local": {"type": "LOCAL", "modes": ["LOCAL_SOURCE_CACHE", "LOCAL_CUSTOM_CACHE"]},
        "s3": {"type": "S3", "location": f"{builder.bucket}/caches"},
    }


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_a_build_finds_what_the_one_before_left_until_the_cache_is_invalidated(builder, kind):
    builder.create_project(cache=caches(builder)[kind])
    first = run(builder)
    assert first["buildStatus"] == "SUCCEEDED", builder.log(first)
    log = builder.log(first)
    assert "No cache found" in log
    assert "\nnothing kept\n" in log
    assert "/root/.m2/**/* lies outside of the source folder" in log
    assert "Saved 3 files to the cache" in log
    log = builder.log(run(builder))
    assert "Restored 3 files from the cache" in log
    assert "\nx\n" in log
    assert "\ncount\n" in log  # the link is one still
    assert "\nexecutable\n" in log
    builder.codebuild.invalidate_project_cache(projectName=builder.name)
    assert "\nnothing kept\n" in builder.log(run(builder))


def test_a_build_that_fails_keeps_nothing_and_others_do_not_share(builder):
    builder.create_project(cache=caches(builder)["local"])
    assert run(builder, FILES | {"fail": ""})["buildStatus"] == "FAILED"
    assert "No cache found" in builder.log(run(builder))
    # No cache: neither restored nor saved.
    log = builder.log(run(builder, cacheOverride={"type": "NO_CACHE"}))
    assert "nothing kept" in log
    assert "cache" not in log.partition("Entering phase INSTALL")[0]


def test_a_cache_that_cannot_be_had_fails_no_build(builder, sandbox):
    builder.create_project(cache={"type": "S3", "location": "no-such-bucket"})
    build = run(builder)
    assert build["buildStatus"] == "SUCCEEDED"
    assert build["cache"] == {"type": "S3", "location": "no-such-bucket"}
    log = builder.log(build)
    assert "The cache could not be saved: " in log
    builder.codebuild.update_project(name=builder.name, cache=caches(builder)["local"])
    archive = sandbox.state / "caches" / f"{builder.name}.tar"
    archive.parent.mkdir(exist_ok=True)
    archive.write_bytes(os.urandom(2048))
    build = run(builder)
    assert build["buildStatus"] == "SUCCEEDED"
    assert "The cache could not be restored: " in builder.log(build)


def test_a_cache_leaves_the_source_alone_and_stays_in_its_folder(builder):
    builder.create_project(cache=caches(builder)["local"])
    run(builder)
    changed = SPEC.replace("cat kept/count", "cat kept/count; cat elsewhere/count; false")
    log = builder.log(run(builder, FILES | {"buildspec.yml": changed, "kept/count": "from the source\n"}))
    assert "\nfrom the source\n" in log
