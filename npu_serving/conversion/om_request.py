"""What convert-om is asked for: the flags of the guide's table 6-5, ATC's gears, options passed on; read and checked.

What depends on the model is checked in om_shapes.py and om_graph.py.
"""

from __future__ import annotations

import difflib
import functools
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from npu_serving.documents import read_document
from npu_serving.errors import RequestError
from npu_serving.models.attribute_values import DATA_TYPES

TABLE = Path(__file__).with_name("om_options.yaml")
_PASSED = re.compile(r"\s*-*([A-Za-z_][\w-]*)(?:\s*(=)\s*|\s+|\Z)(\S.*?)?\s*", re.ASCII)
_SAMPLE, _VALUE = "precision_mode", "VALUE"
PROFILING = {"1": "sub-graph tuning", "2": "operator tuning"}
"""The kinds of tuning that AOE has, by its --job_type."""
_OWN_SPELLING = {"float32": "DT_FLOAT", "float64": "DT_DOUBLE", "float16": "DT_HALF"}
TYPE_NAMES: Mapping[str, str] = {
    _OWN_SPELLING.get(name, f"DT_{name.upper()}"): name
    for name in DATA_TYPES.values()
    if name not in ("resource", "variant")
}
"""The types of a graph's inputs as types.proto spells them, and as TensorFlow prints them."""


@dataclass(frozen=True)
class GearLimits:
    """How many gears ATC takes, and the largest batch of one."""

    fewest: int
    most: int
    largest_batch: int


@dataclass(frozen=True)
class OmOptionTable:
    """om_options.yaml, whose head says what each key means."""

    flags: tuple[str, ...]
    fixed: Mapping[str, str]
    refused: Mapping[str, str]
    input_types: tuple[str, ...]
    output_types: Mapping[str, str]
    gears: GearLimits


@dataclass(frozen=True)
class ChosenTensor:
    """An input or output of the servable: its name in the signature, and the tensor of the graph, such as x:0."""

    name: str
    tensor: str
    data_type: str = ""
    """As TensorFlow prints it; "" where it was not said."""


@dataclass(frozen=True)
class PassedOption:
    """An option of ATC or AOE that is passed on, without its dashes."""

    name: str
    value: str

    @property
    def word(self) -> str:
        """As it stands on the command line."""
        return f"--{self.name}={self.value}"


@dataclass(frozen=True)
class OmRequest:
    """The flags as they were typed."""

    input_shape: str = ""
    soc_version: str = ""
    profiling: str = ""
    method_name: str = ""
    new_input_nodes: str = ""
    new_output_nodes: str = ""
    output_type: str = ""
    input_fp16_nodes: str = ""
    dynamic_batch_size: str = ""
    dynamic_image_size: str = ""
    dynamic_dims: str = ""
    atc_args: tuple[str, ...] = ()
    aoe_args: tuple[str, ...] = ()

    @property
    def compiler(self) -> str:
        """The program that makes the om: AOE tunes while it does, ATC does not."""
        return "aoe" if self.profiling else "atc"


@functools.cache
def om_options() -> OmOptionTable:
    """om_options.yaml."""
    return read_document(TABLE, OmOptionTable)


def check_request(request: OmRequest) -> None:
    """RequestError for flags that exclude each other, or values that they can't have."""
    if request.profiling and request.profiling not in PROFILING:
        raise RequestError(
            f"--profiling can't be {request.profiling!r}.",
            cause="1 tunes sub-graphs, 2 tunes operators (the guide's table 6-5)",
            cure="give --profiling 1 or --profiling 2; both are worth it, 1 first",
        )
    if request.profiling and request.soc_version:
        raise RequestError(
            "--soc-version and --profiling exclude each other.",
            cause="AOE measures on the device of this machine, and compiles for that one",
            cure="leave --soc-version out, or --profiling to compile without tuning",
        )
    wrong, right = (request.atc_args, "aoe") if request.profiling else (request.aoe_args, "atc")
    if wrong:
        other = "aoe" if right == "atc" else "atc"
        because = "--profiling has AOE compile the model" if right == "aoe" else "without --profiling, ATC compiles it"
        raise RequestError(
            f"--{other}-arg has no effect here.",
            cause=because,
            cure=f"give it as --{right}-arg={shown_option(wrong[0])}",
        )
    if request.method_name.startswith("/"):
        raise RequestError(
            f"--method-name can't be {request.method_name!r}.",
            cause="the guide's example has a slash too many: the server knows tensorflow/serving/predict",
            cure=f"--method-name {request.method_name.lstrip('/')}",
        )


def passed_options(request: OmRequest) -> tuple[PassedOption, ...]:
    """The options that are passed on to the compiler, with the paths of files that are there made absolute.

    RequestError for one that convert-om has a flag for, sets itself, or can't make a servable with.
    """
    typed = request.aoe_args if request.profiling else request.atc_args
    return tuple(_passed(text, f"--{request.compiler}-arg") for text in typed)


def _passed(text: str, flag: str) -> PassedOption:
    found = _PASSED.fullmatch(text)
    name, equals, value = found.groups() if found is not None else ("", "", "")
    name, table = name.replace("-", "_"), om_options()
    if not value or (equals != "=" and name not in _own_names()):
        raise RequestError(
            f"{flag} got {text!r}.",
            cause="an option of the compiler is passed on with its value, in one word",
            cure=f"{flag}={shlex.quote(f'--{name or _SAMPLE}={value or _VALUE}')}",
        )
    if name in table.flags:
        cure = f"--{name.replace('_', '-')}={_quoted(value)}"
        raise RequestError(f"--{name} has a flag of its own here.", cause="it is checked by the model", cure=cure)
    if name in table.fixed:
        raise RequestError(f"--{name} can't be passed on.", cause=table.fixed[name], cure=f"leave {flag}={text} out")
    if name in table.refused:
        raise RequestError(
            f"--{name} can't be passed on.",
            cause="the servable that loads the om could not be made to fit (the guide's 6.6.5)",
            cure=table.refused[name],
        )
    path = Path(value).expanduser()
    is_file = "\0" not in value and len(value) < 4096 and path.is_file()
    return PassedOption(name, str(path.absolute()) if is_file else value)


@functools.cache
def _own_names() -> frozenset[str]:
    """The options that are not passed on, however they are spelled."""
    table = om_options()
    return frozenset((*table.flags, *table.fixed, *table.refused))


def shown_option(text: str) -> str:
    """An option as it is passed on, with the dashes that it may lack."""
    return f"--{text.lstrip('-')}"


def _quoted(value: str) -> str:
    return f'"{value}"' if set(value) & set(" ;:") else value


def new_inputs(text: str) -> tuple[ChosenTensor, ...]:
    """The inputs of `--new-input-nodes "NAME:TYPE:TENSOR;…"`. RequestError for one that is not like this."""
    sample = "NAME:TYPE:TENSOR, such as embedding:DT_FLOAT:bert/embedding/word_embeddings:0"
    chosen = []
    for entry in _entries(text, "--new-input-nodes", sample):
        parts = [part.strip() for part in entry.split(":", 2)]
        if len(parts) < 3 or not all(parts):
            raise _not_like(entry, "--new-input-nodes", sample)
        chosen.append(ChosenTensor(parts[0], whole_tensor(parts[2]), type_named(parts[1], "--new-input-nodes")))
    return _without_doubles(chosen, "--new-input-nodes")


def new_outputs(text: str) -> tuple[ChosenTensor, ...]:
    """The outputs of `--new-output-nodes "NAME:TENSOR;…"`. RequestError for one that is not like this."""
    sample = "NAME:TENSOR, such as loss:loss/Softmax:0"
    chosen = []
    for entry in _entries(text, "--new-output-nodes", sample):
        parts = [part.strip() for part in entry.split(":", 1)]
        if len(parts) < 2 or not all(parts):
            raise _not_like(entry, "--new-output-nodes", sample)
        chosen.append(ChosenTensor(parts[0], whole_tensor(parts[1])))
    return _without_doubles(chosen, "--new-output-nodes")


def whole_tensor(text: str) -> str:
    """A tensor's name with its number: x is x:0."""
    node, colon, index = text.rpartition(":")
    return text if colon and node and index.isdigit() else f"{text}:0"


def type_named(text: str, flag: str) -> str:
    """A type such as DT_FLOAT as TensorFlow prints it. RequestError, with the nearest, for one that does not exist."""
    if text in TYPE_NAMES:
        return TYPE_NAMES[text]
    plain = text.upper() if text.upper().startswith("DT_") else f"DT_{text.upper()}"
    spelled = _OWN_SPELLING.get(plain[len("DT_") :].lower(), plain)
    likely = [spelled] if spelled in TYPE_NAMES else [name for name in TYPE_NAMES if name.startswith(f"{plain}3")]
    near = likely or difflib.get_close_matches(plain, TYPE_NAMES, n=1, cutoff=0.6) or ["DT_FLOAT"]
    also = " (or DT_INT64)" if near == ["DT_INT32"] and plain == "DT_INT" else ""
    raise RequestError(
        f"{flag}: {text!r} is not the name of a type.",
        cause="the names are those of TensorFlow's types.proto",
        cure=f"write {near[0]}{also}",
    )


@dataclass(frozen=True)
class OutputTypes:
    """What --output-type says: of all outputs, or of single tensors, as TensorFlow prints types."""

    of_all: str = ""
    of_tensors: Mapping[str, str] | None = None

    def of(self, tensor: str) -> str:
        """The type wanted of a tensor; "" where none is."""
        return (self.of_tensors or {}).get(tensor, self.of_all)


def output_types(text: str, tensors: Sequence[str]) -> OutputTypes:
    """`FP16`, or `NODE:INDEX:FP16;…` for some of the outputs `tensors`. RequestError for what is neither."""
    if not text:
        return OutputTypes()
    if ":" not in text:
        return OutputTypes(_output_type(text.strip()))
    found = {}
    for entry in _entries(text, "--output-type", "NODE:INDEX:TYPE, such as node1:0:FP16"):
        tensor, _, type_name = entry.rpartition(":")
        whole = whole_tensor(tensor.strip())
        if whole not in tensors:
            near = difflib.get_close_matches(whole, tensors, n=1, cutoff=0.0) or list(tensors[:1])
            raise RequestError(
                f"--output-type names {tensor.strip()!r}, which is not an output of the model.",
                cause=f"the outputs are {', '.join(tensors)}",
                cure=f"--output-type {near[0]}:{type_name.strip() or 'FP16'}",
            )
        found[whole] = _output_type(type_name.strip())
    return OutputTypes(of_tensors=found)


def _output_type(text: str) -> str:
    known = om_options().output_types
    if text not in known:
        near = difflib.get_close_matches(text.upper().replace("DT_", "").replace("FLOAT", "FP"), known, n=1, cutoff=0.3)
        raise RequestError(
            f"--output-type: {text!r} is not a type that the compilers know.",
            cause=f"they know {', '.join(known)}",
            cure=f"write {near[0] if near else 'FP32'}",
        )
    return known[text]


def _entries(text: str, flag: str, sample: str) -> Iterator[str]:
    found = [entry.strip() for entry in text.split(";") if entry.strip()]
    if not found:
        raise _not_like(text, flag, sample)
    yield from found


def _not_like(entry: str, flag: str, sample: str) -> RequestError:
    return RequestError(
        f"{flag}: {entry!r} can't be read.", cause=f"each is {sample}; several are separated by ';'", cure="correct it"
    )


def _without_doubles(chosen: list[ChosenTensor], flag: str) -> tuple[ChosenTensor, ...]:
    names = [each.name for each in chosen]
    double = next((name for name in names if names.count(name) > 1), "")
    if double:
        raise RequestError(
            f"{flag} has the name {double!r} twice.",
            cause="a signature has each of its names once",
            cure="give each another name before its first colon",
        )
    return tuple(chosen)
