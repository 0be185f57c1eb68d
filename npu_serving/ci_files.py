"""init-ci: the file with which a CI system builds all but the final link, without CANN, keeping its caches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.builds.current import CPU_SERVER as CPU_LINK
from npu_serving.errors import RequestError
from npu_serving.settings import PROJECT_ROOT, Settings
from npu_serving.templating import render

ACTIONS = ".cache/npu-serving"
"""The disk cache of the build."""
ARCHIVES = ("build/store/content_addressable",)
"""What was fetched, by its sha256: whatever else is in there is verified again before it is used."""
LOCKS = (
    f"locks/serving-{Settings.source}.json",
    "locks/toolchains.json",
)
"""GitLab takes two files for a key, and no more."""
PACKAGES = "dist/packages/"
CPU_SERVER = f"dist/{CPU_LINK}"
DEPLOYMENTS = "git ls-files -z deployment.yaml '*/deployment.yaml'"
"""Those of the repository. None is fine: then nothing is checked. They go through a file, as a pipe in sh hides that
git failed.
"""
GOLDEN = "golden"
"""The directory of the repository with its golden requests. None is fine here as well."""
COMMANDS = (
    "./inv doctor --adapter none",
    "./inv fetch-deps",
    f"./inv build-serving --adapter none --cpu-server --directory {GOLDEN} --disk-cache {ACTIONS}",
    f"./inv verify-serving --build {CPU_SERVER}",
    f'list=$(mktemp) && {DEPLOYMENTS} > "$list" && xargs -0 -r -n 1 ./inv check-deployment --elsewhere < "$list"',
    f"test ! -d {GOLDEN} || ./inv smoke --directory {GOLDEN} --build {CPU_SERVER}",
)
"""What every system runs, in this order, on machines without CANN. invoke.yaml says what is built; nothing of it is
repeated here. The kit that the third makes, with the golden requests in it, is what is published.
"""
SYSTEMS = {
    "gitlab": (".gitlab-ci.yml", "ci/gitlab-ci.yml.j2"),
    "github": (".github/workflows/build-serving.yml", "ci/github.yml.j2"),
    "jenkins": ("Jenkinsfile", "ci/Jenkinsfile.j2"),
}
"""The file that each system looks for, and its template."""
FILE_ENDINGS = (".yml", ".yaml", ".jenkinsfile", ".groovy")
"""How a file's name ends that somebody gives in place of a directory."""


@dataclass(frozen=True)
class CiFile:
    """A CI system's file; `changed` is False where it was there already, or nothing was written."""

    path: Path
    content: str
    changed: bool = False
    dry_run: bool = False

    def to_json(self) -> dict[str, object]:
        """The path, the text, and whether it was written."""
        return {"path": str(self.path), "content": self.content, "changed": self.changed}

    def text(self) -> str:
        """The text itself in a dry run; else what was done."""
        if self.dry_run:
            return f"# {self.path}\n{self.content}".rstrip()
        return f"Wrote {self.path}." if self.changed else f"{self.path} is up to date."


def init_ci(system: str, output: Path | None = None, *, dry_run: bool = False) -> CiFile:
    """Writes the file where the system looks for it, below `output` (the project by default), or `output` itself
    where that is named like a file.

    RequestError for a system that isn't known, and where the file exists with different content: somebody wrote it.
    """
    if system not in SYSTEMS:
        raise RequestError(f"--system can't be {system!r}.", cure=f"choose one of {', '.join(SYSTEMS)}")
    name, template = SYSTEMS[system]
    path = _path_of(name, (output or PROJECT_ROOT).absolute())
    content = _rendered(template)
    if dry_run:
        return CiFile(path, content, dry_run=True)
    if path.exists() and fsutil.read_text(path) != content:
        raise RequestError(
            f"{path} already exists with different content, so it was not overwritten.",
            cause="it was written or changed by hand, or comes from another version of this project",
            cure="write the new one elsewhere with --output DIR and compare, or move the old one away",
        )
    return CiFile(path, content, changed=fsutil.write_file(path, content))


def _path_of(name: str, output: Path) -> Path:
    """The file: below a directory where the system looks for it; `output` itself where its name ends like a file's."""
    if not output.is_dir() and (output.name == Path(name).name or output.suffix in FILE_ENDINGS):
        return output
    return output / name


def _rendered(template: str) -> str:
    return render(
        f"templates/{template}",
        commands=COMMANDS,
        archives=ARCHIVES,
        actions=ACTIONS,
        packages=PACKAGES,
        locks=LOCKS,
    )
