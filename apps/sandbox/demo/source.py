"""Commits as CodeBuild gets them: archives of HEAD, and of commits made for a scenario in a clone."""

import os
import subprocess
from pathlib import Path

from .errors import DemoError


class Repository:
    """A git checkout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def git(self, *arguments: str | Path) -> str:
        """Run git there and return what it prints; DemoError when it fails."""
        # Variables that git sets inside its own hooks would point at another repository.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        command = ["git", "-c", f"safe.directory={self.folder.resolve()}", "-C", self.folder, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DemoError(f"git {arguments[0]}: {' '.join(done.stderr.split()) or done.returncode}")
        return done.stdout.rstrip("\n")

    def head(self) -> str:
        """Return the commit that HEAD is, 40 hexadecimal digits."""
        try:
            return self.git("rev-parse", "--verify", "HEAD^{commit}")
        except DemoError as error:
            raise DemoError(
                f"{self.folder} has no commit to ship ({error}): run the demo in a clone made with git"
            ) from error

    def changes(self) -> list[str]:
        """Return the files that differ from HEAD, which an archive of it does not have."""
        return [line[3:] for line in self.git("status", "--porcelain").splitlines()]

    def archive(self, target: Path) -> Path:
        """Write HEAD's tree as a ZIP file, as `git archive` makes it."""
        target.parent.mkdir(parents=True, exist_ok=True)
        self.git("archive", "--format=zip", f"--output={target}", "HEAD")
        return target

    def clone(self, target: Path) -> "Repository":
        """Clone HEAD into a new folder."""
        self.git("clone", "--quiet", "--shared", "--no-checkout", self.folder.resolve(), target)
        clone = Repository(target)
        # By commit, and not by branch: HEAD may be detached.
        clone.git("checkout", "--quiet", "--detach", self.head())
        return clone

    def commit(self, subject: str) -> str:
        """Commit everything and return the new commit."""
        self.git("add", "--all")
        author = [
            "-c",
            "user.name=Lockkeeper demo",
            "-c",
            "user.email=demo@localhost",
            "-c",
            "commit.gpgsign=false",
        ]
        self.git(*author, "commit", "--quiet", "--no-verify", "--message", subject)
        return self.head()
