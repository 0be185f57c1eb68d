"""Scripts for TensorFlow 1.15 that run a model on the NPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.commands.flags import Call, command, refuse_together
from npu_serving.errors import RequestError

if TYPE_CHECKING:
    from npu_serving.cli import Result


@command(
    settings=("adapter",),
    kinds={"output": Path, "model": Path},
    help={
        "feature": "what the script has, such as mixed-precision; --list-features shows them (repeatable)",
        "list_features": "show the features, what they set, and which exclude each other",
        "output": "the file to write, such as infer.py",
        "model": "a frozen graph, a checkpoint's prefix or a SavedModel's directory; without it, the script asks",
        "inputs": "tensors that are fed, with ; between them: 'ids:0;mask:0', or NAME=ids:0 to call one otherwise",
        "outputs": "tensors that are fetched, likewise; by default those of the signature, or those that nothing takes",
        "tag": "a tag of a SavedModel's graph; serve by default (repeatable)",
        "signature": "the signature of a SavedModel; serving_default by default",
        "option": "a session option as NAME=VALUE, which ./inv explain explains (repeatable)",
        "shape": "the shape of values that are made up, as NAME=1,128, where the model leaves sizes open (repeatable)",
        "part": "where a part with gears begins: 'NODE=0:-1,-1,3=480,480;960,960' (repeatable)",
        "part_end": "a node at which that part ends; by default it goes on to the outputs (repeatable)",
        "keep": "a node that keeps its data type, whatever the precision (repeatable)",
        "fed": "an input that is fed, while the others come from the dataset (repeatable)",
        "image_spec": "how images are prepared: a name such as resnet50, or a YAML file, as predict has it",
        "force": "replace a file that is there with different content",
    },
)
def new_script(
    call: Call,
    feature: tuple[str, ...] = (),
    list_features: bool = False,
    output: Path | None = None,
    model: Path | None = None,
    inputs: str = "",
    outputs: str = "",
    tag: tuple[str, ...] = (),
    signature: str = "",
    option: tuple[str, ...] = (),
    shape: tuple[str, ...] = (),
    part: tuple[str, ...] = (),
    part_end: tuple[str, ...] = (),
    keep: tuple[str, ...] = (),
    fed: tuple[str, ...] = (),
    image_spec: str = "",
    force: bool = False,
    dry_run: bool = False,
) -> Result:
    """Write a script for TensorFlow 1.15 that runs a model on the NPU, with the session options of its features."""
    if list_features:
        from npu_serving.scripts.features import list_features as listed

        refuse_together("--list-features", "it only shows them", feature=feature, output=output, model=model)
        return listed()
    from npu_serving.builds.build_settings import settings_to_serve
    from npu_serving.scripts.new_script import ScriptRequest
    from npu_serving.scripts.new_script import new_script as written

    if output is None:
        from npu_serving.writers.shell import command_line

        raise RequestError(
            "new-script needs --output.",
            cause="it writes a file",
            cure=command_line(
                ["./inv", "new-script", *(["--model", str(model)] if model else []), "--output", "infer.py"]
            )
            + "; what else it can have: --feature, with ./inv new-script --list-features",
        )
    request = ScriptRequest(
        features=feature,
        model=model,
        inputs=inputs,
        outputs=outputs,
        tags=tag,
        signature=signature,
        options=option,
        shapes=shape,
        parts=part,
        part_ends=part_end,
        kept=keep,
        fed=fed,
        image_spec=image_spec,
    )
    return written(request, output, settings_to_serve(call.settings), force=force, dry_run=dry_run)
