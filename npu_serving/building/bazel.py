"""One run of Bazel: the command line, the progress it shows, the record of what it did, the cure when it failed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Callable
from urllib.parse import unquote, urlparse

from npu_serving import fsutil, known_failures
from npu_serving.building.build_progress import ActionCount, BuildWatch
from npu_serving.building.build_record import LINK_ACTIONS, BuildRecord, LinkEvent
from npu_serving.building.runner import Layout, Runner, RunRequest
from npu_serving.console import Reporter
from npu_serving.errors import BuildFailedError, FileAccessError, RequestError
from npu_serving.known_failures import diagnose
from npu_serving.linking.linkers import ARGUMENT, AUTO, BFD
from npu_serving.process import Finished, failure
from npu_serving.resources import Resources
from npu_serving.settings import XLA_OF_ADAPTER
from npu_serving.shown_text import hiding

TARGET = "//tensorflow_serving/model_servers:tensorflow_model_server"

COMPILATION_FLAGS = ("-c", "opt", "--cxxopt=-D_GLIBCXX_USE_CXX11_ABI=0")
"""What decides the code that comes out, the ABI as the adapter was built with it (guide 6.3, step 7)."""
RAN_HERE = "local action execution"  # the profile's category for a program that was run
NO_BUILD = "--nobuild"
KILLED = "\nBazel was killed: Server terminated abruptly\n"  # in batch mode it can't say so itself
OURS = (
    "--distdir", "--repository_cache", "--symlink_prefix", "--build_event_json_file", "--workspace_status_command",
    NO_BUILD, "--output_user_root", "--batch", "--profile", "--disk_cache", "--remote_cache", "--remote_http_cache",
    "--remote_cache_proxy", "--remote_executor",
)  # fmt: skip
"""Flags that the build relies on: a user's own would break what comes after."""

_ANALYSED = re.compile(r"^INFO: Analy[sz]ed target \S+ \((.*)\)", re.MULTILINE)
_CACHED = re.compile(
    r"^INFO: [\d,]+ process(?:es)?: (?:.*, )?([\d,]+) remote cache hit", re.MULTILINE
)  # a disk's as well
_REVISION = re.compile(r"[A-Za-z0-9._+-]+\Z")


# What Bazel 0.24's configuration of the C++ toolchain ends a link's command with: a --linkopt stands before its own
# -fuse-ld=gold, and gcc takes the last one.
_LINK_OPTIONS, _DEFAULT_LINK_OPTIONS = "BAZEL_LINKOPTS", ("-lstdc++", "-lm")

CureOf = Callable[[str], str]
"""The cure of a known failure by its id, "" where the table's is all there is to say."""


def _of_the_table(_failure: str) -> str:
    return ""


@dataclass(frozen=True)
class Command:
    """What Bazel is asked to do; every value is one argument, whatever it holds."""

    target: str
    revision: str
    """What --version of the server shows as `dev.sha.<revision>`: the source's identity."""
    flags: tuple[str, ...] = ()
    """Further flags of `bazel build`, the overlay's and the user's."""


def argv(runner: Runner, layout: Layout, command: Command, resources: Resources) -> list[str]:
    """The command line for `command` in `runner`; `layout` is the one outside."""
    inside = runner.inside(layout)
    if not _REVISION.match(command.revision):
        raise ValueError(f"not a revision: {command.revision!r}")
    return [
        runner.bazel(),
        "--batch",  # no server stays behind, whatever ends this run
        "--nosystem_rc",
        "--nohome_rc",  # the tree's own .bazelrc counts; a user's would change the build unseen
        f"--output_user_root={inside.output_user_root}",
        "--host_jvm_args=-XX:TieredStopAtLevel=1",  # a run is too short for Java's optimising compiler to pay
        "build",
        *COMPILATION_FLAGS,
        f"--distdir={inside.distdir}",
        f"--repository_cache={inside.repository_cache}",
        "--symlink_prefix=/",  # nothing is written into the tree
        f"--action_env=PYTHON_BIN_PATH={runner.python()}",
        f"--define=PYTHON_BIN_PATH={runner.python()}",
        # The tree's own script would stamp the commit of whatever git repository encloses it. Bazel hands the value to
        # a shell, so the revision is held to harmless characters above.
        f"--workspace_status_command=/bin/echo BUILD_SCM_REVISION {command.revision}",
        f"--jobs={resources.jobs}",
        f"--local_ram_resources={resources.memory_mb}",
        f"--local_cpu_resources={resources.jobs}",
        "--verbose_failures",
        "--curses=no",
        "--color=no",
        "--show_progress_rate_limit=0.5",
        f"--build_event_json_file={_event_log(inside)}",
        "--build_event_publish_all_actions",
        "--experimental_generate_json_trace_profile",
        f"--profile={_profile(inside)}",
        *command.flags,
        "--",
        command.target,
    ]


def linker_environment(linker: str) -> dict[str, str]:
    """What the environment of Bazel gets so that every link is made by that linker; nothing for "auto"."""
    return {} if linker == AUTO else {_LINK_OPTIONS: ":".join([*_DEFAULT_LINK_OPTIONS, ARGUMENT + linker])}


def xla_flags(xla: str) -> tuple[str, ...]:
    """Flags of `bazel build` for that much of XLA: what the adapter calls is not meant for the server's package."""
    return ("--nocheck_visibility",) if xla == XLA_OF_ADAPTER else ()


def linker_flags(linker: str) -> tuple[str, ...]:
    """Flags of `bazel build` for that linker: bfd knows no objects between --start-lib and --end-lib."""
    return ("--nostart_end_lib",) if linker == BFD else ()


def output_base(runner: Runner, layout: Layout) -> Path:
    """Where Bazel keeps what it made of this workspace, named after the md5 of the path that it sees; seen outside."""
    name = hashlib.md5(os.fsencode(runner.inside(layout).workspace), usedforsecurity=False).hexdigest()
    return layout.output_user_root / name


def checked_flags(flags: tuple[str, ...]) -> tuple[str, ...]:
    """The user's flags for `bazel build`; RequestError for anything but a flag, and for those that are ours."""
    for flag in flags:
        if not flag.startswith("-") or flag in ("-", "--"):
            raise RequestError(
                f"--bazel-arg must be a flag of `bazel build`, not {flag!r}.",
                cause="it names a target, which this project sets itself",
                cure="write it like --bazel-arg=--NAME=VALUE",
            )
        if flag.split("=")[0] in OURS:
            raise RequestError(
                f"--bazel-arg can't be {flag!r}: this project sets that flag itself.",
                cure="leave it out; invoke.yaml has settings of that kind, and --analyse stands for --nobuild",
            )
    return flags


def build(
    runner: Runner,
    layout: Layout,
    command: Command,
    resources: Resources,
    *,
    log_path: Path,
    reporter: Reporter,
    further_environment: Mapping[str, str] = MappingProxyType({}),
    cure_of: CureOf = _of_the_table,
    expected: int = 0,
) -> BuildRecord:
    """Runs Bazel and returns what it did. BuildFailedError carries the cause if it is a known one.

    `cure_of` may know more of a known failure's cure than the table, by what this very build had; `expected` is
    how many actions a build of everything takes, 0 where that isn't known.
    """
    fsutil.make_directory(log_path.parent)
    events = _event_log(layout)
    fsutil.make_directory(events.parent)
    fsutil.remove(_profile(layout))
    words = argv(runner, layout, command, resources)
    what = [command.target, *COMPILATION_FLAGS, *command.flags]
    counted = ActionCount(events, output_base(runner, layout), what, analysing=NO_BUILD in command.flags)
    with reporter.progress("bazel", unit="actions") as progress:
        watch = BuildWatch(progress, reporter, counted, expected)
        env = {**environment(runner, layout), **further_environment}
        finished = runner.run(RunRequest(words, layout, env, log_path, watch.see, watch.look))
    if finished.returncode != 0:
        raise explain(finished, log_path, cure_of)
    counted.complete()
    record = read_events(events, runner.inside(layout), layout, finished.seconds)
    analysed = _ANALYSED.search(finished.output)
    cached = _CACHED.search(finished.output)
    return replace(
        record,
        ran=read_profile(_profile(layout)),
        cached=int(cached.group(1).replace(",", "")) if cached else 0,
        summary=analysed.group(1) if analysed else "",
    )


def stop_server(runner: Runner, layout: Layout, output_base: Path, *, log_path: Path) -> bool:
    """Stops the Bazel server that somebody left on `output_base`, outside of this project; True if there was one."""
    try:
        pid = int(fsutil.read_text(output_base / "server" / "server.pid.txt"))
        is_its_server = os.fsencode(output_base) in Path("/proc", str(pid), "cmdline").read_bytes()
    except (FileAccessError, ValueError, OSError):
        return False
    if not is_its_server:  # another process has that number by now
        return False
    root = runner.inside(layout).output_user_root
    words = [runner.bazel(), "--nosystem_rc", "--nohome_rc", f"--output_user_root={root}", "shutdown"]
    fsutil.make_directory(log_path.parent)
    finished = runner.run(RunRequest(words, layout, environment(runner, layout), log_path))
    if finished.returncode != 0:
        raise failure(finished, log_path=log_path, cure=f"kill process {pid}, then run the same command again")
    return True


def environment(runner: Runner, layout: Layout) -> dict[str, str]:
    """The runner's environment, and a bound for git.

    TensorFlow's repository rules apply their patches with `git apply`, which silently skips them when the
    output root lies within somebody's git work tree: later the build fails with `no such package '@zlib//'`.
    """
    return {**runner.environment(), "GIT_CEILING_DIRECTORIES": str(runner.inside(layout).output_user_root)}


def explain(finished: Finished, log_path: Path, cure_of: CureOf = _of_the_table) -> BuildFailedError:
    """The error for a Bazel run that failed, with the known cause and cure if its output shows one."""
    base = failure(finished, log_path=log_path)
    printed = hiding(finished.argv)(finished.output)
    known = diagnose(known_failures.BUILDING, printed + (KILLED if finished.returncode in (-9, 137) else ""))
    errors = [line for line in printed.splitlines() if line.startswith(("ERROR:", "FATAL:"))]
    what = f"Bazel failed with status {finished.returncode}."
    shown = "\n".join(f"    {line[:400]}" for line in errors[:6]) or base.what
    return BuildFailedError(
        f"{what}\n{shown}\nThe command and its full output are in {log_path}",
        cause=known.cause if known is not None else "",
        cure=cure_of(known.id) or known.cure if known is not None else f"look for the first ERROR in {log_path}",
        returncode=finished.returncode,
        output=finished.output,
    )


def read_events(path: Path, inside: Layout, outside: Layout, seconds: float) -> BuildRecord:
    """The record of a run from its build event log; a line cut short by a kill is passed over."""
    actions: Counter[str] = Counter()
    output: Path | None = None
    link: LinkEvent | None = None
    for line in fsutil.read_text(path).splitlines():
        with contextlib.suppress(ValueError, KeyError):
            event = json.loads(line)
            if "action" in event:
                actions[event["action"].get("type", "other")] += 1
                link = _link_event(event) or link
            if event["id"].get("targetCompleted", {}).get("label") != TARGET:
                continue
            for file in event["completed"].get("importantOutput", []):
                output = _outside(Path(_path_of(file["uri"])), inside, outside)
    return BuildRecord(dict(sorted(actions.items())), output=output, link=link, seconds=seconds)


def _link_event(event: Mapping[str, Any]) -> LinkEvent | None:
    """What an event of the log says of the target's link; None for every other action, and for one that failed."""
    action, name = event["action"], event["id"]["actionCompleted"]
    if action.get("type") not in LINK_ACTIONS or name.get("label") != TARGET or not action.get("success"):
        return None
    output = name["primaryOutput"]
    path = _path_of(action["primaryOutput"]["uri"])
    if not path.endswith(f"/{output}") or output.rpartition("/")[2] != TARGET.rpartition(":")[2]:
        return None
    return LinkEvent(tuple(action["commandLine"]), Path(path[: -len(output)]))


def read_profile(path: Path) -> dict[str, int]:
    """The programs that Bazel ran on this machine, by the kind of their action, from its JSON trace profile."""
    ran: Counter[str] = Counter()
    with contextlib.suppress(ValueError):
        for event in json.loads(fsutil.read_text(path)):
            if event.get("cat") == RAN_HERE:
                ran[str(event.get("name", "other"))] += 1
    return dict(sorted(ran.items()))


def _outside(path: Path, inside: Layout, outside: Layout) -> Path:
    return outside.output_user_root / path.relative_to(inside.output_user_root)


def _path_of(uri: str) -> str:
    return unquote(urlparse(uri).path)


def _event_log(layout: Layout) -> Path:
    return layout.output_user_root / "npu-serving" / "events.json"


def _profile(layout: Layout) -> Path:
    return layout.output_user_root / "npu-serving" / "profile.json"
