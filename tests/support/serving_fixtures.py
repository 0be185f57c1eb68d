"""A machine, a build, a model and servers, for the tests of every room that deals with a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from doctor_world import World, healthy_world
from fake_builds import put_program
from npu_machine import make_npus, ports
from serving_site import ServingSite

from npu_serving.doctor.checks import Machine


@pytest.fixture
def world(tmp_path: Path) -> World:
    """The machine on which a deployment is checked: one with two NPUs, on which all is well."""
    made = healthy_world(tmp_path / "machine")
    make_npus(made)
    ports(made, "1 2")  # a free port of this machine is one that it gives to outgoing connections
    return made


@pytest.fixture(autouse=True)
def checked_machine(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a deployment checked on that machine, whatever the one that this runs on has."""
    monkeypatch.setattr(Machine, "here", staticmethod(lambda: world.machine))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    version = tmp_path / "models of 'Zoë'\n" / "m" / "00000123"
    version.mkdir(parents=True)
    (version / "saved_model.pb").touch()
    return version.parent


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    made = tmp_path / 'dist "1" ü'
    (made / "bin").mkdir(parents=True)
    (made / "lib").mkdir()
    put_program(made, "#!/bin/sh\nexit 3\n")
    return made


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ServingSite]:
    made = ServingSite(tmp_path)
    yield made
    made.close()
