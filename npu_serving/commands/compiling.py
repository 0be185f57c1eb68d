"""Models compiled for the NPU before they are served."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.commands.flags import Call, command
from npu_serving.errors import RequestError

if TYPE_CHECKING:
    from npu_serving.cli import Result


@command(
    kinds={"output": Path, "version": int},
    settings=("cann_root",),
    help={
        "model": "a SavedModel: the directory with saved_model.pb, or that of its versions",
        "output": "the model to make, DIRECTORY/NAME, which gets the version NAME/VERSION",
        "version": "its number; the highest there and one more by default",
        "signature": "the signature to serve; serving_default by default",
        "tag": "a tag of the graph; serve by default (repeatable)",
        "input_shape": "what to compile for: NODE:1,224,224,3;…; sizes left open become 1",
        "soc_version": "the chip, such as Ascend910B4; that of this machine by default",
        "profiling": "have AOE tune it on this machine's device: 1 sub-graphs, 2 operators",
        "method_name": "the signature's method; that of the model by default",
        "new_input_nodes": "begin elsewhere: NAME:TYPE:TENSOR;…, such as add:DT_INT32:bert/add:0",
        "new_output_nodes": "end elsewhere: NAME:TENSOR;…, such as loss:loss/Softmax:0",
        "output_type": "FP16 for all outputs, or NODE:INDEX:FP16;… for some",
        "input_fp16_nodes": "inputs that become float16: NODE;NODE",
        "dynamic_batch_size": "batches to compile for: 1,2,4,8",
        "dynamic_image_size": "heights and widths to compile for: 416,416;832,832",
        "dynamic_dims": "gears, with a size for each -1 of the shapes: 1,128;8,128",
        "atc_arg": "another option for ATC, --name=value (repeatable)",
        "aoe_arg": "with --profiling: another option for AOE, --name=value (repeatable)",
        "tensorflow_python": "a Python with TensorFlow 1.15, which makes the variables constants in our place",
        "golden": "a golden request to ask the servable afterwards, by its name (repeatable)",
        "build": "with --golden: the build whose server is asked; the current one by default",
        "keep_log": "keep the compiler's log where it succeeds, too",
    },
)
def convert_om(
    call: Call,
    model: str,
    output: Path | None = None,
    version: int | None = None,
    signature: str = "",
    tag: tuple[str, ...] = (),
    input_shape: str = "",
    soc_version: str = "",
    profiling: str = "",
    method_name: str = "",
    new_input_nodes: str = "",
    new_output_nodes: str = "",
    output_type: str = "",
    input_fp16_nodes: str = "",
    dynamic_batch_size: str = "",
    dynamic_image_size: str = "",
    dynamic_dims: str = "",
    atc_arg: tuple[str, ...] = (),
    aoe_arg: tuple[str, ...] = (),
    tensorflow_python: str = "",
    golden: tuple[str, ...] = (),
    build: str = "",
    keep_log: bool = False,
    dry_run: bool = False,
) -> Result:
    """Compile a SavedModel to an om with CANN's ATC or AOE, and make a servable that loads it."""
    from npu_serving.cann.install import find_installation
    from npu_serving.conversion.convert_om import convert_om as converted
    from npu_serving.conversion.convert_om import plan_conversion
    from npu_serving.conversion.om_request import OmRequest
    from npu_serving.settings import user_path
    from npu_serving.writers.shell import command_line

    if output is None:
        raise RequestError(
            "convert-om needs --output.",
            cause="it makes a version of a model in a directory of its own",
            cure=command_line(["./inv", "convert-om", model or "MODEL", "--output", "models/NAME_om"]),
        )
    if build and not golden:
        raise RequestError(
            "--build is for --golden.", cause="only a golden request is asked of a server", cure="leave it out"
        )
    request = OmRequest(
        input_shape=input_shape,
        soc_version=soc_version,
        profiling=profiling,
        method_name=method_name,
        new_input_nodes=new_input_nodes,
        new_output_nodes=new_output_nodes,
        output_type=output_type,
        input_fp16_nodes=input_fp16_nodes,
        dynamic_batch_size=dynamic_batch_size,
        dynamic_image_size=dynamic_image_size,
        dynamic_dims=dynamic_dims,
        atc_args=atc_arg,
        aoe_args=aoe_arg,
    )
    plan = plan_conversion(
        call.settings,
        find_installation(call.settings.cann_root),
        user_path(model, "the model").absolute(),
        output.absolute(),
        request,
        version=version,
        signature=signature,
        tags=tag,
        python=user_path(tensorflow_python, "--tensorflow-python").absolute() if tensorflow_python else None,
        keep_log=keep_log,
        golden=golden,
        build=build,
    )
    return plan if dry_run else converted(call.settings, plan, call.console)
