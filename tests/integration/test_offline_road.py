"""docs/offline.md's five commands: from a machine with a network to a server built on one that has none."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from npu_serving.facts import pinned_bazel
from npu_serving.fetch.content_store import ContentStore
from npu_serving.fetch.toolchains import find_tool
from npu_serving.settings import PROJECT_ROOT

pytestmark = pytest.mark.bazel

MEDIUM = "/media/usb"
KEPT = PROJECT_ROOT / "build" / "tests" / "offline"
"""Wheels and Bazel stay there, so that only the first run asks a network."""
NO_NETWORK = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]


def commands() -> tuple[list[str], list[str]]:
    """The commands of the page's first section: those before the road is cut, and those behind."""
    page = (PROJECT_ROOT / "docs" / "offline.md").read_text()
    section = page.split("\n## Five commands\n")[1].split("\n## ")[0]
    blocks = re.findall(r"(?:^    .+\n)+", section, re.MULTILINE)
    before, behind = ([line.strip() for line in block.splitlines()] for block in blocks)
    return before, behind


def test_the_page_tells_the_road_in_five_commands() -> None:
    before, behind = commands()
    assert len(before) + len(behind) == 5
    assert "--sha256 DIGEST" in behind[1]


def shell(command: str, directory: Path, environment: dict[str, str], *prefix: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, "bash", "-c", command], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )


def require_namespaces() -> None:
    if shutil.which("unshare") is None or subprocess.run([*NO_NETWORK, "true"], check=False).returncode != 0:
        pytest.skip("network namespaces are not permitted here, so the network can't be taken away")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A clone of this project as it stands in the work tree, with a commit of its own."""
    git = ["git", "-C", str(PROJECT_ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(git, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no git work tree, so there is nothing to clone")
    place = tmp_path / "a clone"
    for name in listed.stdout.decode().split("\0"):
        if name and (PROJECT_ROOT / name).exists():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT_ROOT / name, place / name, follow_symlinks=False)
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.invalid"]
    for words in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-q", "-m", "as it stands"]):
        subprocess.run(["git", "-C", str(place), *words], check=True)
    (tmp_path / "invoke.yaml").write_text(f"npu_serving:\n  build_root: {KEPT}\n")
    return place


def fetch_bazel_along(bazel: Path) -> None:
    """The tests' own Bazel, if it is the pinned one, so that it isn't fetched a second time."""
    tool = find_tool("bazel", "linux-x86_64", version=pinned_bazel(), kind="program")
    store = ContentStore(KEPT / "store")
    if not store.has(tool.sha256):
        store.adopt(bazel, tool.sha256)


def test_the_five_commands_build_a_server_where_there_is_no_network(project: Path, bazel: Path, tmp_path: Path) -> None:
    require_namespaces()
    before, behind = commands()
    medium, target, home = tmp_path / "medium", tmp_path / "over-there", tmp_path / "home"
    for directory in (medium, target, home):
        directory.mkdir()
    fetch_bazel_along(bazel)

    connected = {
        **os.environ,
        "NPU_SERVING_SETTINGS": str(tmp_path / "invoke.yaml"),
        "NPU_SERVING_VENV": str(PROJECT_ROOT / ".venv"),
    }
    digest = ""
    for command in before:
        done = shell(command.replace(MEDIUM, f"{medium}"), project, connected)
        if "could not fetch" in done.stderr and not os.environ.get("CI"):
            pytest.skip("the Python packages can't be had here: no network")
        assert done.returncode == 0, done.stderr
        found = re.search(r"^sha256 ([0-9a-f]{64})$", done.stdout, re.MULTILINE)
        digest = found.group(1) if found else digest

    python = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    bare = {"HOME": str(home), "PATH": f"{python.parent}:/usr/bin:/bin", "NPU_SERVING_PYTHON": str(python)}
    reach = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    assert "unreachable" in shell(f'{python} -c "{reach}"', target, bare, *NO_NETWORK).stderr
    for command in behind:
        done = shell(command.replace(MEDIUM, f"{medium}").replace("DIGEST", digest), target, bare, *NO_NETWORK)
        assert done.returncode == 0, done.stderr
    server = target / "npu-serving" / "dist" / "current" / "bin" / "tensorflow_model_server"
    assert os.access(server, os.X_OK)
    assert "which is now current" in done.stdout
