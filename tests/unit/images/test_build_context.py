"""What the toolchain image is made from: names that can't become syntax, and a digest that knows every input."""

from __future__ import annotations

import dataclasses
import hashlib
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving import fsutil
from npu_serving.errors import FileAccessError, RequestError
from npu_serving.images.build_context import ImageContext, context_archive, read_context, render_dockerfile
from npu_serving.settings import Settings
from npu_serving.writers.dockerfile import checked_image_name

NAMES = [
    "ubuntu:18.04",
    "debian",
    "debian:bookworm-slim",
    "npu-serving-base:debian",
    "registry.example.org:5000/team/base_image:1.0",
    "localhost/x__y/z:Tag_1",
    "ubuntu@sha256:" + "0" * 64,
    "ubuntu:18.04@sha256:" + "a" * 64,
]
NOT_NAMES = [
    "",
    " ",
    "Ubuntu",
    "ubuntu 18.04",
    "ubuntu\nRUN rm -rf /",
    "ubuntu\n",
    "ubuntu AS x",
    "$BASE",
    "${BASE}",
    "ubuntu:18.04 # x",
    "--platform=x",
    "-x",
    "ubuntu@sha256:123",
    "ubuntü",
    "x" * 513,
]


@pytest.fixture
def bazel(tmp_path: Path) -> Path:
    path = tmp_path / "bazel"
    path.write_bytes(b"\x7fELF and so on")
    return path


@pytest.mark.parametrize("name", NAMES)
def test_an_images_name_goes_into_the_from_line_as_it_is(name: str) -> None:
    assert render_dockerfile("distro", name).splitlines()[0] == f"FROM {name}"


@pytest.mark.parametrize("name", NOT_NAMES)
def test_what_is_no_images_name_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match="not a valid image name"):
        render_dockerfile("distro", name)


@given(st.text() | st.text(alphabet="abz09.:/@-_ \n\\$#[]\"'", max_size=40))
def test_no_name_adds_a_line_or_a_word_to_the_dockerfile(name: str) -> None:
    try:
        checked = checked_image_name(name)
    except RequestError:
        return
    first, *rest = render_dockerfile("distro", checked).splitlines()
    assert first.split() == ["FROM", name]
    assert rest == render_dockerfile("distro", "debian").splitlines()[1:]


def context_of(flavour: str, bazel: Path, bazel_sha256: str = "", **changes: object) -> ImageContext:
    settings = Settings(docker_flavour=flavour, docker_base_image="debian", **changes)  # type: ignore[arg-type]
    return read_context(settings, bazel, bazel_sha256)


def members(context: ImageContext) -> dict[str, tuple[bytes, int, float, int]]:
    with context_archive(context) as archive, tarfile.open(fileobj=archive) as tar:
        found = {}
        for member in tar:
            data = tar.extractfile(member)
            assert data is not None
            found[member.name] = (data.read(), member.mode, member.mtime, member.uid)
        return found


def test_the_context_holds_what_the_dockerfile_copies_and_nothing_else(bazel: Path) -> None:
    context = context_of("distro", bazel)
    copied = {
        word for line in context.dockerfile.splitlines() if line.startswith("COPY") for word in line.split()[1:-1]
    }
    found = members(context)
    assert set(found) == {"Dockerfile"} | copied
    assert found["bazel"] == (bazel.read_bytes(), 0o755, 0, 0)
    assert found["Dockerfile"][0].decode() == context.dockerfile


def test_the_same_content_is_the_same_bytes_whenever_and_by_whomever_it_is_packed(bazel: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "bazel"
    fsutil.copy_file(bazel, copy, mode=0o600)
    digests = set()
    for path in (bazel, copy):
        context = context_of("distro", path)
        with context_archive(context) as archive:
            digests.add((hashlib.sha256(archive.read()).hexdigest(), context.digest("sha256:1")))
    assert len(digests) == 1


def test_whatever_goes_into_an_image_changes_its_digest(bazel: Path) -> None:
    context = context_of("distro", bazel)
    first, *others = context.files
    variants = [
        (context, "sha256:1"),
        (context, "sha256:2"),
        (dataclasses.replace(context, dockerfile=context.dockerfile + "\n"), "sha256:1"),
        (dataclasses.replace(context, flavour="guide"), "sha256:1"),
        (dataclasses.replace(context, files=(dataclasses.replace(first, sha256="0"), *others)), "sha256:1"),
        (dataclasses.replace(context, files=(dataclasses.replace(first, mode=0o755), *others)), "sha256:1"),
        (dataclasses.replace(context, files=(dataclasses.replace(first, name="x"), *others)), "sha256:1"),
        (dataclasses.replace(context, files=tuple(others)), "sha256:1"),
    ]
    assert len({variant.digest(base) for variant, base in variants}) == len(variants)


def test_a_script_that_starts_bazel_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bazel").write_text("#!/bin/sh\nexec bazel-real\n")
    with pytest.raises(RequestError, match="not Bazel itself"):
        context_of("distro", tmp_path / "bazel")


def test_a_bazel_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileAccessError, match="no-bazel"):
        context_of("distro", tmp_path / "no-bazel")


def test_a_plan_can_be_made_before_the_pinned_bazel_is_fetched(tmp_path: Path, bazel: Path) -> None:
    early = context_of("distro", tmp_path / "later", fsutil.sha256_of(bazel))
    assert early.digest("base") == context_of("distro", bazel).digest("base")


def test_another_source_of_packages_is_another_image(bazel: Path) -> None:
    own = context_of("distro", bazel)
    snapshot = context_of("distro", bazel, apt_sources=("http://mirror.example.org/20250101T000000Z bookworm main",))
    assert own.digest("base") != snapshot.digest("base")
    assert members(own)["sources.list"][0] == b""
    assert b"/20250101T000000Z bookworm main\n" in members(snapshot)["sources.list"][0]


def test_a_bazel_that_is_a_link_goes_in_as_what_it_points_to(bazel: Path, tmp_path: Path) -> None:
    link = tmp_path / "somewhere" / "bazel"
    link.parent.mkdir()
    link.symlink_to(bazel)
    assert members(context_of("distro", link))["bazel"][0] == bazel.read_bytes()
