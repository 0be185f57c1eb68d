"""Where a version goes: one place, in which a server would find it."""

from __future__ import annotations

from pathlib import Path

import pytest

from npu_serving.errors import ActionNeeded, RequestError
from npu_serving.publishing.destination import destination, newest
from npu_serving.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(build_root=tmp_path / "build")


def deployment(tmp_path: Path, *models: str) -> Path:
    file = tmp_path / "d.yaml"
    file.write_text(f"version: 1\nmodels: [{', '.join(f'{{{model}}}' for model in models)}]\n")
    return file


def test_one_place_is_named(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="has to know where to"):
        destination(settings)
    with pytest.raises(RequestError, match="--to and --server are given"):
        destination(settings, to=tmp_path, server="8501")
    with pytest.raises(RequestError, match="--model would have no effect with --to") as caught:
        destination(settings, to=tmp_path, model="m")
    assert str(tmp_path / "m") in caught.value.cure


def test_a_version_is_not_put_into_another_one(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "m" / "1" / "variables").mkdir(parents=True)
    (tmp_path / "m" / "1" / "saved_model.pb").write_bytes(b"")
    for place in ("m/1", "m/1/variables"):
        with pytest.raises(RequestError, match="is a version of a model") as caught:
            destination(settings, to=tmp_path / place)
        assert caught.value.cure == f"name {tmp_path / 'm'}"
    assert destination(settings, to=tmp_path / "m").next_version() == 2
    assert newest(destination(settings, to=tmp_path / "m")) == str(tmp_path / "m" / "1")
    with pytest.raises(RequestError, match="has no version"):
        newest(destination(settings, to=tmp_path / "new"))


def test_the_model_of_a_deployment_is_found_by_its_name_or_because_it_is_the_only_one(
    settings: Settings, tmp_path: Path
) -> None:
    file = deployment(tmp_path, "name: a, base_path: /models/a")
    place = destination(settings, deployment=file)
    assert (place.model, place.base, place.server) == ("a", Path("/models/a"), None)
    file = deployment(tmp_path, "name: a, base_path: /models/a", "name: b, base_path: /models/b")
    assert destination(settings, deployment=file, model="b").base == Path("/models/b")
    for model in ("", "c"):
        with pytest.raises(RequestError) as caught:
            destination(settings, deployment=file, model=model)
        assert caught.value.cure == "name one with --model: a, b"


def test_a_model_elsewhere_is_not_published_to(settings: Settings, tmp_path: Path) -> None:
    file = deployment(tmp_path, 'name: a, base_path: "s3://models/a"')
    with pytest.raises(RequestError, match="is at s3://models/a"):
        destination(settings, deployment=file)


def test_a_server_that_nobody_knows_is_refused(settings: Settings) -> None:
    with pytest.raises(ActionNeeded, match="No server of"):
        destination(settings, server="8501")
