"""The tools that may be fetched."""

from __future__ import annotations

import pytest

from npu_serving.deps.toolchains import TOOLCHAINS, find_tool, read_tools
from npu_serving.errors import LockFileError, MissingToolError


def test_bazel_0_24_1_for_x86_64_is_the_upstream_release():
    tool = find_tool("bazel", "linux-x86_64", version="0.24.1")
    assert tool.file_name == "bazel-0.24.1-linux-x86_64"
    assert tool.sha256 == "e18e2877e18a447eb5d94f5efbec375366d82af6443c6a83a93c62657a7b1c32"


def test_every_tool_says_who_vouches_for_its_digest():
    assert all(tool.digest_from for tool in read_tools())


def test_a_tool_that_nobody_publishes_for_a_platform_is_named_with_a_cure():
    with pytest.raises(MissingToolError, match=r"no bazel 0\.24\.1 for linux-aarch64"):
        find_tool("bazel", "linux-aarch64", version="0.24.1")


@pytest.mark.parametrize(
    "damage", [("{", ""), ('"sha256": "', '"sha256": "x'), ("https://", "file://"), ('"kind"', '"kid"')]
)
def test_a_damaged_list_of_tools_is_refused_in_words(tmp_path, damage):
    file = tmp_path / "toolchains.json"
    file.write_text(TOOLCHAINS.read_text().replace(*damage))
    with pytest.raises(LockFileError, match="is not valid"):
        read_tools(file)
