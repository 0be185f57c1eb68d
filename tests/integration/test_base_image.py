"""Base images by digest, with a real engine and a small registry on the loopback."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from docker_support import require_engine, settings_in

from npu_serving import fsutil
from npu_serving.builds.manifest import Build, BuildManifest
from npu_serving.console import Silent
from npu_serving.errors import FetchError, LockFileError, PinMismatchError, RequestError
from npu_serving.images import base_images
from npu_serving.images.base_images import read_pins, renew_base_images
from npu_serving.images.docker_engine import connected
from npu_serving.images.toolchain_image import ImagePlan, _with_base, plan_image
from npu_serving.packaging.runtime_image import make_runtime_image
from npu_serving.settings import Settings

pytestmark = pytest.mark.docker

A_BUILD = Build(
    Path("/nowhere"),
    BuildManifest(
        build_id="serving-1.15.0-cann-unknown-0123456789ab",
        input_digest="01" * 32,
        serving_version="1.15.0",
        source={},
        adapter={},
        lock_digest="",
        toolchain={},
        flags=(),
        actions={},
        patches={},
        files={},
        created="2026-11-22T21:52:49Z",
    ),
    current=False,
)
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Registry:
    """Serves one image of one small file under any name and tag; `lies` makes it answer with another manifest."""

    def __init__(self) -> None:
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as tar:
            content = uuid.uuid4().bytes
            member = tarfile.TarInfo("file")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        packed = gzip.compress(layer.getvalue())
        root = {"type": "layers", "diff_ids": [digest_of(layer.getvalue())]}
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": root}).encode()
        parts = [(config, "container.image.v1+json"), (packed, "image.rootfs.diff.tar.gzip")]
        described = [
            {"mediaType": f"application/vnd.docker.{kind}", "size": len(data), "digest": digest_of(data)}
            for data, kind in parts
        ]
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described[0], "layers": described[1:]}
        self.blobs = {digest_of(data): data for data, _ in parts}
        self.manifest = json.dumps(manifest).encode()
        self.lies = False

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)

    def answer(self, path: str) -> tuple[bytes, str] | None:
        kind, _, reference = path.rpartition("/")
        if path == "/v2/":
            return b"{}", "application/json"
        if kind.endswith("/manifests"):
            return self.manifest + (b" " if self.lies else b""), MANIFEST
        blob = self.blobs.get(reference)
        return (blob, "application/octet-stream") if blob is not None else None


@pytest.fixture
def registry() -> Iterator[tuple[Registry, str]]:
    """The registry and a name in it."""
    require_engine()
    given = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = given.answer(self.path)
            self.send_response(200 if answer else 404)
            body, kind = answer or (b"{}", "application/json")
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if kind == MANIFEST:
                self.send_header("Docker-Content-Digest", digest_of(body))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        repository = f"127.0.0.1:{server.server_port}/base"
        try:
            yield given, f"{repository}:1"
        finally:
            server.shutdown()
            thread.join()
            with connected() as client:
                for image in client.images.list(repository):
                    client.images.remove(str(image.id), force=True)


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "base-images.json"
    path.write_text("{}")
    monkeypatch.setattr(base_images, "PINS", path)
    return path


def planned(tmp_path: Path, name: str) -> tuple[ImagePlan, Settings]:
    fsutil.write_file(tmp_path / "bazel", b"\x7fELF", mode=0o755)
    settings = settings_in(tmp_path, docker_base_image=name)
    return plan_image(settings, tmp_path / "bazel"), settings


def with_base(plan: ImagePlan, settings: Settings) -> ImagePlan:
    with connected() as client:
        return _with_base(client, plan, settings, Silent())


def test_renewing_writes_the_digest_that_the_registry_has_and_a_dry_run_writes_nothing(
    registry: tuple[Registry, str], pins: Path
) -> None:
    served, name = registry
    assert "would become" in renew_base_images(name, dry_run=True).text()
    assert read_pins() == {}
    assert renew_base_images(name).pins == {name: served.digest}
    assert read_pins() == {name: served.digest}
    assert f"stays {served.digest}" in renew_base_images().text()


def test_a_registry_that_does_not_answer_leaves_the_pins_as_they_were(pins: Path) -> None:
    require_engine()
    before = json.dumps({"127.0.0.1:9/base:1": "sha256:" + "0" * 64})
    pins.write_text(before)
    with pytest.raises(FetchError, match="Could not get the digest"):
        renew_base_images()
    assert pins.read_text() == before


@pytest.mark.parametrize("name", ["", "Upper", "base:1@sha256:" + "0" * 64])
def test_only_a_name_that_can_be_pinned_is(pins: Path, name: str) -> None:
    before = pins.read_text()
    with pytest.raises(RequestError):
        renew_base_images(name)
    assert pins.read_text() == before


def test_a_pinned_base_is_pulled_by_its_digest_and_found_under_its_name(
    registry: tuple[Registry, str], pins: Path, tmp_path: Path
) -> None:
    served, name = registry
    renew_base_images(name)
    plan, settings = planned(tmp_path, name)
    assert plan.steps[0] == f"pull the base image {name}@{served.digest}"
    assert with_base(plan, settings).base_id
    assert planned(tmp_path, name)[0].base_id


def test_a_registry_that_answers_with_another_image_than_the_digests_is_refused(
    registry: tuple[Registry, str], pins: Path, tmp_path: Path
) -> None:
    served, name = registry
    renew_base_images(name)
    served.lies = True
    with pytest.raises(PinMismatchError, match="does not match its digest"):
        with_base(*planned(tmp_path, name))
    assert planned(tmp_path, name)[0].base_id == ""


def test_an_image_under_a_pinned_name_with_another_digest_is_refused_with_three_ways_out(
    registry: tuple[Registry, str], pins: Path, tmp_path: Path
) -> None:
    served, name = registry
    with_base(*planned(tmp_path, name))
    pins.write_text(json.dumps({name: "sha256:" + "1" * 64}))
    with pytest.raises(PinMismatchError, match=f"is {served.digest} on this machine") as caught:
        planned(tmp_path, name)
    assert f"--base-image {name}@{served.digest}" in caught.value.cure
    assert planned(tmp_path, f"{name}@{served.digest}")[0].base_id


def test_an_image_to_run_takes_only_the_pinned_base_too(
    registry: tuple[Registry, str], pins: Path, tmp_path: Path
) -> None:
    served, name = registry
    settings = settings_in(tmp_path, docker_base_image=name)
    renew_base_images(name)
    served.lies = True
    with pytest.raises(PinMismatchError, match="does not match its digest"):
        make_runtime_image(A_BUILD, settings, Silent())
    served.lies = False
    with_base(*planned(tmp_path, name))
    pins.write_text(json.dumps({name: "sha256:" + "1" * 64}))
    with pytest.raises(PinMismatchError, match=f"is {served.digest} on this machine"):
        make_runtime_image(A_BUILD, settings, Silent())


@pytest.mark.parametrize("text", ["", "[]", '{"Upper": "sha256:0"}', '{"ubuntu:18.04": "latest"}', '{"ubuntu": 1}'])
def test_a_damaged_file_of_pins_is_refused_in_words(pins: Path, text: str) -> None:
    pins.write_text(text)
    with pytest.raises(LockFileError):
        read_pins()
