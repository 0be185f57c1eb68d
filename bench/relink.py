"""rebuild-after-cann beside the link's own command, and beside the guide's procedure: all of it built again.

All on the same trees, in this run: the sample as it is; with further sources, for the guide's procedure; and with
500 MB more in the server, for what is copied, hashed and verified. Then the plan and the rollback.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

from _upgrades import (
    FILLED_MB,
    FURTHER_SOURCES,
    INV,
    back_to,
    filled,
    measured,
    settings_in,
    with_further_sources,
)

from npu_serving import fsutil
from npu_serving.building import bazel as bazel_room
from npu_serving.building import pipeline, saved_links
from npu_serving.building.context import find_context
from npu_serving.building.linker_choice import relinking
from npu_serving.building.saved_link_run import relinked, usable_link
from npu_serving.builds.current import find_build
from npu_serving.console import Silent
from npu_serving.linking.link_command import linker_of, with_linker, with_output
from npu_serving.resources import available_resources
from npu_serving.sample.cann import FIRST_RELEASE, NEXT_RELEASE, install_sample_cann
from npu_serving.settings import PROJECT_ROOT, Settings
from npu_serving.upgrade.rebuild_plan import SAVED_LINK

ROUNDS = 5
ROUNDS_OF_QUICK_ONES = 9


def relinks(settings: Settings, env: dict[str, str]) -> tuple[float, float, str]:
    """./inv rebuild-after-cann from the first CANN to the next, each by one saved link, and that link's own command.

    Seconds of both, measured in turn, and the linker that both took.
    """
    former = find_build(settings.dist_root)
    context = find_context(settings, Silent())
    saved = usable_link(context).saved
    if saved is None:
        sys.exit(f"no saved link: {usable_link(context).why_not}")
    linker = relinking(context, linker_of(saved.command))
    whole: list[float] = []
    bare: list[float] = []
    with tempfile.TemporaryDirectory(dir=settings.dist_root) as directory:
        command = with_linker(with_output(saved.command, f"{directory}/server"), linker)
        for _ in range(ROUNDS):
            back_to(former, settings)
            seconds, printed = measured([INV, "rebuild-after-cann", "--json"], PROJECT_ROOT, env)
            done = json.loads(printed)
            if (done["way"], done["compiled"], done["linked"]) != (SAVED_LINK, 0, 1):
                sys.exit(f"not one saved link: {printed}")
            whole.append(seconds)
            started = time.perf_counter()
            subprocess.run(command, cwd=saved.directory, env=dict(saved.environment), check=True)
            bare.append(time.perf_counter() - started)
    return statistics.median(whole), statistics.median(bare), linker


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


def compare(name: str, settings: Settings, env: dict[str, str]) -> float:
    """What the first build takes for keeping its link, then the upgrade beside its link; the upgrade's seconds."""
    install_sample_cann(settings.build_root / "sample")
    keeping_the_link(name, settings)
    saved_link(name, settings)
    install_sample_cann(settings.build_root / "sample", (FIRST_RELEASE, NEXT_RELEASE), NEXT_RELEASE)
    ours, rival, linker = relinks(settings, env)
    print(
        f"| {name} | all of rebuild-after-cann | {ours:.2f} s | its link alone ({linker}) | {rival:.2f} s "
        f"| {ours - rival:.2f} s more |",
        flush=True,
    )
    return ours


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
        settings, env = settings_in(root, "sample", "none")
        compare("sample", settings, env)
        quick_ones(settings, env)
        tree = root / "filled"
        filled(tree, root / "filling")
        settings, env = settings_in(root, str(tree), "none")
        compare(f"sample and {FILLED_MB} MB", settings, env)
        tree = root / "larger"
        with_further_sources(tree)
        settings, env = settings_in(root, str(tree), "none")
        name = f"sample and {FURTHER_SOURCES} sources"
        ours = compare(name, settings, env)
        rival = by_the_guide(settings, root, 1)
        print(
            f"| {name} | all of rebuild-after-cann | {ours:.2f} s | the guide's procedure | {rival:.1f} s "
            f"| {rival / ours:.0f} times as fast |",
            flush=True,
        )


if __name__ == "__main__":
    main()
