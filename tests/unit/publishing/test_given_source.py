"""What is published: a directory, or what a digest names; nothing is fetched without one."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shlex
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import docker
import model_messages as wire
import pytest
from fault_server import FaultServer, serving

from npu_serving.console import Silent
from npu_serving.errors import FetchError, PinMismatchError, RequestError, UnsafeArchiveError
from npu_serving.images import docker_engine
from npu_serving.publishing.given_source import GivenSource, local_version
from npu_serving.settings import Settings

MODEL = wire.simple_model({"x": [-1, 3]})


def tar(*names: str, mode: str = "w:gz") -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as archive:  # type: ignore[call-overload]
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(MODEL)
            archive.addfile(info, io.BytesIO(MODEL))
    return data.getvalue()


def packed_zip(*names: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name in names:
            archive.writestr(name, MODEL)
    return data.getvalue()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(build_root=tmp_path / "build")


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with serving() as made:
        yield made


def found(settings: Settings, source: GivenSource) -> list[str]:
    with source.directory(settings, Silent()) as directory:
        return sorted(os.listdir(directory))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("m.tar.gz", tar("saved_model.pb", "assets/a")),
        ("m.tar", tar("m/3/saved_model.pb", "m/3/assets/a", mode="w:")),
        ("m.zip", packed_zip("3/saved_model.pb", "3/assets/a")),
    ],
)
def test_an_archive_is_fetched_verified_and_its_model_found(
    settings: Settings, server: FaultServer, tmp_path: Path, name: str, data: bytes
) -> None:
    digest = hashlib.sha256(data).hexdigest()
    (tmp_path / name).write_bytes(data)
    for url in (server.put(f"/{name}", data), (tmp_path / name).as_uri()):
        assert found(settings, GivenSource(url, digest)) == ["assets", "saved_model.pb"]
    assert not list((settings.build_root / "publishing").iterdir())


def test_other_bytes_than_the_digest_says_are_never_unpacked(settings: Settings, server: FaultServer) -> None:
    url = server.put("/m.tar.gz", tar("saved_model.pb"))
    with pytest.raises(PinMismatchError):
        found(settings, GivenSource(url, "0" * 64))
    assert not (settings.build_root / "publishing").exists()


def test_without_a_digest_nothing_is_asked_for_and_the_command_that_prints_it_does(tmp_path: Path) -> None:
    archive = tmp_path / "m one.tar.gz"
    archive.write_bytes(b"x")
    for url in (archive.as_uri(), "https://models.example/m.tar.gz"):
        with pytest.raises(RequestError, match="has to contain is not said") as caught:
            GivenSource(url)
        assert "sha256sum" in caught.value.cure
        with pytest.raises(RequestError, match="is not a sha256: abc"):
            GivenSource(url, "abc")
    with pytest.raises(RequestError) as caught:
        GivenSource(archive.as_uri())
    typed = shlex.split(caught.value.cure.partition(" prints")[0])
    assert subprocess.check_output(typed, text=True).split()[0] == hashlib.sha256(b"x").hexdigest()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (("oci://registry.example/m:1", "", "/m"), "names no image by its digest"),
        (("oci://registry.example/m@sha256:abc", "", "/m"), "names no image by its digest"),
        ((f"oci://registry.example/m@sha256:{'0' * 64}", "", ""), "is not said"),
        ((f"oci://registry.example/m@sha256:{'0' * 64}", "0" * 64, "/m"), "--sha256 would have no effect"),
        (("s3://bucket/m", "0" * 64, ""), "can't be fetched from s3"),
        (("ftp://models.example/m", "", ""), "can't be fetched from ftp"),
        (("models/m/1", "0" * 64, ""), "--sha256 would have no effect"),
        (("models/m/1", "", "a"), "--path would have no effect"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_fetched(
    source: tuple[str, str, str], said: str
) -> None:
    with pytest.raises(RequestError, match=said):
        GivenSource(*source)


def test_of_several_models_in_an_archive_one_is_named(settings: Settings, tmp_path: Path) -> None:
    data = tar("a/1/saved_model.pb", "b/1/saved_model.pb")
    (tmp_path / "m.tar.gz").write_bytes(data)
    url, digest = (tmp_path / "m.tar.gz").as_uri(), hashlib.sha256(data).hexdigest()
    with pytest.raises(RequestError, match="has several models: a/1, b/1"):
        found(settings, GivenSource(url, digest))
    assert found(settings, GivenSource(url, digest, "b/1")) == ["saved_model.pb"]
    with pytest.raises(RequestError, match=r"has no saved_model\.pb in c"):
        found(settings, GivenSource(url, digest, "c"))


@pytest.mark.parametrize("data", [tar("../saved_model.pb"), b"\x1f\x8b broken", b"plain"])
def test_an_archive_that_is_none_or_leads_out_is_refused(settings: Settings, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.tar.gz").write_bytes(data)
    with pytest.raises(UnsafeArchiveError):
        found(settings, GivenSource((tmp_path / "m.tar.gz").as_uri(), hashlib.sha256(data).hexdigest()))


class Engine:
    """What is asked of Docker's engine: an image with /models/m/1, fetched when it is missing; nothing is run."""

    def __init__(self, *has: str, registry: bool = True) -> None:
        self.has, self.registry = has, registry
        self.done: list[str] = []
        self.images = self.containers = self

    def get(self, name: str) -> None:
        if name not in self.has:
            raise docker.errors.ImageNotFound(name)

    def pull(self, name: str) -> None:
        if not self.registry:
            raise docker.errors.APIError("500", explanation="dial tcp: connection refused")
        self.done.append(f"pull {name}")

    def create(self, name: str, command: list[str], labels: dict[str, str]) -> Engine:
        assert labels["org.npu-serving.role"] == "publishing"
        self.done.append(f"create {name}")
        return self

    def get_archive(self, path: str) -> tuple[list[bytes], dict[str, str]]:
        if path != "/models/m/1":
            raise docker.errors.NotFound(path)
        data = tar("1/saved_model.pb", "1/assets/a", mode="w:")
        return [data[:1000], data[1000:]], {}

    def remove(self) -> None:
        self.done.append("remove")


DIGEST = f"sha256:{'0' * 64}"
IMAGE = f"registry.example/m@{DIGEST}"


@pytest.mark.parametrize(
    ("has", "done"),
    [
        ((IMAGE,), [f"create {IMAGE}"]),
        ((), [f"pull {IMAGE}", f"create {IMAGE}"]),
        ((DIGEST,), [f"create {DIGEST}"]),  # as after docker load, where no registry's digest is known
    ],
)
def test_a_model_is_taken_out_of_an_image_by_its_digest_and_nothing_of_it_is_run(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, has: tuple[str, ...], done: list[str]
) -> None:
    engine = Engine(*has)
    monkeypatch.setattr(docker_engine, "connected", lambda: contextlib.nullcontext(engine))
    assert found(settings, GivenSource(f"oci://{IMAGE}", within="/models/m/1")) == ["assets", "saved_model.pb"]
    assert engine.done == [*done, "remove"]
    with pytest.raises(RequestError, match="has no /models/other"):
        found(settings, GivenSource(f"oci://{IMAGE}", within="/models/other"))
    assert engine.done[-1] == "remove"
    assert not list((settings.build_root / "publishing").iterdir())


def test_a_registry_that_does_not_answer_is_said_to_be_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_engine, "connected", lambda: contextlib.nullcontext(Engine(registry=False)))
    with pytest.raises(FetchError, match="can't be fetched: dial tcp: connection refused") as caught:
        found(settings, GivenSource(f"oci://{IMAGE}", within="/models/m/1"))
    assert f"docker pull {IMAGE}" in caught.value.cure
    assert "build" not in caught.value.cure


@pytest.mark.parametrize("within", ["/", ".", "/.", "../..", "/models/../.."])
def test_of_an_image_one_directory_is_taken(within: str) -> None:
    with pytest.raises(RequestError, match=r"is not the directory of a model in"):
        GivenSource(f"oci://{IMAGE}", within=within)


def test_a_model_with_one_version_may_be_named_itself(tmp_path: Path) -> None:
    (tmp_path / "m" / "3").mkdir(parents=True)
    (tmp_path / "m" / "3" / "saved_model.pb").write_bytes(MODEL)
    assert local_version(tmp_path / "m") == local_version(tmp_path / "m" / "3") == tmp_path / "m" / "3"
    (tmp_path / "m" / "4").mkdir()
    with pytest.raises(RequestError, match="has several versions: 3, 4"):
        local_version(tmp_path / "m")
    with pytest.raises(RequestError, match="is a file") as caught:
        local_version(tmp_path / "m" / "3" / "saved_model.pb")
    assert caught.value.cure == f"name {tmp_path / 'm' / '3'}"
    (tmp_path / "frozen.pb").write_bytes(MODEL)
    with pytest.raises(RequestError) as caught:
        local_version(tmp_path / "frozen.pb")
    assert caught.value.cure.startswith("./inv convert-pb")
    with pytest.raises(RequestError, match="does not exist"):
        local_version(tmp_path / "none")
