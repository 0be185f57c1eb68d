"""The commands of init-ci's files, typed in a clone of the repository on a machine without CANN."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from states import MODEL

from npu_serving.building.prepared import prepared_of
from npu_serving.builds.current import CPU_SERVER, CURRENT
from npu_serving.ci_files import COMMANDS, PACKAGES
from npu_serving.relink_kit.kit_file import read_kit
from npu_serving.settings import PROJECT_ROOT, Settings

GOLDEN = {
    "format": 2,
    "model": "half_plus_two",
    "instances": [1.0, 2.0],
    "expected": [3.5, 4.0],
    "model_base_path": "models/half_plus_two",
}


@pytest.fixture
def clone(tmp_path: Path, bazel: Path) -> Path:
    """The project's own files, with a model, a deployment and a golden request, in a repository of its own."""
    root = tmp_path / "clone"
    listed = subprocess.run(
        ["git", "ls-files", "-zco", "--exclude-standard"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.split("\0")[:-1]:
        if not name.startswith(("tests/", "bench/")) and (PROJECT_ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT_ROOT / name, root / name)
    settings = {"source": "sample", "runner": "host", "bazel": str(bazel)}
    (root / "invoke.yaml").write_text(yaml.safe_dump({"npu_serving": settings}))
    shutil.copytree(MODEL, root / "models/half_plus_two")
    (root / "golden").mkdir()
    (root / "golden/half.json").write_text(json.dumps(GOLDEN))
    deployment = {
        "version": 1,
        "models": [{"name": "half_plus_two", "base_path": "/models/half_plus_two"}],
        "npu": {"precision_mode_v2": "fp16"},
    }
    (root / "serving").mkdir()
    (root / "serving/deployment.yaml").write_text(yaml.safe_dump(deployment))
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    subprocess.run(["git", "add", "."], cwd=root, check=True)
    return root


def typed_in(clone: Path, command: str) -> subprocess.CompletedProcess[str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("ASCEND", "NPU_SERVING", "TFPLUGIN"))
    }
    environment = {**kept, "NPU_SERVING_VENV": sys.prefix}
    return subprocess.run(
        ["sh", "-c", command], cwd=clone, env=environment, capture_output=True, text=True, check=False
    )


def test_the_commands_build_and_check_all_without_cann_and_what_is_wrong_ends_the_run(clone: Path) -> None:
    for command in COMMANDS:
        done = typed_in(clone, command)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        if "build-serving" in command or "verify-serving" in command:
            assert not (clone / "build/sample/Ascend").exists(), "the sample's CANN is not made for it either"

    settings = Settings(build_root=clone / "build", dist_root=clone / "dist")
    assert prepared_of(settings) is not None
    assert (settings.dist_root / CPU_SERVER).is_symlink()
    kit, checksum = sorted((clone / PACKAGES).iterdir())
    assert checksum.name == f"{kit.name}.sha256"
    assert "golden/half.json" in read_kit(kit).file.entries
    assert not (settings.dist_root / CURRENT).exists()

    deployments = next(command for command in COMMANDS if "check-deployment" in command)
    (clone / "serving/deployment.yaml").write_text("version: 1\nmodels: []\nport: x\n")
    assert typed_in(clone, deployments).returncode != 0
    answers = next(command for command in COMMANDS if "smoke" in command)
    (clone / "golden/half.json").write_text(json.dumps({**GOLDEN, "expected": [3.5, 5.0]}))
    assert typed_in(clone, answers).returncode == 3
