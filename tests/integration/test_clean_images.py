"""clean --images on a real engine, where strangers' things are beside ours. The label is the test's own."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator

import pytest
from docker_support import BASE_IMAGE, require_engine

from npu_serving.images.cleanup import FINISHED, clean_images
from npu_serving.images.container import OWNER_LABEL, _process_identity
from npu_serving.images.docker_engine import connected

pytestmark = pytest.mark.docker


@pytest.fixture
def mark() -> Iterator[str]:
    """A label that only this test's things carry, and the beginning of their names."""
    require_engine()
    mark = f"npu-serving-test-{uuid.uuid4().hex[:8]}"
    yield mark
    with connected() as client:
        for container in client.containers.list(all=True, ignore_removed=True):
            if str(container.name).startswith(mark):
                container.remove(force=True)
        for image in client.images.list():
            for tag in image.tags:
                if mark in tag:
                    client.images.remove(tag, force=True)


def image(name: str, mark: str, **labels: str) -> None:
    with connected() as client:
        dockerfile = f"FROM {BASE_IMAGE}\nLABEL made={uuid.uuid4().hex}\n"
        client.images.build(
            fileobj=io.BytesIO(dockerfile.encode()), tag=name, labels={**{mark: "x"}, **labels}, rm=True
        )


def container(name: str, base: str, *command: str, **labels: str) -> None:
    with connected() as client:
        made = client.containers.create(base, list(command), name=name, labels=labels, network_mode="none")
        if command[0] == "sleep":
            made.start()


def test_what_carries_the_label_goes_and_what_is_a_strangers_stays(mark: str) -> None:
    image(f"{mark}:ours", mark)
    with connected() as client:
        client.images.get(f"{mark}:ours").tag(f"strangers-{mark}", "theirs")
        client.volumes.create(f"{mark}-cache", labels={mark: "x"})
        client.volumes.create(f"{mark}-other")
    container(f"{mark}-ended", BASE_IMAGE, "true", **{mark: "x"})
    container(f"{mark}-other", BASE_IMAGE, "true")
    container(f"{mark}-served", BASE_IMAGE, "sleep", "300", **{mark: "x"})
    container(f"{mark}-left", BASE_IMAGE, "sleep", "300", **{mark: "x", OWNER_LABEL: "1:1"})
    container(f"{mark}-made", BASE_IMAGE, "true", **{mark: "x", OWNER_LABEL: _process_identity(1)})
    container(f"{mark}-alive", BASE_IMAGE, "sleep", "300", **{mark: "x", OWNER_LABEL: _process_identity(1)})
    try:
        plan = clean_images(dry_run=True, label=mark)
        assert "would be removed" in plan.text()
        done = clean_images(dry_run=False, label=mark)
        assert done.removed == plan.removed
        assert set(done.removed) == {
            f"container {mark}-ended",
            f"container {mark}-left",
            f"volume {mark}-cache",
            f"image {mark}:ours",
        }
        assert [line.split(":")[0].rpartition("-")[2] for line in sorted(done.kept)] == [
            "alive",
            "made",
            "served",
            mark[-8:],
        ]
        with connected() as client:
            names = {item.name for item in client.containers.list(all=True, ignore_removed=True)}
            assert {f"{mark}-other", f"{mark}-served", f"{mark}-made", f"{mark}-alive"} <= names
            assert client.volumes.get(f"{mark}-other").name
            assert client.images.get(f"strangers-{mark}:theirs").tags == [f"strangers-{mark}:theirs"]
            assert client.images.get(BASE_IMAGE).id
    finally:
        with connected() as client:
            client.volumes.get(f"{mark}-other").remove()


def test_an_image_that_a_container_uses_is_kept_and_the_engines_reason_is_told(mark: str) -> None:
    image(f"{mark}:used", mark)
    container(f"{mark}-holds", f"{mark}:used", "sleep", "300")
    done = clean_images(dry_run=False, label=mark)
    assert done.removed == ()
    assert any(f"image {mark}:used" in line and "container" in line for line in done.kept)


def test_a_second_run_finds_nothing(mark: str) -> None:
    assert clean_images(dry_run=False, label=mark).text() == "Nothing to remove."


def test_the_image_of_a_finished_server_goes_only_when_all_do(mark: str) -> None:
    image(f"{mark}:server", mark, **{mark: FINISHED})
    done = clean_images(dry_run=False, label=mark)
    assert done.removed == ()
    assert "--all" in done.kept[0]
    assert clean_images(dry_run=False, everything=True, label=mark).removed == (f"image {mark}:server",)
