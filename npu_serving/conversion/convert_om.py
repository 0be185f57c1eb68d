"""convert-om: a SavedModel compiled to an om, and a servable that loads it, published as NAME/VERSION.

What the guide's saved_model2om.py does (6.6.5), without npu_bridge and, but for what we can't freeze, TensorFlow.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from npu_serving import __version__, fsutil
from npu_serving.asking.golden import GoldenRequest
from npu_serving.cann.analysis_tools import how_to_get, tool_path
from npu_serving.cann.install import CannInstallation
from npu_serving.cann.layout import is_before
from npu_serving.console import Reporter, amount_text, duration_text, table
from npu_serving.conversion.freezing_in_tensorflow import freeze_in_tensorflow
from npu_serving.conversion.om_compiler import (
    FROZEN,
    LARGEST_GRAPH,
    ModelCompiler,
    compile_model,
    compiler_does,
    compiler_words,
    find_compiler,
    write_function_graphs,
)
from npu_serving.conversion.om_golden import compared_with_golden, golden_to_ask
from npu_serving.conversion.om_graph import graph_pieces
from npu_serving.conversion.om_model import (
    ModelToCompile,
    frozen_here,
    model_to_compile,
    part_of_frozen,
    variable_files,
)
from npu_serving.conversion.om_request import OmRequest, check_request, passed_options
from npu_serving.conversion.om_servable import (
    OPERATOR,
    OmInput,
    OmSignature,
    fitted_to,
    served_signature,
    write_om_servable,
)
from npu_serving.conversion.om_shapes import BATCH
from npu_serving.conversion.soc_version import SocVersion, chosen_soc_version
from npu_serving.errors import EXIT_ACTION_NEEDED, MissingToolError, ModelFileError, RequestError
from npu_serving.findings import NOTE, WARNING, Finding
from npu_serving.models.graph_def import read_graph_def_file
from npu_serving.models.om_file import OmFile
from npu_serving.models.pieces import piece_chunks, pieces_size
from npu_serving.models.saved_model import SAVED_MODEL, read_saved_model
from npu_serving.models.saved_model_writer import checked_version, new_version
from npu_serving.settings import Settings
from npu_serving.writers.shell import command_line, shell_word

SCRATCH = "compiling"
RECORD = Path("assets.extra", "conversion.json")
"""What a servable says of how it was made; the server passes it over."""
FIRST_WITH_MODEL_DATA = "6.3.RC1"
"""The release whose LoadAndExecuteOm takes the om itself; that of 6.0 and 6.2 took its path (ops/npu_ops.cc)."""
_ADAPTER, FUNC2GRAPH = "tfplugin", "func2graph"


@dataclass(frozen=True)
class OmPlan:
    """What would be done: the model, the compiler's command line, and the version that is written."""

    request: OmRequest
    model: ModelToCompile
    base: Path
    version: int
    asked_version: int | None
    compiler: ModelCompiler
    soc_version: SocVersion | None
    words: tuple[str, ...]
    log_path: Path
    python: Path | None = None
    keep_log: bool = False
    functions_script: Path | None = None
    """CANN's func2graph.py, where the model has functions."""
    golden: tuple[GoldenRequest, ...] = ()
    build: str = ""
    """The build whose server is asked the golden requests; the current one where it is ""."""
    findings: tuple[Finding, ...] = ()

    @property
    def command(self) -> str:
        """The compiler's command line, as it is called in a directory of its own."""
        return command_line([self.compiler.program, *self.words])

    def to_json(self) -> dict[str, object]:
        """The plan as `--json` shows it."""
        return {
            "model": str(self.model.directory),
            "tags": list(self.model.tags),
            "signature": self.model.signature.name,
            "servable": str(self.base / str(self.version)),
            "compiler": str(self.compiler.program),
            "command": [str(self.compiler.program), *self.words],
            "soc_version": self.soc_version.name if self.soc_version is not None else None,
            "inputs": {each.name: _input_json(each) for each in self.model.signature.inputs},
            "outputs": {
                each.name: {"tensor": each.tensor, "dtype": each.data_type} for each in self.model.signature.outputs
            },
            "became_one": {name: list(shape) for name, shape in self._became_one.items()},
            "signatures_left_out": list(self.model.left_out),
            "log": str(self.log_path),
            "findings": [_finding_json(finding) for finding in self.findings],
        }

    @property
    def _became_one(self) -> Mapping[str, tuple[int, ...]]:
        return self.model.shapes.became_one if self.model.shapes is not None else {}

    def text(self) -> str:
        """What would be done, and the exact command."""
        frozen = f"TensorFlow of {self.python}" if self.python is not None else "our own reading of the checkpoint"
        rows: list[tuple[str, ...]] = [
            ("model", f"{self.model.directory}, signature {self.model.signature.name}"),
            *(("input", _input_text(each)) for each in self.model.signature.inputs),
            *(("output", f"{each.name}: {each.tensor} {each.data_type}") for each in self.model.signature.outputs),
            ("constants", f"made of the variables by {frozen}"),
            ("chip", self._chip),
            ("command", self.command),
            ("servable", str(self.base / str(self.version))),
        ]
        return "\n".join(["Would compile:", table(rows), *(_finding_text(each) for each in self.findings)])

    @property
    def _chip(self) -> str:
        if self.soc_version is None:
            return "that of this machine's device, which AOE measures on"
        found = f", {self.soc_version.found}" if self.soc_version.found else ""
        return f"{self.soc_version.name}{found}"


@dataclass(frozen=True)
class ConvertedOm:
    """The servable that was written."""

    plan: OmPlan
    version: int
    directory: Path
    om: OmFile
    seconds: float
    """How long the compiler took."""
    record: Mapping[str, object]
    findings: tuple[Finding, ...] = ()

    @property
    def exit_code(self) -> int:
        """3 where a golden request is answered otherwise, or could not be asked; the servable is there all the same."""
        return EXIT_ACTION_NEEDED if any(finding.needs_action for finding in self.findings) else 0

    def to_json(self) -> dict[str, object]:
        """What was made, and how."""
        return {
            "servable": str(self.directory),
            "version": self.version,
            "record": str(self.directory / RECORD),
            **self.record,
            "findings": [_finding_json(finding) for finding in self.findings],
        }

    def text(self) -> str:
        """Where it is, what it takes, and what to type next."""
        size, took = amount_text(self.om.size_bytes, "bytes"), duration_text(self.seconds)
        lines = [f"{self.directory} serves the om ({size}), which {self.plan.compiler.name} compiled in {took}."]
        lines += [f"  input {_input_text(each)}" for each in self.plan.model.signature.inputs]
        lines += [f"  output {each.name}: {each.data_type}" for each in self.plan.model.signature.outputs]
        lines += [_finding_text(each) for each in self.findings]
        base = shell_word(self.plan.base)
        name = shell_word(f"{self.plan.base.name}={self.plan.base}")
        lines.append(f"Next: ./inv check-model {base}, then ./inv init-deployment --model {name}")
        return "\n".join(lines)


def plan_conversion(
    settings: Settings,
    installation: CannInstallation | None,
    model: Path,
    output: Path,
    request: OmRequest,
    *,
    version: int | None = None,
    signature: str = "",
    tags: Sequence[str] = (),
    python: Path | None = None,
    keep_log: bool = False,
    golden: Sequence[str] = (),
    build: str = "",
) -> OmPlan:
    """What would be done; all that can be found out before the compiler runs is refused here.

    RequestError for flags, shapes, gears and types that it or the model can't have, ModelFileError for a damaged model,
    MissingToolError where CANN has no compiler.
    """
    check_request(request)
    passed = passed_options(request)
    number = checked_version(output, version)
    compiled = model_to_compile(
        model, request, signature=signature, tags=tags, passed={option.name: option.value for option in passed}
    )
    compiler = find_compiler(request.compiler, installation)
    chip = None if request.profiling else chosen_soc_version(request.soc_version, installation)
    words = compiler_words(
        _by_nodes(request, compiled),
        chip.name if chip is not None else "",
        compiled.shapes,
        compiled.signature.tensors,
        passed,
    )
    log_path = settings.logs / f"convert-om-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    return OmPlan(
        request=request,
        model=compiled,
        base=output,
        version=number,
        asked_version=version,
        compiler=compiler,
        soc_version=chip,
        words=tuple(words),
        log_path=log_path,
        python=python,
        keep_log=keep_log,
        functions_script=_functions_script(compiled, python, installation),
        golden=golden_to_ask(settings, golden),
        build=build,
        findings=tuple(_findings(compiled, installation, chip)),
    )


def convert_om(settings: Settings, plan: OmPlan, reporter: Reporter) -> ConvertedOm:
    """Carries the plan out. Where it fails or is interrupted, nothing is left behind but the compiler's log."""
    for finding in plan.findings:
        say = reporter.warn if finding.severity == WARNING else reporter.note
        say(f"{finding.what} Next: {finding.cure}" if finding.cure else finding.what)
    fsutil.make_directory(settings.logs)
    with fsutil.scratch_directory(settings.build_root / SCRATCH) as scratch:
        directory = fsutil.make_directory(scratch / plan.compiler.name)
        release = _freeze(plan, directory, scratch, reporter)
        reporter.note(compiler_does(plan.request))
        om, seconds = compile_model(plan.compiler, plan.words, directory, plan.log_path, reporter)
        signature, doubts = fitted_to(om, plan.model.signature)
        with new_version(plan.base, plan.asked_version) as version:
            servable = version.directory
            write_om_servable(servable, om, signature)
            _check_written(servable, signature)
            record = _record(plan, directory / FROZEN, om, signature, release, seconds)
            fsutil.write_file(servable / RECORD, f"{json.dumps(record, indent=2, sort_keys=True)}\n")
        made = plan.base / str(version.number)
        compared = (
            compared_with_golden(settings, made, plan.golden, plan.build, scratch, reporter) if plan.golden else []
        )
    if not plan.keep_log:
        fsutil.remove(plan.log_path)
    findings = (*plan.findings, *(Finding(doubt, severity=WARNING, kind="not-compared") for doubt in doubts))
    return ConvertedOm(plan, version.number, made, om, seconds, record, (*findings, *compared))


def _freeze(plan: OmPlan, directory: Path, scratch: Path, reporter: Reporter) -> str:
    """Writes the frozen graph; the release of TensorFlow that made its constants, "" where that was us."""
    nodes = sorted({tensor.rpartition(":")[0] for tensor in plan.model.signature.tensors})
    release = ""
    if plan.python is not None:
        whole = scratch / "whole.pb"
        release = freeze_in_tensorflow(plan.python, plan.model.directory, plan.model.tags, nodes, whole, reporter)
        graph = read_graph_def_file(whole)
    else:
        graph = frozen_here(plan.model, nodes)
    part = part_of_frozen(plan.model, graph)
    pieces = graph_pieces(part)
    size = pieces_size(pieces)
    if size > LARGEST_GRAPH:
        raise RequestError(
            f"The frozen graph would have {size} bytes, and the compiler reads at most {LARGEST_GRAPH}.",
            cause="protobuf, in which it is written, has this limit",
            cure="compile the model in parts: --new-input-nodes and --new-output-nodes choose one",
        )
    with reporter.progress("writes the frozen graph", total=size, unit="bytes") as progress:
        written = 0
        with fsutil.new_file(directory / FROZEN) as file:
            for chunk in piece_chunks(pieces):
                written += file.write(chunk)
                progress.update(written)
    with part.graph.opened():  # ModelFileError where it was replaced meanwhile
        pass
    if plan.python is not None and plan.functions_script is not None and part.functions:
        script = plan.functions_script
        write_function_graphs(plan.compiler, script, plan.python, directory, plan.log_path, reporter)
    return release


def _by_nodes(request: OmRequest, model: ModelToCompile) -> OmRequest:
    """The request with the names of nodes, where names of the signature may have been typed."""
    if not request.input_fp16_nodes:
        return request
    half = [each.node for each in model.signature.fed if each.data_type == "float16" and _is_named(each, request)]
    return dataclasses.replace(request, input_fp16_nodes=";".join(half))


def _is_named(each: OmInput, request: OmRequest) -> bool:
    names = {name.strip().removesuffix(":0") for name in request.input_fp16_nodes.split(";")}
    return bool(names & {each.node, each.name})


def _check_written(servable: Path, signature: OmSignature) -> None:
    """ModelFileError where the servable is not what was to be written, or its signature is not the model's."""
    (graph,) = read_saved_model(servable / SAVED_MODEL)
    wanted = served_signature(signature)
    found = graph.signatures.get(signature.name)
    if graph.graph.operators.get(OPERATOR) != 1 or found is None or found.to_json() != wanted.to_json():
        raise ModelFileError(
            f"{servable / SAVED_MODEL} is not what was written.", cause="the disk is faulty", cure="convert again"
        )


def _record(
    plan: OmPlan, frozen: Path, om: OmFile, signature: OmSignature, release: str, seconds: float
) -> dict[str, object]:
    """conversion.json: with it and the model, the same conversion can be made again, and compared."""
    source = plan.model.directory
    files = [plan.model.file, *variable_files(source)]
    return {
        "made_by": f"npu-serving {__version__}",
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "source": {
            "directory": str(source),
            "tags": list(plan.model.tags),
            "signature": plan.model.signature.name,
            "sha256": {str(path.relative_to(source)): fsutil.sha256_of(path) for path in files},
        },
        "variables_frozen_by": f"TensorFlow {release}" if release else f"npu-serving {__version__}",
        "frozen_graph": {"sha256": fsutil.sha256_of(frozen), "size_bytes": frozen.stat().st_size},
        "compiler": {
            "name": plan.compiler.name,
            "program": str(plan.compiler.program),
            "cann": plan.compiler.version,
            "command": [plan.compiler.name, *plan.words],
            "seconds": round(seconds, 3),
        },
        "soc_version": plan.soc_version.name if plan.soc_version is not None else None,
        "om": {"sha256": fsutil.sha256_of(om.path), "size_bytes": om.size_bytes},
        "signature": served_signature(signature).to_json(),
    }


def _functions_script(model: ModelToCompile, python: Path | None, installation: CannInstallation | None) -> Path | None:
    """CANN's func2graph.py for a model with functions. ModelFileError without a TensorFlow to run it in."""
    if not model.part.functions:
        return None
    names = ", ".join(sorted(model.part.functions)[:3])
    what = f"{model.file} calls functions ({names}) on the way to its outputs."
    without = "export it with tf.compat.v1.disable_control_flow_v2(), or choose a part without them"
    if python is None:
        raise ModelFileError(
            what,
            cause="it was made with control flow of version 2, or tf.function, which ATC reads by CANN's func2graph, "
            "and that needs TensorFlow",
            cure=f"--tensorflow-python PYTHON, a Python 3.7 with tensorflow 1.15; or {without}",
        )
    script = tool_path(FUNC2GRAPH, installation)
    if script is None:
        raise MissingToolError(what, cause=how_to_get(FUNC2GRAPH, installation), cure=without)
    return script


def _findings(model: ModelToCompile, installation: CannInstallation | None, chip: SocVersion | None) -> list[Finding]:
    """What the person should know beforehand."""
    found = []
    if chip is not None and chip.found:
        found.append(Finding(f"It is compiled for {chip.name}, {chip.found}.", severity=NOTE, kind="chip"))
    shapes = model.shapes
    for name, shape in (shapes.became_one if shapes is not None else {}).items():
        sizes = ",".join(map(str, shape))
        found.append(Finding(f"{name}: sizes that were left open became 1: ({sizes}).", severity=NOTE, kind="shape"))
    if shapes is not None and shapes.gears.option and shapes.gears.option != BATCH:
        found.append(
            Finding(
                f"The server can't ask an om with gears of --{shapes.gears.option.replace('_', '-')}: up to CANN 9.0, "
                "TF Adapter's LoadAndExecuteOm chooses gears of the batch alone.",
                "use --dynamic-batch-size, or convert once for each size, as models of their own",
                WARNING,
                "gears",
            )
        )
    unused = [each.name for each in model.signature.inputs if not each.is_used]
    if unused:
        what = f"No output depends on {', '.join(unused)}: it stays in the signature, and the om does not get it."
        found.append(Finding(what, severity=NOTE, kind="unused-input"))
    if model.left_out:
        what = f"The servable has the signature {model.signature.name} alone, not {', '.join(model.left_out)}."
        found.append(Finding(what, "convert each as a model of its own", NOTE, "signatures"))
    adapter = installation.component(_ADAPTER) if installation is not None else None
    if adapter is not None and adapter.version and is_before(adapter.version, FIRST_WITH_MODEL_DATA):
        found.append(
            Finding(
                f"The TF Adapter installed here is of CANN {adapter.version}, which can't load this servable: its "
                f"LoadAndExecuteOm takes the om itself only since {FIRST_WITH_MODEL_DATA}.",
                f"serve it with a build for CANN {FIRST_WITH_MODEL_DATA} or later",
                WARNING,
                "adapter",
            )
        )
    return found


def _input_json(each: OmInput) -> dict[str, object]:
    shape = None if each.shape is None else list(each.shape)
    return {"node": each.node, "dtype": each.data_type, "shape": shape, "is_used": each.is_used}


def _input_text(each: OmInput) -> str:
    shape = "of any shape" if each.shape is None else f"({', '.join('?' if s < 0 else str(s) for s in each.shape)})"
    return f"{each.name}: {each.node} {each.data_type} {shape}"


def _finding_json(finding: Finding) -> dict[str, object]:
    return {"severity": finding.severity, "kind": finding.kind, "what": finding.what, "cure": finding.cure}


def _finding_text(finding: Finding) -> str:
    cure = f" Next: {finding.cure}" if finding.cure else ""
    return f"{finding.severity}: {finding.what}{cure}"
