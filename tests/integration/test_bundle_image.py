"""Images in a bundle: saved by a real engine the same way each time, and loaded again by one that has lost them."""

from __future__ import annotations

import io
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from docker_support import BASE_IMAGE, require_engine, settings_in

from npu_serving.bundle.unbundling import unbundle
from npu_serving.bundle.writer import IMAGE, BundleMember, Manifest, write_bundle
from npu_serving.console import Silent
from npu_serving.errors import MissingToolError, PinMismatchError, RequestError
from npu_serving.fsutil import sha256_of
from npu_serving.images.docker_engine import connected
from npu_serving.images.image_files import image_file_name, save_image

pytestmark = pytest.mark.docker


@pytest.fixture
def image() -> Iterator[str]:
    """An image of this test's own: a label and a small layer on nothing."""
    require_engine()
    name = f"npu-serving-test/bundle:{uuid.uuid4().hex[:12]}"
    with connected() as client:
        events = client.api.build(
            fileobj=io.BytesIO(f"FROM {BASE_IMAGE}\nLABEL npu-serving-test={name}\n".encode()), tag=name, rm=True
        )
        list(events)
        yield name
        for left in client.images.list(filters={"label": f"npu-serving-test={name}"}):
            client.images.remove(str(left.id), force=True)


def bundled(image: str, directory: Path) -> tuple[Path, str]:
    path = directory / image_file_name(image)
    save_image(image, path, Silent())
    digest = sha256_of(path)
    member = BundleMember(IMAGE, path.name, digest, path.stat().st_size)
    manifest = Manifest("1.15.0", "x86_64", f"3.{sys.version_info[1]}", (member,))
    bundle = directory / "b"
    return bundle, write_bundle(bundle, manifest, {digest: path}, Silent())


def test_an_image_is_carried_over_and_needs_the_digest_of_the_bundle(image: str, tmp_path: Path) -> None:
    bundle, digest = bundled(image, tmp_path)
    save_image(image, tmp_path / "again.tar", Silent())
    assert sha256_of(tmp_path / "again.tar") == sha256_of(tmp_path / image_file_name(image))
    settings = replace(settings_in(tmp_path), build_root=tmp_path / "build")
    with connected() as client:
        image_id = client.images.get(image).id
        client.images.remove(image, force=True)
        with pytest.raises(PinMismatchError, match="image npu-serving-test%2Fbundle"):
            unbundle(settings, bundle, Silent())
        assert client.images.list(image) == []
        done = unbundle(settings, bundle, Silent(), sha256=digest)
        assert client.images.get(image).id == image_id
    assert done.image_names == (image,)
    assert not (settings.build_root / ".bundling").exists()


def test_without_an_engine_the_rest_is_in_place_and_the_image_is_asked_for_again(
    image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, digest = bundled(image, tmp_path)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    settings = replace(settings_in(tmp_path), build_root=tmp_path / "build")
    with pytest.raises(MissingToolError, match="No Docker engine"):
        unbundle(settings, bundle, Silent(), sha256=digest)


def test_an_image_that_is_not_here_is_named(tmp_path: Path) -> None:
    require_engine()
    with pytest.raises(RequestError, match=r"has no image npu-serving-test/nothing"):
        save_image("npu-serving-test/nothing:at-all", tmp_path / "x.tar", Silent())
    assert list(tmp_path.iterdir()) == []


def test_images_of_different_names_never_share_a_file() -> None:
    assert image_file_name("a/b:1") != image_file_name("a_b:1")
    with pytest.raises(RequestError, match="too long"):
        image_file_name("a/" * 150 + "b")
