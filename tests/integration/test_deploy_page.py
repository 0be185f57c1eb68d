"""The commands of docs/deploy.md, one after the other, on the sample; its example file; and what they start."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from states import MODEL, ascend_of, copy_of

from npu_serving import process
from npu_serving.building.pipeline import BuildResult
from npu_serving.builds.current import find_build
from npu_serving.deploy.deployment_file import read_deployment
from npu_serving.packaging.contents import contents
from npu_serving.settings import PROJECT_ROOT, Settings
from npu_serving.trials.spare_server import spare_ports

PAGE = PROJECT_ROOT / "docs/deploy.md"
ACTION_NEEDED = "--set server.port=9000 --diff"
pytestmark = [pytest.mark.bazel, pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    lines = [line for block in blocks("console") for line in block.splitlines()]
    assert all(line.startswith("$ ./inv ") for line in lines)
    return [line.removeprefix("$ ") for line in lines]


class Engineer:
    """Types the page's commands in a directory of their own, with the sample's files for the words in capitals."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self.settings = settings
        self.directory = directory
        self.words = {
            "NAME": "half_plus_two",
            "MODEL": str(MODEL),
            "REQUEST": '{"instances": [1.0]}',
            "FILES": str(directory / "files of 'mine'"),
        }
        section = {
            "build_root": str(settings.build_root),
            "dist_root": str(settings.dist_root),
            "cann_root": str(ascend_of(settings)),
        }
        file = directory / "invoke.yaml"
        file.write_text(json.dumps({"npu_serving": section}))
        self.environment = {**os.environ, "NPU_SERVING_SETTINGS": str(file)}
        self.port, self.rest_api_port = spare_ports(2)
        self.words["PORT"] = str(self.port)
        self.server: subprocess.Popen[bytes] | None = None

    def types(self, line: str) -> str:
        words = shlex.split(line)
        meant = [re.sub("NAME|MODEL|REQUEST|FILES|PORT", lambda found: self.words[found[0]], word) for word in words]
        argv = [str(PROJECT_ROOT / "inv"), *meant[1:]]
        if words[1] == "serve":
            with (self.directory / "server.log").open("wb") as log:
                self.server = subprocess.Popen(
                    argv, cwd=self.directory, env=self.environment, stdout=log, stderr=log, start_new_session=True
                )
            return ""
        if words[1] in ("status", "predict"):
            argv += ["--url", f"http://localhost:{self.rest_api_port}"]
        wanted = 3 if ACTION_NEEDED in line else 0
        for _ in range(60 if words[1] == "status" else 1):  # the server is being started
            done = process.run(argv, cwd=self.directory, env=self.environment, check=False)
            if done.returncode == wanted:
                if words[1] == "init-deployment":
                    self.uses_free_ports()
                return done.output
        printed = self.directory / "server.log"
        raise AssertionError(f"{line}: {done.output}\n{printed.read_text() if printed.exists() else ''}")

    def uses_free_ports(self) -> None:
        """Other tests, and whoever works on this machine, may have servers on the usual ones."""
        file = self.directory / "deployment.yaml"
        text = file.read_text().replace("port: 8500", f"port: {self.port}")
        file.write_text(text.replace("rest_api_port: 8501", f"rest_api_port: {self.rest_api_port}"))

    def stops(self) -> None:
        if self.server is not None:
            process.end_process_tree(self.server)


@pytest.fixture
def state(built: BuildResult, sample_settings: Settings, tmp_path: Path) -> Settings:
    return copy_of(sample_settings, tmp_path / "state")


def test_the_pages_commands_take_a_model_to_a_server_that_answers_on_the_npu(state: Settings, tmp_path: Path) -> None:
    engineer = Engineer(state, tmp_path)
    try:
        outputs = {line: engineer.types(line) for line in commands()}
    finally:
        engineer.stops()
    predicted = next(output for line, output in outputs.items() if "predict" in line)
    assert "3.5" in predicted  # by version 2, the highest
    assert "the NPU is used" in (tmp_path / "server.log").read_text()
    difference = next(output for line, output in outputs.items() if ACTION_NEEDED in line)
    assert "\n+--port=9000\n" in difference
    (deployed,) = (state.build_root / "deployments").iterdir()
    assert f"--port={engineer.port}" in (deployed / "flags").read_text()
    of_the_server = read_deployment(tmp_path / "of-the-server.yaml")
    assert [model.base_path for model in of_the_server.models] == [str(MODEL)]
    assert of_the_server.server.port == engineer.port
    assert of_the_server.npu == {"precision_mode_v2": "fp16"}


def test_a_package_starts_with_the_files_that_the_page_has_written(state: Settings, tmp_path: Path) -> None:
    engineer = Engineer(state, tmp_path)
    for line in commands():
        if ("init-deployment" in line and "--from-server" not in line) or (
            line.endswith("--output FILES") and "render-deployment" in line
        ):
            engineer.types(line)
    package = tmp_path / "package"
    for file in contents(find_build(state.dist_root, "")):
        (package / file.name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file.source, package / file.name)
        (package / file.name).chmod(file.mode)
    environment = {
        "PATH": "/usr/bin:/bin",
        "ASCEND_ROOT": str(ascend_of(state)),
        "LD_LIBRARY_PATH": str(ascend_of(state).parent / "python3.7.5/lib"),
        "NPU_SERVING_SERVE": str(package / "bin/serve"),
    }
    with (tmp_path / "log").open("wb") as log:
        engineer.server = subprocess.Popen(
            [Path(engineer.words["FILES"]) / "start.sh"],
            cwd=tmp_path,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        status = engineer.types("./inv status NAME")
        engineer.types("./inv predict NAME --request REQUEST")
    finally:
        engineer.stops()
    assert "AVAILABLE" in status
    assert "placed on NPU" in (tmp_path / "log").read_text()


def test_a_dry_run_of_serve_names_the_files_and_writes_none_of_them(state: Settings, tmp_path: Path) -> None:
    engineer = Engineer(state, tmp_path)
    engineer.types(commands()[0])
    shown = engineer.types("./inv render-deployment deployment.yaml --output FILES --dry-run")
    assert "config.cfg  (new)" in shown
    argv = [str(PROJECT_ROOT / "inv"), "serve", "--deployment", "deployment.yaml", "--dry-run"]
    done = process.run(argv, cwd=tmp_path, env=engineer.environment, check=False)
    assert done.returncode == 0, done.output
    place = state.build_root / "deployments"
    assert f"--platform_config_file={place}/" in done.stdout
    assert f"--model_config_file={place}/" in done.stdout
    assert not place.exists()


def test_the_example_file_of_the_page_is_a_valid_one(tmp_path: Path) -> None:
    text, *sections = blocks("yaml")
    (tmp_path / "deployment.yaml").write_text(text)
    assert [model.name for model in read_deployment(tmp_path / "deployment.yaml").models] == ["resnet", "bert"]
    for section in sections:
        (tmp_path / "part.yaml").write_text("version: 1\nmodels: [{name: a, base_path: /models/a}]\n" + section)
        assert read_deployment(tmp_path / "part.yaml").uses_npu()
