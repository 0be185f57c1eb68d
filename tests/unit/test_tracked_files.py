"""What holds for every tracked file: no package index is named that a machine without a mirror of it would ask."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Where package managers fetch from. pip, apt, npm and docker know their own; nothing of ours has to name one.
PACKAGE_INDEXES = (
    "pythonhosted.org",
    "pypi.org",
    "pypi.python.org",
    "npmjs.org",
    "npmjs.com",
    "yarnpkg.com",
    "debian.org",
    "ubuntu.com",
    "nodesource.com",
    "maven.org",
    "maven.ibiblio.org",
    "crates.io",
    "rubygems.org",
    "anaconda.org",
)
URL = re.compile(rb"\b[a-z]+://[A-Za-z0-9.:@_-]+")


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no git work tree, so no file is tracked")
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


def indexes_named_in(content: bytes) -> set[str]:
    hosts = (urlsplit(url.decode()).netloc.rpartition("@")[2].partition(":")[0] for url in URL.findall(content))
    return {
        host
        for host in hosts
        if host.endswith(tuple(f".{index}" for index in PACKAGE_INDEXES)) or host in PACKAGE_INDEXES
    }


def test_no_tracked_file_has_the_url_of_a_package_index() -> None:
    found = {str(path.relative_to(ROOT)): hosts for path in tracked() if (hosts := indexes_named_in(path.read_bytes()))}
    assert found == {}


def test_a_package_index_is_recognised_by_its_host_and_not_by_a_path() -> None:
    index = "files." + PACKAGE_INDEXES[0]
    assert indexes_named_in(f'"https://me:secret@{index}:443/packages/x.tar.gz"'.encode()) == {index}
    assert indexes_named_in(f"https://mirror.example/{index}/x.tar.gz".encode()) == set()
