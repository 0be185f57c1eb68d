"""The commands of docs/profiling-and-dumps.md in their order, on the sample, whose NPU writes what is asked for."""

from __future__ import annotations

import re
import shutil
import tarfile
from pathlib import Path

import pytest
from states import copy_of
from test_deploy_page import Engineer

from npu_serving import process
from npu_serving.building.pipeline import BuildResult
from npu_serving.settings import PROJECT_ROOT, Settings

PAGE = (PROJECT_ROOT / "docs/profiling-and-dumps.md").read_text(encoding="utf-8")
pytestmark = [pytest.mark.bazel, pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_pages_commands_dump_list_and_bundle(built: BuildResult, sample_settings: Settings, tmp_path: Path) -> None:
    engineer = Engineer(copy_of(sample_settings, tmp_path / "state"), tmp_path)
    dumps, profiles = tmp_path / "dumps", tmp_path / "profiles"
    dumps.mkdir()
    profiles.mkdir()
    engineer.types("./inv init-deployment --model NAME=MODEL")
    file = tmp_path / "deployment.yaml"
    (section,) = blocks("yaml")
    stated = section.replace("DUMPS", str(dumps)).replace("PROFILES", str(profiles))
    kept = re.sub(r"^npu:\n(  .*\n)*", "", file.read_text(), flags=re.MULTILINE)
    file.write_text(kept + stated)
    outputs = {}
    try:
        for line in (line for block in blocks("console") for line in block.splitlines()):
            assert line.startswith("$ ./inv ")
            typed = line.removeprefix("$ ").replace("DUMPS", str(dumps))
            if "show-dump" in line and engineer.server is not None:
                process.end_process_tree(engineer.server)
                engineer.server = None
            outputs[line.removeprefix("$ ")] = engineer.types(typed)
    finally:
        engineer.stops()
    said = (tmp_path / "server.log").read_text()
    assert f"./inv show-dump {dumps}" in said
    assert f"profiles: 1 file, 7 B, in {profiles}" in said
    by_operator = next(output for line, output in outputs.items() if "--operator" in line)
    assert "half_plus_two/Mul" in by_operator
    assert "_Build.txt" in by_operator
    with tarfile.open(tmp_path / "bundle.tar.gz") as bundle:
        names = set(bundle.getnames())
    assert {"bundle/README.txt", "bundle/manifest.json", "bundle/deployments/0-deployment.yaml"} <= names
