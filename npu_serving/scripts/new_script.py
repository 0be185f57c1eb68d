"""new-script: a script for TensorFlow 1.15 that runs a model on the NPU, with the session options of the features."""

from __future__ import annotations

import dataclasses
import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from npu_serving import __version__, fsutil
from npu_serving.asking.image_spec import AS_IT_IS, ImageSpec, read_image_spec
from npu_serving.errors import RequestError
from npu_serving.models.saved_model import TensorSpec
from npu_serving.models.saved_model_writer import SERVE_TAG
from npu_serving.options.catalogue import OptionValue, session_options
from npu_serving.scripts.features import Source, chosen_features, refuse_other_flags, source_of
from npu_serving.scripts.script_gears import (
    ScriptPart,
    WholeGears,
    check_ranges_of_inputs,
    in_byte_order,
    part_gears,
    whole_gears,
)
from npu_serving.scripts.script_model import ScriptModel, check_nodes, named_tensors, read_script_model
from npu_serving.scripts.script_options import (
    ScriptOptions,
    asked_options,
    check_names_of_ranges,
    script_options,
)
from npu_serving.settings import Settings
from npu_serving.shown_text import printable
from npu_serving.templating import render
from npu_serving.writers.python import python_comment, python_string, python_value
from npu_serving.writers.shell import command_line

TEMPLATE = "templates/scripts/script.py.j2"
_WIDTH = 100  # of a comment
_DIRECTORIES = ("dump_path", "debug_dir", "op_compiler_cache_dir")
_FILES = ("modify_mixlist", "customize_dtypes", "op_debug_config", "compress_weight_conf", "fusion_switch_file")
_RESIZERS = {"bilinear": "BILINEAR", "nearest": "NEAREST_NEIGHBOR", "bicubic": "BICUBIC"}
_HELP: Mapping[Source, str] = {
    "pb": "the frozen graph",
    "checkpoint": "the checkpoint's PREFIX, of PREFIX.meta",
    "savedmodel": "the directory of saved_model.pb",
}


@dataclass(frozen=True)
class ScriptRequest:
    """What was asked for; the flags of new-script by their names."""

    features: tuple[str, ...] = ()
    model: Path | None = None
    inputs: str = ""
    outputs: str = ""
    tags: tuple[str, ...] = ()
    signature: str = ""
    options: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    part_ends: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    fed: tuple[str, ...] = ()
    image_spec: str = ""


@dataclass(frozen=True)
class NewScript:
    """The script; `changed` is False where it was there already as it is, or nothing was written."""

    path: Path
    content: str
    features: tuple[str, ...]
    options: Mapping[str, OptionValue]
    notes: tuple[str, ...] = ()
    changed: bool = False
    dry_run: bool = False

    def to_json(self) -> dict[str, object]:
        """The path, the text, the features and the session options, and whether it was written."""
        return {
            "path": str(self.path),
            "content": self.content,
            "features": list(self.features),
            "options": dict(self.options),
            "notes": list(self.notes),
            "changed": self.changed,
        }

    def text(self) -> str:
        """The script itself in a dry run; else what was done, and what comes next."""
        notes = [f"Note: {note}" for note in self.notes]
        if self.dry_run:
            return self.content.rstrip()
        done = f"Wrote {self.path}." if self.changed else f"{self.path} is up to date."
        run = command_line(["python3.7", str(self.path)])
        return "\n".join([*notes, done, f"Next: {run} --help"])


@dataclass(frozen=True)
class _OptionLine:
    """An option in the script: the field of its AttrValue, and the code of its value."""

    name: str
    field: str
    code: str
    comment: tuple[str, ...]


def new_script(
    request: ScriptRequest, output: Path, settings: Settings, *, force: bool = False, dry_run: bool = False
) -> NewScript:
    """Writes the script with those features for that model; without a model its arguments name the tensors.

    RequestError for features, options and names that don't go together or don't fit the model, by the rules of the
    guide and of TF Adapter, and where a file is there with different content and `force` is not given.
    """
    plan = _plan(request, output.absolute(), settings)
    path = plan.path
    if path.is_dir():
        raise RequestError(f"{path} is a directory.", cure="name a file: --output FILE.py")
    with fsutil.explained(path, doing="read"):
        is_other = path.exists() and path.read_bytes() != plan.content.encode()
    if is_other and not force:
        raise RequestError(
            f"{path} is already there with different content, so it was not overwritten.",
            cause="it was changed by hand, or is for another model",
            cure="write the new one elsewhere with --output FILE, or replace it with --force",
        )
    if dry_run:
        return dataclasses.replace(plan, dry_run=True)
    return dataclasses.replace(plan, changed=fsutil.write_file(path, plan.content, mode=0o755))


def _plan(request: ScriptRequest, path: Path, settings: Settings) -> NewScript:
    features = chosen_features(request.features)
    names = tuple(feature.name for feature in features)
    flags = {
        "part": request.parts,
        "part-end": request.part_ends,
        "keep": request.kept,
        "fed": request.fed,
        "image-spec": request.image_spec,
    }
    refuse_other_flags(features, flags)
    model = _model(request)
    source = source_of(features, model.source if model is not None else None)
    from_dataset, fed = _kinds_of_inputs(request, names, model)
    asked = asked_options(request.options)
    gears = None
    if "gears" in names and "dynamic_dims" in asked:
        gears = whole_gears(asked, _needed_model(model, "gears"), from_dataset, fed)
        asked = {**asked, **gears.options}
    options = script_options(features, asked, settings)
    notes = [*options.notes, *(gears.notes if gears is not None else ())]
    if options.ranges:
        check_ranges_of_inputs(options.ranges, _needed_model(model, "ranges of shapes"), from_dataset, fed)
    graph = model.graph if model is not None else None
    if model is not None and model.inputs:
        notes += check_names_of_ranges(options.session, model.meta_graph(model.inputs))
    parts = part_gears(request.parts, graph) if "subgraph-gears" in names else ()
    kept = _kept(request, model) if "keep-dtypes" in names else ()
    if graph is not None:
        check_nodes(graph, request.part_ends, "--part-end")
    content = _render(request, names, source, model, options, gears, parts, kept, from_dataset)
    return NewScript(path, content, tuple(dict.fromkeys((*names, source))), options.session, tuple(notes))


def _render(
    request: ScriptRequest,
    names: tuple[str, ...],
    source: Source,
    model: ScriptModel | None,
    options: ScriptOptions,
    gears: WholeGears | None,
    parts: tuple[ScriptPart, ...],
    kept: tuple[str, ...],
    from_dataset: Sequence[str],
) -> str:
    image = _image(request.image_spec) if "images" in names else AS_IT_IS
    pairs = _pairs(options.session.get("in_out_pair"))
    inputs = _inputs(request, model)
    return render(
        TEMPLATE,
        {"py": python_value, "comment": python_comment},
        heading=_heading(request, names),
        features=names,
        source=source,
        model=str(model.path) if model is not None else "",
        model_help=_HELP[source],
        inputs=inputs,
        types=[(name, (spec.data_type, spec.shape)) for name, spec in inputs],
        outputs=sorted(model.outputs.items()) if model is not None else sorted(_named(request.outputs, "--outputs")),
        shapes=_shapes(request.shapes, model),
        tags=list(model.tags) if model is not None else list(request.tags or (SERVE_TAG,)),
        options=[_option_line(name, value, pairs) for name, value in options.session.items()],
        in_out_pair=pairs,
        ranges=options.ranges,
        gears=gears.shapes if gears is not None else (),
        directories=_directories(options.session),
        files={name: str(options.session[name]) for name in _FILES if options.session.get(name)},
        parts=parts,
        part_ends=list(request.part_ends),
        kept=kept,
        from_dataset=list(from_dataset),
        npu_calls={"keep-dtypes", "subgraph-gears", "graph-exec-config"} & set(names),
        batch_size=1,
        image=image,
        resize_method=_RESIZERS.get(image.filter, ""),
    )


def _model(request: ScriptRequest) -> ScriptModel | None:
    if request.model is not None:
        return read_script_model(
            request.model.absolute(),
            inputs=request.inputs,
            outputs=request.outputs,
            tags=request.tags,
            signature=request.signature,
        )
    if request.signature:
        raise RequestError(
            "--signature would have no effect without --model.",
            cause="it is looked up in the model",
            cure="name the model, or leave --signature out",
        )
    return None


def _needed_model(model: ScriptModel | None, what: str) -> ScriptModel:
    if model is None:
        raise RequestError(
            f"For {what} the script needs to know the model.",
            cause="they are written for the inputs that it has",
            cure="name it: --model FILE",
        )
    return model


def _kinds_of_inputs(
    request: ScriptRequest, names: Sequence[str], model: ScriptModel | None
) -> tuple[list[str], list[str]]:
    """The inputs that the dataset gives, in the adapter's order, and those that are fed."""
    if "dataset" not in names:
        return [], list(model.inputs) if model is not None else []
    model = _needed_model(model, "the feature dataset")
    for name in request.fed:
        if name not in model.inputs:
            raise RequestError(
                f"--fed names {name!r}, which is not an input of the script.",
                cause=f"it has {', '.join(sorted(model.inputs))}",
                cure="name one of these",
            )
    given = in_byte_order((name for name in model.inputs if name not in request.fed), model)
    if not given:
        raise RequestError(
            "No input comes from the dataset.", cause="--fed names all of them", cure="leave --feature dataset out"
        )
    untyped = [name for name in given if not model.inputs[name].data_type]
    if untyped:
        raise RequestError(
            f"The data type of {', '.join(untyped)} is not known.",
            cause="it is not a placeholder",
            cure="name placeholders with --inputs, or leave --feature dataset out",
        )
    return given, list(request.fed)


def _kept(request: ScriptRequest, model: ScriptModel | None) -> tuple[str, ...]:
    if not request.kept:
        raise RequestError(
            "The feature keep-dtypes needs --keep.",
            cause="it says which operators keep their data type",
            cure="--keep NODE",
        )
    tensors = tuple(name if ":" in name else f"{name}:0" for name in request.kept)
    if model is not None:
        check_nodes(model.graph, tensors, "--keep")
    return tensors


def _inputs(request: ScriptRequest, model: ScriptModel | None) -> list[tuple[str, TensorSpec]]:
    if model is not None:
        return sorted(model.inputs.items())
    return [(name, TensorSpec(tensor, "", None)) for name, tensor in sorted(_named(request.inputs, "--inputs"))]


def _named(text: str, flag: str) -> list[tuple[str, str]]:
    return list(named_tensors(text, flag).items())


def _shapes(words: Sequence[str], model: ScriptModel | None) -> dict[str, tuple[int, ...]]:
    """The shapes of `--shape NAME=1,224,224,3`, with which values are made up."""
    found = {}
    for text in words:
        name, equals, sizes = text.rpartition("=")
        if not equals or re.fullmatch(r"(-1|[0-9]{1,9})(,[0-9]{1,9})*|", sizes) is None:
            raise RequestError(
                f"--shape {text!r} is not NAME=SIZES.", cure="write it like --shape image=1,224,224,3, with the ="
            )
        shape = tuple(map(int, sizes.split(","))) if sizes else ()
        if model is not None:
            spec = model.inputs.get(name)
            if spec is None:
                raise RequestError(
                    f"--shape names {name!r}, which is not an input.",
                    cause=f"the inputs are {', '.join(sorted(model.inputs))}",
                    cure="name one of these",
                )
            if spec.shape is not None and not _fits(shape, spec.shape):
                raise RequestError(
                    f"--shape gives {name} the shape {list(shape)}, and it is {spec.describe()}.",
                    cause="a size that the model has can't be another one",
                    cure="give it a shape that the input takes",
                )
        found[name] = shape
    return found


def _fits(shape: tuple[int, ...], own: tuple[int, ...]) -> bool:
    return len(shape) == len(own) and all(theirs < 0 or size in (theirs, -1) for size, theirs in zip(shape, own))


def _option_line(name: str, value: OptionValue, pairs: list[tuple[list[str], list[str]]]) -> _OptionLine:
    option = session_options().get(name)
    comment = tuple(textwrap.wrap(option.meaning, _WIDTH)) if option is not None else ()
    if isinstance(value, bool):
        return _OptionLine(name, "b", repr(value), comment)
    if isinstance(value, int):
        return _OptionLine(name, "i", repr(value), comment)
    text = "str(IN_OUT_PAIR)" if name == "in_out_pair" and pairs else python_string(value)
    return _OptionLine(name, "s", f"tf.compat.as_bytes({text})", comment)


def _pairs(value: object) -> list[tuple[list[str], list[str]]]:
    """The pairs of in_out_pair as lists of names; none where it can't be read so, and stays the text that it is."""
    if not isinstance(value, str):
        return []
    plain = re.sub(r"[ \t']", "", value)
    found = re.findall(r"\[\[([^\[\]]*)\],\[([^\[\]]*)\]\]", plain)
    rebuilt = "[" + ",".join(f"[[{firsts}],[{lasts}]]" for firsts, lasts in found) + "]"
    if rebuilt != plain or '"' in plain:
        return []
    return [(firsts.split(","), lasts.split(",")) for firsts, lasts in found]


def _directories(options: Mapping[str, OptionValue]) -> dict[str, str]:
    """The directories that the options name, by the name of the option; they have to be there."""
    found = {name: str(options[name]) for name in _DIRECTORIES if options.get(name)}
    profiling = options.get("profiling_options")
    if isinstance(profiling, str) and options.get("profiling_mode") is True:
        try:
            output = json.loads(profiling).get("output")
        except (ValueError, AttributeError):
            output = None  # the rules have said what is wrong with it
        if isinstance(output, str) and output:
            found["profiling_options"] = output
    return found


def _image(text: str) -> ImageSpec:
    """How images are prepared, as `predict` does it, as far as TensorFlow's own operators can."""
    spec = read_image_spec(text) if text else AS_IT_IS
    if spec.resize != "stretch" or spec.filter not in _RESIZERS:
        raise RequestError(
            f"A script does not prepare images with resize {spec.resize} and filter {spec.filter}.",
            cause="it resizes with TensorFlow's operators, and predict with Pillow's",
            cure=f"use resize: stretch and one of the filters {', '.join(_RESIZERS)}",
        )
    return spec


def _heading(request: ScriptRequest, names: Sequence[str]) -> list[str]:
    """By whom and for what it was written, each line of it what a comment can hold."""
    chosen = [name for name in names if name != "session"]
    lines = [f"Written by npu-serving {__version__}; features: session{''.join(f', {name}' for name in chosen)}."]
    if request.model is not None:
        lines.append(f"The model is {request.model}.")
    return [printable(line) for line in lines]
