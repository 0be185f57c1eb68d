"""ATC and AOE, which make an om of a frozen graph: found in the CANN installation, called, their results looked at."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from npu_serving import known_failures, process
from npu_serving.cann.analysis_tools import TOOLKIT, analysis_tools, how_to_get, tool_path
from npu_serving.cann.environment import cann_environment
from npu_serving.cann.install import CannInstallation
from npu_serving.console import Reporter, duration_text
from npu_serving.conversion.om_request import PROFILING, OmRequest, PassedOption
from npu_serving.conversion.om_shapes import DIMS, CompiledShapes
from npu_serving.errors import MissingToolError, ProgramError
from npu_serving.known_failures import diagnose
from npu_serving.models.om_file import OmFile, read_om

FROZEN, COMPILED = "frozen.pb", "model"
"""The names, in a directory of their own, of the graph that is compiled, and of the om without its ending."""
FUNCTIONS = "graph_def_library.pbtxt"
"""Where ATC looks for the graphs of functions: in the directory of the model (tensorflow_parser.cc)."""
TENSORFLOW = "3"  # what --framework calls it
LARGEST_GRAPH = (1 << 31) - 1
"""Bytes of a frozen graph: protobuf reads no message of 2 GiB, in ATC as elsewhere."""
_LINE = 100


@dataclass(frozen=True)
class ModelCompiler:
    """The program that makes the om, and the environment that CANN's set_env.sh would give it."""

    name: str
    program: Path
    env: dict[str, str]
    version: str
    """That of the CANN it is of; "" where it is not known."""


def find_compiler(name: str, installation: CannInstallation | None) -> ModelCompiler:
    """`atc` or `aoe` of that CANN, or the one on PATH where that has none. MissingToolError where there is none."""
    found = tool_path(name, installation) or process.find_program(name)
    if found is None:
        raise MissingToolError(
            f"{name}, {analysis_tools()[name].title} of CANN, is not installed here.",
            cause="it makes the om, and is part of CANN's toolkit; nnae and nnrt don't have it",
            cure=how_to_get(name, installation),
        )
    environment = cann_environment(installation, os.environ)
    env = environment.added_to(os.environ)
    library_path = [*(str(path) for path in environment.library_path), os.environ.get("LD_LIBRARY_PATH", "")]
    env["LD_LIBRARY_PATH"] = ":".join(entry for entry in library_path if entry)
    toolkit = installation.component(TOOLKIT) if installation is not None else None
    return ModelCompiler(name, found, env, toolkit.version if toolkit is not None else "")


def compiler_words(
    request: OmRequest,
    soc_version: str,
    shapes: CompiledShapes | None,
    outputs: Sequence[str],
    passed: Sequence[PassedOption],
) -> list[str]:
    """The options of the command line, in the order of the tools' own references.

    The paths are those in the directory that the compiler runs in, and so the same each time. `shapes` is None where
    the options that are passed on say the shapes.
    """
    words = [f"--framework={TENSORFLOW}", f"--model={FROZEN}", f"--output={COMPILED}"]
    words.append(f"--job_type={request.profiling}" if request.profiling else f"--soc_version={soc_version}")
    if shapes is not None:
        words += shapes.words
        if shapes.gears.option == DIMS and not any(option.name == "input_format" for option in passed):
            words.append("--input_format=ND")
    words.append(f"--out_nodes={';'.join(outputs)}")
    for name in ("output_type", "input_fp16_nodes"):
        value = getattr(request, name)
        words += [f"--{name}={value}"] if value else []
    return [*words, *(option.word for option in passed)]


def write_function_graphs(
    compiler: ModelCompiler, script: Path, python: Path, directory: Path, log_path: Path, reporter: Reporter
) -> None:
    """Writes the graphs of the frozen graph's functions beside it, where the compiler looks for them.

    CANN's func2graph.py does it in the user's TensorFlow. ProgramError where it does not: it ends with 0 all the same.
    """
    with reporter.progress("func2graph makes graphs of the functions"):
        finished = process.run(
            [python, script, "-m", FROZEN], cwd=directory, env=compiler.env, log_path=log_path, check=False
        )
    if finished.returncode != 0 or not (directory / FUNCTIONS).is_file():
        raise ProgramError(
            process.failure(finished, log_path=log_path).what,
            cause=f"it made no {FUNCTIONS}, without which the compiler can't read a graph with functions",
            cure=f"see what it says in {log_path}; or export the model with tf.compat.v1.disable_control_flow_v2()",
            output=finished.output,
        )


def compile_model(
    compiler: ModelCompiler, words: Sequence[str], directory: Path, log_path: Path, reporter: Reporter
) -> tuple[OmFile, float]:
    """Has the compiler make the om in `directory`, where the frozen graph is; returns it, and the seconds it took.

    ProgramError with what is known of the failure where the compiler fails, or says that it succeeded and left no om,
    ModelFileError for an om that is cut off.
    """
    began = time.monotonic()
    title = f"{compiler.name} compiles the model"
    last: list[str] = [""]

    def show(line: str) -> None:
        text = line.strip()
        last[0] = text[:_LINE] if text else last[0]

    with reporter.progress(title) as progress:
        finished = process.run(
            [compiler.program, *words],
            cwd=directory,
            env=compiler.env,
            log_path=log_path,
            on_line=show,
            on_tick=lambda: progress.update(0, detail=f"{duration_text(time.monotonic() - began)}  {last[0]}"),
            check=False,
        )
    if finished.returncode != 0:
        raise _failure(compiler, finished, log_path)
    made = sorted(path for path in directory.rglob("*.om") if path.is_file())
    named = [path for path in made if path.parent == directory and path.name.startswith(COMPILED)] or made
    if len(named) != 1 or not named[0].stat().st_size:
        found = "no om" if not named else "an empty om" if len(named) == 1 else f"{len(named)} files *.om"
        raise ProgramError(
            f"{compiler.name} ended with exit status 0, and left {found}.",
            cause="it was interrupted, or the disk is full"
            if not named or len(named) == 1
            else "the options that were passed on have it make several",
            cure=f"see what it says in {log_path}",
            output=finished.output,
        )
    return read_om(named[0]), time.monotonic() - began


def _failure(compiler: ModelCompiler, finished: process.Finished, log_path: Path) -> ProgramError:
    """The error for a compiler that failed, with what is known of the codes that it printed."""
    error = process.failure(finished, log_path=log_path)
    known = diagnose(known_failures.COMPILERS, finished.output) or diagnose(known_failures.CANN, finished.output)
    if known is None:
        return error
    return ProgramError(
        error.what, cause=known.cause, cure=known.cure, returncode=error.returncode, output=finished.output
    )


def compiler_does(request: OmRequest) -> str:
    """What the compiler will do, for a person."""
    if request.profiling:
        return f"AOE compiles it and tunes it ({PROFILING[request.profiling]}), which may take hours"
    return "ATC compiles it"
