"""rebuild-after-cann beside the guide's procedure: the output root deleted, all of it built again with the same flags.

Both on the same tree, in this run: the sample as it is, and the sample with further sources, for most of what a relink
of the sample takes is the start of Bazel, which a larger tree doesn't multiply. Then the plan and the rollback.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from npu_serving import fsutil
from npu_serving.building import bazel as bazel_room
from npu_serving.building import pipeline, saved_links
from npu_serving.building.context import find_context
from npu_serving.building.saved_link_run import relinked, usable_link
from npu_serving.builds.current import find_build, make_current, read_builds
from npu_serving.console import Silent
from npu_serving.linking.link_command import with_output
from npu_serving.resources import available_resources
from npu_serving.sample import SAMPLE_DIRECTORY
from npu_serving.sample.cann import FIRST_RELEASE, NEXT_RELEASE, install_sample_cann
from npu_serving.settings import PROJECT_ROOT, Settings

INV = str(PROJECT_ROOT / "inv")
ROUNDS = 3
ROUNDS_OF_QUICK_ONES = 9
FURTHER_SOURCES = 150
SOURCE = '#include <regex>\n#include <string>\nbool further_{n}(const std::string& s) {{ return std::regex_match(s, std::regex("{n}+")); }}\n'  # noqa: E501


def measured(argv: list[str], cwd: Path, env: dict[str, str], codes: tuple[int, ...] = (0,)) -> tuple[float, str]:
    """Seconds, and what it printed."""
    started = time.perf_counter()
    done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode not in codes:
        sys.exit(f"{argv} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return seconds, done.stdout


def relinks(settings: Settings, env: dict[str, str], rounds: int) -> float:
    """./inv rebuild-after-cann from the first CANN to the next, again and again; each has to be one link."""
    times = []
    former = find_build(settings.dist_root)
    context = find_context(settings, Silent())
    execroot = context.output_base / "execroot"
    for _ in range(rounds):
        make_current(former)
        for build in read_builds(settings.dist_root).sound:
            if not build.current:
                fsutil.remove(build.directory)
        for server in execroot.glob("*/bazel-out/*/bin/tensorflow_serving/model_servers/tensorflow_model_server"):
            server.unlink()  # or the second round would find it linked
        seconds, printed = measured([INV, "rebuild-after-cann", "--json"], PROJECT_ROOT, env)
        done = json.loads(printed)
        if (done["compiled"], done["linked"]) != (0, 1):
            sys.exit(f"not one link: {done['executed_actions']}")
        times.append(seconds)
    return statistics.median(times)


def saved_link(name: str, settings: Settings) -> None:
    """The saved link beside the command that it runs, started by hand; in turn."""
    context = find_context(settings, Silent())
    saved = usable_link(context).saved
    if saved is None:
        sys.exit(f"no saved link: {usable_link(context).why_not}")
    times: tuple[list[float], list[float]] = ([], [])
    with tempfile.TemporaryDirectory(dir=settings.dist_root) as directory:
        bare = with_output(saved.command, f"{directory}/server")
        for _ in range(ROUNDS_OF_QUICK_ONES):
            started = time.perf_counter()
            with relinked(context, saved, Silent()):
                times[0].append(time.perf_counter() - started)
            started = time.perf_counter()
            subprocess.run(bare, cwd=saved.directory, env=dict(saved.environment), check=True)
            times[1].append(time.perf_counter() - started)
    ours, rival = map(statistics.median, times)
    print(f"| {name} | the saved link | {ours:.3f} s | its command | {rival:.3f} s | {ours / rival:.2f} |", flush=True)


def keeping_the_link(name: str, settings: Settings) -> None:
    """What a first build takes for keeping its link, beside the whole of that build."""
    kept: list[float] = []

    def timed(*arguments: Any) -> Any:
        started = time.perf_counter()
        try:
            return saved_links.keep_link(*arguments)
        finally:
            kept.append(time.perf_counter() - started)

    with mock.patch.object(pipeline, "keep_link", timed):
        seconds = pipeline.build_serving(settings, Silent()).seconds
    print(
        f"| {name} | keeping the link | {sum(kept):.3f} s | the build | {seconds:.1f} s | {sum(kept) / seconds:.4f} |",
        flush=True,
    )


def by_the_guide(settings: Settings, root: Path, rounds: int) -> float:
    """Bazel as a person starts it, from an empty output root: all is unpacked and compiled again."""
    times = []
    context = find_context(settings, Silent())
    for number in range(rounds):
        layout = dataclasses.replace(
            context.layout, output_user_root=fsutil.make_directory(root / f"by-the-guide-{number}")
        )
        command = bazel_room.Command(bazel_room.TARGET, "bench", context.bazel_flags)
        ours = ("--batch", "--host_jvm_args", "--build_event")
        argv = [
            word
            for word in bazel_room.argv(context.runner, layout, command, available_resources())
            if not word.startswith(ours)
        ]
        env = bazel_room.environment(context.runner, layout)
        times.append(measured(argv, layout.workspace, env)[0])
        subprocess.run([*argv[:4], "shutdown"], cwd=layout.workspace, env=env, capture_output=True, check=True)
        fsutil.remove(layout.output_user_root)
    return statistics.median(times)


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


def settings_in(root: Path, source: str) -> tuple[Settings, dict[str, str]]:
    settings = Settings(
        source=source,
        adapter="sample",
        runner="host",
        build_root=root / "build",
        dist_root=root / ("dist-" + Path(source).name),
        bazel=os.environ.get("NPU_SERVING_TEST_BAZEL", ""),
    )
    values = {"source": source, "adapter": "sample", "runner": "host", "bazel": settings.bazel}
    values |= {"build_root": str(settings.build_root), "dist_root": str(settings.dist_root)}
    file = root / f"{Path(source).name}.yaml"
    file.write_text(yaml.safe_dump({"npu_serving": values}))
    return settings, {**os.environ, "NPU_SERVING_SETTINGS": str(file)}


def compare(name: str, settings: Settings, env: dict[str, str], root: Path, rounds: int) -> None:
    install_sample_cann(settings.build_root / "sample")
    keeping_the_link(name, settings)
    saved_link(name, settings)
    install_sample_cann(settings.build_root / "sample", (FIRST_RELEASE, NEXT_RELEASE), NEXT_RELEASE)
    ours = relinks(settings, env, rounds)
    rival = by_the_guide(settings, root, max(1, rounds - 1))
    print(
        f"| {name} | rebuild-after-cann, one link | {ours:.2f} s | all of it again | {rival:.1f} s "
        f"| {rival / ours:.1f} |",
        flush=True,
    )


def quick_ones(settings: Settings, env: dict[str, str]) -> None:
    bare = [sys.executable, "-m", "invoke", "--search-root", str(PROJECT_ROOT), "--list"]
    tasks = {"--check": [INV, "rebuild-after-cann", "--check"], "rollback": [INV, "rollback", "--force"]}
    times: dict[str, list[float]] = {name: [] for name in ("bare", *tasks)}
    for _ in range(ROUNDS_OF_QUICK_ONES):
        times["bare"].append(measured(bare, PROJECT_ROOT, env)[0])
        for name, argv in tasks.items():
            times[name].append(measured(argv, PROJECT_ROOT, env, (0, 3))[0])
    for name in tasks:
        shown = f"{min(times[name]):.2f} / {statistics.median(times[name]):.2f} s"
        rival = f"{min(times['bare']):.2f} / {statistics.median(times['bare']):.2f} s"
        ratio = statistics.median(times[name]) / statistics.median(times["bare"])
        print(f"| {name} (least / median) | {shown} | bare invoke --list | {rival} | {ratio:.2f} |", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        settings, env = settings_in(root, "sample")
        compare("sample", settings, env, root, ROUNDS)
        quick_ones(settings, env)
        tree = root / "larger"
        with_further_sources(tree)
        settings, env = settings_in(root, str(tree))
        compare(f"sample and {FURTHER_SOURCES} sources", settings, env, root, 2)


if __name__ == "__main__":
    main()
