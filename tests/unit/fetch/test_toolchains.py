"""The tools that may be fetched."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from npu_serving.building.dependencies import fetch_toolchains, import_dependencies, plan_toolchains
from npu_serving.console import Silent
from npu_serving.errors import FetchError, LockFileError, MissingToolError
from npu_serving.fetch import toolchains
from npu_serving.fetch.toolchains import TOOLCHAINS, find_tool, read_tools
from npu_serving.lock.lockfile import SHA256
from npu_serving.settings import Settings

ASKED_FOR = {
    ("bazel", "0.24.1"),
    ("cmake", "3.14.0"),
    ("gcc", "7.3.0"),
    ("gcc", "8.5.0"),
    ("gmp", "6.1.0"),
    ("isl", "0.16.1"),
    ("jdk", "11.0.20.1+1"),
    ("mpc", "1.0.3"),
    ("mpfr", "3.1.4"),
    ("python", "3.7.5"),
    ("swig", "3.0.12"),
    ("swig", "4.0.1"),
}


def test_bazel_0_24_1_for_x86_64_is_the_upstream_release():
    tool = find_tool("bazel", "linux-x86_64", version="0.24.1", kind="program")
    assert tool.file_name == "bazel-0.24.1-linux-x86_64"
    assert tool.sha256 == "e18e2877e18a447eb5d94f5efbec375366d82af6443c6a83a93c62657a7b1c32"


def test_everything_that_the_guide_has_installed_from_sources_is_pinned():
    assert {(tool.name, tool.version) for tool in read_tools()} == ASKED_FOR


@pytest.mark.parametrize("tool", read_tools(), ids=lambda tool: f"{tool.name}-{tool.version}-{tool.platform}")
def test_every_tool_has_a_recipe_that_vouches_for_its_digest_and_comes_over_https(tool):
    assert SHA256.fullmatch(tool.sha256)
    assert tool.kind in ("program", "archive", "sources")
    assert tool.platform in ("any", "linux-x86_64", "linux-aarch64")
    assert tool.urls and all(url.startswith("https://") for url in tool.urls)
    assert len(set(tool.urls)) == len(tool.urls) >= 2
    assert tool.digest_from and all(": " in source for source in tool.digest_from)
    assert tool.version in tool.file_name.replace("_", "+") or tool.version in tool.file_name


def test_the_list_is_sorted_and_names_no_file_twice():
    tools = read_tools()
    assert [(tool.name, tool.version) for tool in tools] == sorted((tool.name, tool.version) for tool in tools)
    assert len({tool.sha256 for tool in tools}) == len({tool.file_name for tool in tools}) == len(tools)


def test_both_architectures_have_a_jdk_of_the_same_version():
    found = [find_tool("jdk", f"linux-{machine}") for machine in ("x86_64", "aarch64")]
    assert found[0].version == found[1].version
    assert found[0].sha256 != found[1].sha256


def test_a_tool_that_nobody_publishes_for_a_platform_is_named_with_a_cure():
    with pytest.raises(MissingToolError, match=r"No download of bazel 0\.24\.1 is known for linux-aarch64"):
        find_tool("bazel", "linux-aarch64", version="0.24.1", kind="program")


@pytest.mark.parametrize(
    "damage",
    [
        ("{", ""),
        ('"sha256": "', '"sha256": "x'),
        ("https://", "file://"),
        ('"kind"', '"kid"'),
        ('"sources"', '"source"'),
        ("Spack: ", ""),
    ],
)
def test_a_damaged_list_of_tools_is_refused_in_words(tmp_path, damage):
    file = tmp_path / "toolchains.json"
    file.write_text(TOOLCHAINS.read_text().replace(*damage))
    with pytest.raises(LockFileError, match="is not valid"):
        read_tools(file)


def test_the_plan_names_the_tools_of_this_machine_or_those_of_all(tmp_path):
    settings = Settings(build_root=tmp_path / "build")
    here, everywhere = plan_toolchains(settings), plan_toolchains(settings, everything=True)
    assert {"python 3.7.5", "cmake 3.14.0", "gcc 8.5.0"} <= {wanted.label for wanted in here.missing}
    assert len(everywhere.missing) == len(read_tools()) > len(here.missing)
    assert "of unknown size" in here.text()
    assert not settings.build_root.exists()


@pytest.fixture
def mirrored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a file of few bytes in the place of each tool, and pins that are theirs."""
    directory = tmp_path / "mirror"
    directory.mkdir()
    document = json.loads(TOOLCHAINS.read_text())
    for number, entry in enumerate(document["tools"]):
        content = f"tool {number}\n".encode()
        entry["sha256"] = hashlib.sha256(content).hexdigest()
        entry["size_bytes"] = None
        (directory / entry["urls"][0].rsplit("/", 1)[1]).write_bytes(content)
    pins = tmp_path / "toolchains.json"
    pins.write_text(json.dumps(document))
    monkeypatch.setattr(toolchains, "TOOLCHAINS", pins)
    return directory


def test_tools_come_in_by_the_engine_that_fetches_archives(tmp_path, mirrored):
    settings = Settings(build_root=tmp_path / "build", mirrors=(mirrored.as_uri() + "/",))
    report = fetch_toolchains(settings, Silent(), everything=True)
    assert len(report.fetched) == len(ASKED_FOR) + 2  # bazel is two files, and so is the JDK
    assert not plan_toolchains(settings, everything=True).missing


def test_tools_fetched_by_hand_are_recognised_by_what_they_hold(tmp_path, mirrored):
    settings = Settings(build_root=tmp_path / "build", source="sample")
    report = import_dependencies(settings, mirrored, Silent())
    assert {"python", "gcc", "cmake", "swig"} <= {item.archive for item in report.recognised}
    assert not report.unrecognised


def test_tools_that_are_missing_offline_are_named_with_all_their_urls(tmp_path):
    with pytest.raises(FetchError, match=r"https://mirrors\.huaweicloud\.com/python/3\.7\.5/Python-3\.7\.5\.tgz"):
        fetch_toolchains(Settings(build_root=tmp_path / "build", offline=True), Silent())
