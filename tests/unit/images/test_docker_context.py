"""The engine is the one that the docker program would talk to."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from npu_serving.errors import MissingToolError
from npu_serving.images.docker_context import DEFAULT_HOST, engine_address
from npu_serving.images.docker_engine import connected


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for name, host in (("rootless", "unix:///run/user/1000/docker.sock"), ("far", "ssh://me@far")):
        place = tmp_path / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
        place.mkdir(parents=True)
        (place / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": {"Host": host}}}))
    return tmp_path


def test_the_context_in_use_is_followed_and_the_variables_come_before_it(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine_address().host == DEFAULT_HOST
    (config / "config.json").write_text('{"currentContext": "rootless"}')
    assert engine_address().host == "unix:///run/user/1000/docker.sock"
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    assert engine_address().host == DEFAULT_HOST
    monkeypatch.setenv("DOCKER_CONTEXT", "far")
    assert engine_address().host == "ssh://me@far"
    monkeypatch.setenv("DOCKER_HOST", "unix:///mine")
    assert engine_address().host == "unix:///mine"


def test_a_context_that_is_gone_or_elsewhere_is_named(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONTEXT", "gone")
    with pytest.raises(MissingToolError, match="The Docker context 'gone' has no engine"):
        engine_address()
    monkeypatch.setenv("DOCKER_CONTEXT", "far")
    with pytest.raises(MissingToolError, match="The Docker context 'far' leads to") as caught, connected(timeout_s=1):
        pass
    assert "export DOCKER_CONTEXT=default" in caught.value.cure
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    assert engine_address().host == DEFAULT_HOST, "the cure helps"


def test_a_user_without_a_home_has_the_usual_socket(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that is started with --user and a number that no passwd knows."""
    for name in ("DOCKER_CONFIG", "HOME"):
        monkeypatch.delenv(name, raising=False)

    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.chdir(config)
    assert engine_address().host == DEFAULT_HOST


def test_a_context_whose_engine_does_not_answer_is_named_with_the_way_to_the_usual_one(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = next(
        path for path in (config / "contexts/meta").iterdir() if "rootless" in (path / "meta.json").read_text()
    )
    host = f"unix://{tmp_path}/nobody.sock"
    (place / "meta.json").write_text(json.dumps({"Endpoints": {"docker": {"Host": host}}}))
    monkeypatch.setenv("DOCKER_CONTEXT", "rootless")
    with pytest.raises(MissingToolError, match="the Docker context 'rootless' names") as caught, connected(timeout_s=1):
        pass
    assert "export DOCKER_CONTEXT=default" in caught.value.cure, "to start docker alone would lead back here"
