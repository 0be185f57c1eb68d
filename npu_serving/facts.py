"""Names and versions that others have given and several packages need, each in one place.

What is a table of its own stays in its data file: the versions are read from there.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

from npu_serving import fsutil

ADAPTER_SONAME = "_tf_adapter.so"
"""The SONAME by which a server asks for TF Adapter, which is also the file's name where CANN installs it."""
LIBPYTHON = "libpython3.7m.so.1.0"
"""The shared library of a Python 3.7, which the adapter asks for (guide 6.3, step 3.2)."""
DEBIAN_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Debian's names, which are those of images as well, of what `uname -m` says."""

_PACKAGE = Path(__file__).parent
_TOOLCHAINS = _PACKAGE.parent / "locks" / "toolchains.json"
_REQUIREMENTS = _PACKAGE / "doctor" / "requirements.yaml"


@functools.cache
def pinned_bazel() -> str:
    """The version of Bazel that is fetched and built with where a machine has none that fits."""
    (version,) = {
        tool["version"] for tool in json.loads(fsutil.read_text(_TOOLCHAINS))["tools"] if tool["name"] == "bazel"
    }
    return str(version)


@functools.cache
def least_version(requirement: str) -> str:
    """The lowest version that works on any machine, of that row of the requirements: `gcc`, `cmake`."""
    import yaml

    rows = yaml.safe_load(fsutil.read_text(_REQUIREMENTS))["requirements"]
    return str(next(row["at_least"]["any"] for row in rows if row["id"] == requirement))
