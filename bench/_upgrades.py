"""The sample's upgrades as the benchmarks measure them; the task bench passes this over for its name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

from npu_serving import fsutil
from npu_serving.builds.current import make_current, read_builds
from npu_serving.builds.manifest import Build
from npu_serving.sample import SAMPLE_DIRECTORY
from npu_serving.settings import PROJECT_ROOT, Settings

INV = str(PROJECT_ROOT / "inv")
FURTHER_SOURCES = 150
SOURCE = '#include <regex>\n#include <string>\nbool further_{n}(const std::string& s) {{ return std::regex_match(s, std::regex("{n}+")); }}\n'  # noqa: E501
FILLED_MB = 500


def measured(argv: list[str], cwd: Path, env: dict[str, str], codes: tuple[int, ...] = (0,)) -> tuple[float, str]:
    """Seconds, and what it printed."""
    started = time.perf_counter()
    done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode not in codes:
        sys.exit(f"{argv} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return seconds, done.stdout


def with_further_sources(tree: Path) -> None:
    """A copy of the sample's tree whose server has more to compile."""
    shutil.copytree(SAMPLE_DIRECTORY / "serving", tree)
    directory = tree / "tensorflow_serving" / "model_servers"
    names = [f"further_{n}.cc" for n in range(FURTHER_SOURCES)]
    for n, name in enumerate(names):
        (directory / name).write_text(SOURCE.format(n=n))
    path = directory / "BUILD"
    library = f'cc_library(\n    name = "further",\n    srcs = {json.dumps(names)},\n)\n'
    first_dep = '":tensorflow_model_server_main_lib",\n    ],'
    text = path.read_text().replace(first_dep, f'":further",\n        {first_dep}')
    path.write_text(text + "\n" + library)


def filled(tree: Path, data: Path) -> None:
    """A copy of the sample's tree whose server has 500 MB more, as the real one: debug information, never loaded."""
    shutil.copytree(SAMPLE_DIRECTORY / "serving", tree)
    with data.open("wb") as file:
        for _ in range(FILLED_MB):
            file.write(os.urandom(500_000) + bytes(500_000))
    source = tree / "tensorflow_serving" / "core" / "stop_signal.cc"
    filling = f'asm(".section .debug_filling,\\"\\",@progbits\\n.incbin \\"{data}\\"\\n.text\\n");\n'
    source.write_text(source.read_text() + filling)


def settings_in(root: Path, source: str, also_fits: str) -> tuple[Settings, dict[str, str]]:
    """Settings for a tree on the host, and the environment in which ./inv reads them."""
    settings = Settings(
        source=source,
        also_fits=(also_fits,),
        adapter="sample",
        runner="host",
        build_root=root / "build",
        dist_root=root / ("dist-" + Path(source).name),
        bazel=os.environ.get("NPU_SERVING_TEST_BAZEL", ""),
    )
    values = {"source": source, "adapter": "sample", "runner": "host", "also_fits": [also_fits]}
    values |= {"bazel": settings.bazel, "build_root": str(settings.build_root), "dist_root": str(settings.dist_root)}
    file = root / f"{Path(source).name}.yaml"
    file.write_text(yaml.safe_dump({"npu_serving": values}))
    return settings, {**os.environ, "NPU_SERVING_SETTINGS": str(file)}


def back_to(former: Build, settings: Settings) -> None:
    """The former build is the current one, and the only one."""
    make_current(former)
    for build in read_builds(settings.dist_root).sound:
        if not build.current:
            fsutil.remove(build.directory)
