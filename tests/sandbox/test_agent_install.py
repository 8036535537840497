"""Download, unpacking and the Install event of the agent."""

import os
import tarfile
import zipfile
from io import BytesIO

import pytest

from apps.sandbox.codedeploy.bundle import BundleError, unpack
from apps.sandbox.codedeploy.hooks import Aborted
from apps.sandbox.codedeploy.installer import Installer, InstallError
from apps.specs.appspec import parse_appspec
from tests.sandbox.deploying import HEADER, Fleet, hooks, tar

pytestmark = pytest.mark.integration


@pytest.fixture
def fleet(sandbox, bucket):
    return Fleet(sandbox, bucket)


def files_section(*pairs, extra=""):
    items = "".join(f"  - source: {source}\n    destination: {folder}\n" for source, folder in pairs)
    return f"{HEADER}{extra}files:\n{items}"


def message(events, event="Install"):
    return events[event]["diagnostics"]["message"]


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_destination_is_a_directory_below_the_hosts_root(fleet):
    appspec = files_section(("a.txt", "/srv/app"), ("sub", "/srv/app/sub"))
    info, _ = fleet.deploy(appspec, {"a.txt": "A", "sub/b/c.txt": "C"})
    assert info["status"] == "Succeeded"
    assert tree(fleet.root() / "srv/app") == ["a.txt", "sub", "sub/b", "sub/b/c.txt"]


def test_a_relative_destination_lands_in_the_agents_working_directory(fleet):
    fleet.deploy(files_section(("a.txt", "landed")), {"a.txt": "A"})
    assert (fleet.root() / "landed/a.txt").read_text() == "A"


def test_a_destination_cannot_leave_the_hosts_root(fleet):
    fleet.deploy(files_section(("a.txt", "/srv/../../../../landed")), {"a.txt": "A"})
    assert (fleet.root() / "landed/a.txt").exists()


def test_there_are_no_globs(fleet):
    info, events = fleet.deploy(files_section(("'*.txt'", "/srv/app")), {"a.txt": "A"})
    assert info["status"] == "Failed"
    assert "No such file or directory" in message(events)


def test_a_source_can_leave_the_bundle(fleet):
    deployment = fleet.start(fleet.upload(tar({"appspec.yml": files_section(("../bundle.tar", "/srv/app"))})))
    assert fleet.wait(deployment)["status"] == "Succeeded"
    assert (fleet.root() / "srv/app/bundle.tar").exists()


def test_links_to_folders_become_full_copies_and_links_to_files_stay_links(fleet):
    links = [special("d/folder", tarfile.SYMTYPE, "../real"), special("d/file", tarfile.SYMTYPE, "../a.txt")]
    content = tar(
        {"appspec.yml": files_section(("d", "/srv/app")), "real/x": "x", "a.txt": "A"}, members=links
    )
    assert fleet.wait(fleet.start(fleet.upload(content)))["status"] == "Succeeded"
    app = fleet.root() / "srv/app"
    assert (app / "folder/x").read_text() == "x"
    assert not (app / "folder").is_symlink()
    assert str((app / "file").readlink()) == "../a.txt"


def test_files_may_be_absent(fleet):
    assert fleet.deploy(HEADER)[0]["status"] == "Succeeded"


def test_install_first_removes_what_the_previous_deployment_installed(fleet):
    fleet.deploy(files_section(("/", "/srv/app")), {"old.txt": "1", "gone/x.txt": "1"})
    own = fleet.root() / "srv/app/kept.txt"
    own.write_text("nobody's")
    info, _ = fleet.deploy(files_section(("/", "/srv/app")), {"new.txt": "2"})
    assert info["status"] == "Succeeded"
    assert tree(fleet.root() / "srv/app") == ["appspec.yml", "kept.txt", "new.txt"]


def test_it_removes_them_even_if_the_previous_deployment_failed_later(fleet):
    appspec, files = hooks(AfterInstall="exit 1")
    appspec += "files:\n  - source: old.txt\n    destination: /srv/app\n"
    assert fleet.deploy(appspec, {**files, "old.txt": "1"})[0]["status"] == "Failed"
    fleet.deploy(files_section(("new.txt", "/srv/app")), {"new.txt": "2"})
    assert tree(fleet.root() / "srv/app") == ["new.txt"]


def test_another_groups_files_are_left_alone(fleet):
    fleet.deploy(files_section(("a.txt", "/srv/one")), {"a.txt": "A"})
    other = fleet.create_group("other")
    assert other != fleet.group_id
    revision = fleet.upload(tar({"appspec.yml": files_section(("b.txt", "/srv/two")), "b.txt": "B"}))
    deployment = fleet.codedeploy.create_deployment(
        applicationName=fleet.name, deploymentGroupName="other", revision=revision
    )["deploymentId"]
    assert fleet.wait(deployment)["status"] == "Succeeded"
    assert (fleet.root() / "srv/one/a.txt").exists()
    assert (fleet.root() / "srv/two/b.txt").exists()


def test_a_file_that_is_already_there_fails_under_disallow(fleet):
    (fleet.root() / "srv/app").mkdir(parents=True)
    (fleet.root() / "srv/app/a.txt").write_text("mine")
    info, events = fleet.deploy(files_section(("a.txt", "/srv/app")), {"a.txt": "A"})
    assert info["fileExistsBehavior"] == "DISALLOW"
    assert "a specified file already exists at this location" in message(events)
    assert (fleet.root() / "srv/app/a.txt").read_text() == "mine"


@pytest.mark.parametrize(("behavior", "content"), [("OVERWRITE", "A"), ("RETAIN", "mine")])
def test_the_deployments_file_exists_behavior(fleet, behavior, content):
    (fleet.root() / "srv/app").mkdir(parents=True)
    (fleet.root() / "srv/app/a.txt").write_text("mine")
    info, _ = fleet.deploy(files_section(("a.txt", "/srv/app")), {"a.txt": "A"}, fileExistsBehavior=behavior)
    assert info["status"] == "Succeeded"
    assert (fleet.root() / "srv/app/a.txt").read_text() == content


def test_the_appspecs_own_file_exists_behavior_wins(fleet):
    (fleet.root() / "srv/app").mkdir(parents=True)
    (fleet.root() / "srv/app/a.txt").write_text("mine")
    appspec = files_section(("a.txt", "/srv/app"), extra="file_exists_behavior: OVERWRITE\n")
    assert fleet.deploy(appspec, {"a.txt": "A"})[0]["status"] == "Succeeded"
    assert (fleet.root() / "srv/app/a.txt").read_text() == "A"


def test_overwrite_inside_a_files_item_is_ignored(fleet):
    (fleet.root() / "srv/app").mkdir(parents=True)
    (fleet.root() / "srv/app/a.txt").write_text("mine")
    appspec = files_section(("a.txt", "/srv/app")) + "    overwrite: true\n"
    assert fleet.deploy(appspec, {"a.txt": "A"})[0]["status"] == "Failed"


def test_two_sources_for_one_destination_fail(fleet):
    appspec = files_section(("x/a.txt", "/srv/app"), ("y/a.txt", "/srv/app"))
    _, events = fleet.deploy(appspec, {"x/a.txt": "1", "y/a.txt": "2"})
    assert "two source files" in message(events)


class Killed:
    """Whether the host is up: not after so many steps of Install."""

    def __init__(self, steps):
        self.steps = steps

    def __call__(self):
        self.steps -= 1
        return self.steps >= 0


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_an_agent_killed_during_install_wedges_disallow_and_recovers_under_overwrite(tmp_path, steps):
    """What was made is written down in blocks of 8 KiB, so a killed agent leaves files that no list names."""
    archive, root = tmp_path / "archive", tmp_path / "root"
    archive.mkdir()
    for name in "abcd":
        (archive / name).write_text(name)
    appspec = parse_appspec(files_section(("/", "/srv")))
    (root / "srv").mkdir(parents=True)

    def install(behavior, alive=lambda: True):
        Installer(root, tmp_path / "instructions", "group", alive).install(archive, appspec, behavior)

    with pytest.raises(Aborted):
        install("DISALLOW", Killed(steps))
    for _ in range(2):  # trying again does not help
        with pytest.raises(InstallError, match="a specified file already exists at this location"):
            install("DISALLOW")
    install("OVERWRITE")
    assert tree(root) == ["srv", *(f"srv/{name}" for name in "abcd")]
    install("DISALLOW")  # all of it is known again


def test_a_killed_agent_has_written_down_whole_blocks_of_what_it_made(tmp_path):
    archive, root = tmp_path / "archive", tmp_path / "root"
    archive.mkdir()
    root.mkdir()
    names = [f"{number:03}{'x' * 197}" for number in range(100)]
    for name in names:
        (archive / name).touch()
    appspec = parse_appspec(files_section(("/", "/")))
    with pytest.raises(Aborted):
        Installer(root, tmp_path / "i", "group", Killed(90)).install(archive, appspec, "DISALLOW")
    assert (tmp_path / "i/group-cleanup").stat().st_size % 8192 == 0
    with pytest.raises(InstallError):
        Installer(root, tmp_path / "i", "group", lambda: True).install(archive, appspec, "DISALLOW")
    left = len(tree(root))
    assert 0 < left < 90  # those of the last block; the others were removed


PERMISSIONS = "permissions:\n  - object: {}\n    mode: {}\n"


def mode(path):
    return path.stat().st_mode & 0o7777


@pytest.mark.parametrize(
    ("written", "found"),
    [('"0640"', 0o640), ('"0755"', 0o755), ("0644", 0o420), ("644", 0o644), ('"7"', 0o007)],
)
def test_permissions_of_a_file(fleet, written, found):
    appspec = files_section(("a.txt", "/srv/app")) + PERMISSIONS.format("/srv/app/a.txt", written)
    assert fleet.deploy(appspec, {"a.txt": "A"})[0]["status"] == "Succeeded"
    assert mode(fleet.root() / "srv/app/a.txt") == found


def test_an_unquoted_0755_is_refused(fleet):
    appspec = files_section(("a.txt", "/srv/app")) + PERMISSIONS.format("/srv/app", "0755")
    _, events = fleet.deploy(appspec, {"a.txt": "A"})
    assert "contains an invalid character (9)" in message(events, "BeforeInstall")


def test_permissions_reach_only_what_this_install_made(fleet):
    own = fleet.root() / "srv/app/own.txt"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    own.chmod(0o600)
    permissions = PERMISSIONS.format("/srv/app", '"0640"') + "    type: [file]\n"
    appspec = files_section(("d", "/srv/app")) + permissions
    fleet.deploy(appspec, {"d/a.txt": "A", "d/sub/b.txt": "B"})
    app = fleet.root() / "srv/app"
    assert [mode(app / name) for name in ("a.txt", "sub/b.txt", "own.txt")] == [0o640, 0o640, 0o600]


def test_a_pattern_matches_direct_children_only_and_except_takes_out(fleet):
    appspec = files_section(("d", "/srv/app")) + PERMISSIONS.format("/srv/app", '"0600"')
    appspec += '    type: [file]\n    pattern: "*.txt"\n    except: ["b*"]\n'
    fleet.deploy(appspec, {"d/a.txt": "", "d/b.txt": "", "d/c.md": "", "d/sub/a.txt": ""})
    app = fleet.root() / "srv/app"
    found = [mode(app / name) for name in ("a.txt", "b.txt", "c.md", "sub/a.txt")]
    assert found == [0o600, 0o644, 0o644, 0o644]


def test_acls_are_refused(fleet):
    permissions = "permissions:\n  - object: /srv/app\n    acls: ['u:x:rw']\n"
    _, events = fleet.deploy(files_section(("a.txt", "/srv/app")) + permissions, {"a.txt": ""})
    assert "does not support acls" in message(events)


def test_five_archives_are_kept_and_the_last_installed_among_them(fleet):
    appspec, files = hooks(ApplicationStop="echo stopped")
    first, _ = fleet.deploy(appspec, files)
    failing = hooks(BeforeInstall="exit 1")
    ids = [fleet.deploy(*failing)[0]["deploymentId"] for _ in range(6)]
    group = fleet.folder("x").parent
    assert {path.name for path in group.iterdir()} == {first["deploymentId"], *ids[-4:]}
    _, events = fleet.deploy(*failing)
    assert "stopped" in events["ApplicationStop"]["diagnostics"]["logTail"]


def test_an_etag_that_differs_fails_the_download(fleet):
    revision = fleet.upload(tar({"appspec.yml": HEADER}))
    revision["s3Location"]["eTag"] = "0" * 32
    info, events = fleet.finish(fleet.start(revision))
    assert info["status"] == "Failed"
    expected = f"Expected deployment artifact bundle etag {'0' * 32} but was actually"
    assert message(events, "DownloadBundle").startswith(expected)


def test_without_an_etag_nothing_is_checked(fleet):
    revision = fleet.upload(tar({"appspec.yml": HEADER}))
    del revision["s3Location"]["eTag"]
    assert fleet.wait(fleet.start(revision))["status"] == "Succeeded"


def test_the_version_named_is_the_one_deployed(fleet):
    old = fleet.upload(tar({"appspec.yml": files_section(("a.txt", "/srv/app")), "a.txt": "old"}))
    newer = tar({"appspec.yml": files_section(("a.txt", "/srv/app")), "a.txt": "new"})
    fleet.s3.put_object(Bucket=fleet.bucket, Key=old["s3Location"]["key"], Body=newer)
    assert fleet.wait(fleet.start(old))["status"] == "Succeeded"
    assert (fleet.root() / "srv/app/a.txt").read_text() == "old"


def test_an_object_that_is_not_there(fleet):
    location = {"bucket": fleet.bucket, "key": "nothing", "bundleType": "tar"}
    _, events = fleet.finish(fleet.start({"revisionType": "S3", "s3Location": location}))
    assert events["DownloadBundle"]["diagnostics"]["errorCode"] == "UnknownError"
    assert message(events, "DownloadBundle") == "The specified key does not exist."


@pytest.mark.parametrize("kind", ["tar", "tgz", "zip"])
def test_what_is_not_an_archive(fleet, kind):
    _, events = fleet.finish(fleet.start(fleet.upload(b"no archive at all", kind)))
    assert message(events, "DownloadBundle").startswith(f"Error extracting {kind} archive")


def test_a_single_top_folder_with_an_appspec_is_stripped(fleet):
    content = tar({"top/appspec.yml": files_section(("a.txt", "/srv/app")), "top/a.txt": "A"})
    assert fleet.wait(fleet.start(fleet.upload(content)))["status"] == "Succeeded"
    assert (fleet.root() / "srv/app/a.txt").read_text() == "A"


def test_a_zip_keeps_executable_bits_and_links(fleet):
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        appspec, files = hooks(AfterInstall="cat $(dirname $0)/../link")
        for name, text in {"appspec.yml": appspec, "real": "through the link", **files}.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o100755 if name.endswith(".sh") else 0o100644) << 16
            archive.writestr(info, text)
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "real")
    deployment = fleet.start(fleet.upload(content.getvalue(), "zip"))
    _, events = fleet.finish(deployment)
    assert "through the link" in events["AfterInstall"]["diagnostics"]["logTail"]
    assert os.access(fleet.folder(deployment) / "deployment-archive/scripts/AfterInstall.sh", os.X_OK)


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("files", "members", "problem"),
    [
        ({"../outside": "x"}, [], "lies outside"),
        ({"/outside": "x"}, [], "lies outside"),
        ({}, [special("a", tarfile.SYMTYPE, "/etc")], "points outside"),
        ({}, [special("d/a", tarfile.SYMTYPE, "../../x")], "points outside"),
        ({}, [special("a", tarfile.LNKTYPE, "/etc/passwd")], "names no file before it"),
        ({}, [special("a", tarfile.CHRTYPE)], "is a device"),
        ({}, [special("a", tarfile.FIFOTYPE)], "is a device or a pipe"),
        ({}, [special("a", tarfile.SYMTYPE, "."), special("a/b", tarfile.SYMTYPE, "..")], "through the link"),
    ],
)
def test_an_archive_that_reaches_outside_is_refused(tmp_path, files, members, problem):
    bundle = tmp_path / "bundle.tar"
    bundle.write_bytes(tar(files, members=members))
    with pytest.raises(BundleError, match=problem):
        unpack(bundle, "tar", tmp_path / "archive")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "bundle.tar"]


def test_a_zip_that_reaches_outside_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bundle.tar", "w") as archive:
        archive.writestr("../outside", "x")
    with pytest.raises(BundleError, match="lies outside"):
        unpack(tmp_path / "bundle.tar", "zip", tmp_path / "archive")


def test_of_two_members_with_one_name_the_last_counts(tmp_path):
    content = BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for text in (b"first", b"last"):
            info = tarfile.TarInfo("a")
            info.size = len(text)
            archive.addfile(info, BytesIO(text))
    (tmp_path / "bundle.tar").write_bytes(content.getvalue())
    unpack(tmp_path / "bundle.tar", "tar", tmp_path / "archive")
    assert (tmp_path / "archive/a").read_bytes() == b"last"
