"""The commands of docs/cann-upgrade.md, one after the other, on the sample."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from states import library_path

from npu_serving import fsutil, process
from npu_serving.asking.golden_places import golden_directory
from npu_serving.building.pipeline import BuildResult, build_serving
from npu_serving.builds.current import find_build, packages_directory
from npu_serving.builds.verify import check_directory
from npu_serving.console import Silent
from npu_serving.sample import SAMPLE_DIRECTORY
from npu_serving.sample.cann import FIRST_RELEASE, install_sample_cann, upgrade_sample_cann
from npu_serving.settings import PROJECT_ROOT, Settings

pytestmark = [
    pytest.mark.bazel,
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++"),
]
PAGE = PROJECT_ROOT / "docs/cann-upgrade.md"
# What the page says of the state after the upgrade: action is needed. Everything else ends well.
ACTION_NEEDED = {"./inv verify-serving": 1, "./inv rebuild-after-cann --check": 1}


def commands() -> list[str]:
    """The lines of the page's console blocks: `$ ` for the operator, `# ` for root."""
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert all(line[:2] in ("$ ", "# ") for line in lines), lines
    return lines


class Operator:
    """Types the page's commands, with the sample's files for the words in capitals."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self.cann = settings.build_root / "sample"
        self.words = {
            "MODEL": str(SAMPLE_DIRECTORY / "models/half_plus_two"),
            "REQUEST": '{"instances": [1.0]}',
            "CONFIG": str(SAMPLE_DIRECTORY / "config.cfg"),
            "MODEL_NAME": "half_plus_two",
            "RELEASE": FIRST_RELEASE,
            "DIST": str(directory / "serving"),
        }
        self.packages = packages_directory(settings.dist_root)
        section = {
            "source": settings.source,
            "bazel": settings.bazel,
            "runner": settings.runner,
            "build_root": str(settings.build_root),
            "dist_root": str(settings.dist_root),
            "cann_root": str(self.cann / "Ascend"),
            "python_prefix": str(self.cann / "python3.7.5"),
        }
        file = directory / "invoke.yaml"
        file.write_text(json.dumps({"npu_serving": section}))
        self.environment = {**os.environ, "NPU_SERVING_SETTINGS": str(file), "XDG_CACHE_HOME": str(directory / "cache")}
        self.directory = directory
        self.server: subprocess.Popen[bytes] | None = None
        self.left_to_need_action = dict(ACTION_NEEDED)
        self.upgraded = False

    def types(self, line: str) -> None:
        """Runs one line of the page."""
        words = [self.words.get(word, word) for word in shlex.split(line[2:])]
        if words[0].startswith("./Ascend-cann-"):
            upgrade_sample_cann(self.cann)
            self.upgraded = True
        elif words[0] == "ln":
            fsutil.point_link(Path(words[3].replace("/usr/local/Ascend", str(self.cann / "Ascend"))), words[2])
        elif words[0] == "sha256sum":
            (checksum,) = self.packages.glob("*.pyz.sha256")
            subprocess.run(["sha256sum", "-c", checksum.name], cwd=checksum.parent, check=True)
        elif words[0] == "python3":
            (kit,) = self.packages.glob("*.pyz")
            self._runs(
                line[2:], [sys.executable, "-I", "-S", str(kit), *words[2:], "--cann-root", f"{self.cann}/Ascend"]
            )
        elif words[1] == "serve":
            self.server = subprocess.Popen(
                [str(PROJECT_ROOT / "inv"), *words[1:]],
                cwd=self.directory,
                env=self.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        else:
            self._runs(line[2:], [str(PROJECT_ROOT / "inv"), *words[1:]])

    def _runs(self, text: str, words: list[str]) -> None:
        wanted = 3 if self.upgraded and self.left_to_need_action.pop(text, 0) else 0
        attempts = 60 if "status" in words else 1  # the server is being started
        for _ in range(attempts):
            done = process.run(words, cwd=self.directory, env=self.environment, check=False)
            if done.returncode == wanted:
                return
        raise AssertionError(f"{text} ended with {done.returncode}:\n{done.output}")

    def stops(self) -> None:
        """Ends the server that was started."""
        if self.server is not None:
            process.end_process_tree(self.server)


def test_the_pages_commands_take_an_operator_through_an_upgrade_and_back(
    built: BuildResult, sample_settings: Settings, tmp_path: Path
) -> None:
    operator = Operator(sample_settings, tmp_path)
    try:
        for line in commands():
            operator.types(line)
        assert operator.upgraded
        assert operator.left_to_need_action == {}
        served = find_build(tmp_path / "serving")
        assert served.manifest.objects == built.build.manifest.objects
        assert check_directory(served.directory, library_path(sample_settings)).fits_where_a_driver_is
    finally:
        operator.stops()
        fsutil.remove(golden_directory(sample_settings.dist_root))
        fsutil.remove(operator.packages)
        install_sample_cann(operator.cann)
        restored = build_serving(sample_settings, Silent())
        assert restored.build.manifest.build_id == built.build.manifest.build_id
