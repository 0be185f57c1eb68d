"""Models turned into what a server loads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.commands.flags import Call, command
from npu_serving.errors import RequestError

if TYPE_CHECKING:
    from npu_serving.cli import Result


@command(
    kinds={"output": Path, "version": int, "batch_size": int},
    help={
        "file": "a frozen graph (.pb, .pbtxt), the .meta of a checkpoint, or the directory of a SavedModel",
        "output": "the directory of the model, such as models/NAME, in which the version is made",
        "version": "the version's number; the highest that is there and one more by default",
        "inputs": 'the inputs, as "NODE:0;KEY=NODE:0[1,224,224,3]"; the placeholders that are needed by default',
        "outputs": "the outputs, in the same form; what nothing in the graph takes, if that is one, by default",
        "signature": "the name of the signature; serving_default by default",
        "method_name": "what the signature is for: predict (the default), classify or regress",
        "batch_size": "the number of rows that the inputs are fixed to; as in the graph by default",
        "tag": "a tag of the graph to take from a SavedModel; serve by default (repeatable)",
        "constant": "a placeholder with the value that it has for all requests, such as is_training=false (repeatable)",
        "asset": "a node with the path of a file, and where that file is here: NODE=FILE (repeatable)",
        "custom_operator": "an operator that the server was built with beside TensorFlow's (repeatable)",
        "keep_unused": "keep the nodes that the outputs don't need",
        "keep_devices": "keep the devices that nodes are placed on",
        "weights_as_variables": "put constants of 64 kB and more into variables/, so that saved_model.pb stays small",
    },
)
def convert_pb(
    call: Call,
    file: str,
    output: Path | None = None,
    version: int | None = None,
    inputs: tuple[str, ...] = (),
    outputs: tuple[str, ...] = (),
    signature: str = "",
    method_name: str = "",
    batch_size: int | None = None,
    tag: tuple[str, ...] = (),
    constant: tuple[str, ...] = (),
    asset: tuple[str, ...] = (),
    custom_operator: tuple[str, ...] = (),
    keep_unused: bool = False,
    keep_devices: bool = False,
    weights_as_variables: bool = False,
    dry_run: bool = False,
) -> Result:
    """Make a servable of a frozen graph, a checkpoint or a SavedModel."""
    from npu_serving.conversion.convert_pb import ConversionRequest, convert, plan_conversion
    from npu_serving.models.layout import model_name_of
    from npu_serving.settings import user_path
    from npu_serving.writers.shell import shell_word

    source = user_path(file, "the model")
    if output is None:
        raise RequestError(
            "convert-pb needs --output.",
            cause="it makes a directory with the versions of the model, and the first of them",
            cure=f"./inv convert-pb {shell_word(file)} --output models/{model_name_of(source)}",
        )
    if batch_size is not None and batch_size < 1:
        raise RequestError(f"--batch-size can't be {batch_size}.", cure="use a number from 1 on")
    request = ConversionRequest(
        source=source,
        output=output.absolute(),
        version=version,
        inputs=inputs,
        outputs=outputs,
        signature=signature,
        method=method_name,
        tags=tag,
        batch_size=batch_size or 0,
        constants=_pairs(constant, "--constant", "is_training=false"),
        assets={name: user_path(path, "--asset") for name, path in _pairs(asset, "--asset", "NODE=FILE").items()},
        custom_operators=custom_operator,
        keep_unused=keep_unused,
        keep_devices=keep_devices,
        weights_as_variables=weights_as_variables,
    )
    plan = plan_conversion(request, call.console)
    return plan if dry_run else convert(plan, call.console)


def _pairs(texts: tuple[str, ...], flag: str, example: str) -> dict[str, str]:
    """NAME=VALUE of each. RequestError."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals or not value:
            raise RequestError(f"{flag} can't be {text!r}.", cause="it has two parts", cure=f"{flag} {example}")
        found[name.partition(":")[0]] = value
    return found
