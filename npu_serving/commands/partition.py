"""What of a model the NPU computes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.commands.flags import Call, command, refuse_together

if TYPE_CHECKING:
    from npu_serving.cli import Result


@command(
    settings=("cann_root", "adapter", "build_root"),
    kinds={"supported": Path, "deployment": Path, "picture": Path, "from_": Path},
    help={
        "model": "a version of a SavedModel, the directory of its versions, or a frozen graph (.pb)",
        "signature": "the signature whose graph is divided; serving_default by default",
        "tag": "a tag of the graph to take from a SavedModel; serve by default (repeatable)",
        "inputs": "in place of a signature, the nodes that are fed, by semicolons (repeatable)",
        "outputs": "in place of a signature, the nodes that are asked for, by semicolons (repeatable)",
        "supported": "a list of the NPU's operators: npu_supported_ops.json, or a name on each line",
        "parts": "how many parts the NPU may compute in each request; 1 by default",
        "deployment": "write the options into that deployment.yaml",
        "name": "the model of the deployment, where its directory does not say which one",
        "nodes": "say of each node where it runs, and why",
        "picture": "draw both sides into that file, .svg or .html",
        "from_": "a check_result.tf.json of a run, to compare with",
        "server": "compare with what the server on that port has left to the CPU",
    },
)
def partition_graph(
    call: Call,
    model: str,
    signature: str = "",
    tag: tuple[str, ...] = (),
    inputs: tuple[str, ...] = (),
    outputs: tuple[str, ...] = (),
    supported: Path | None = None,
    parts: int = 1,
    deployment: Path | None = None,
    name: str = "",
    nodes: bool = False,
    picture: Path | None = None,
    from_: Path | None = None,
    server: str = "",
    dry_run: bool = False,
) -> Result:
    """Show which operators of a model stay on the CPU and why, and the in_out_pair that puts the most on the NPU."""
    import dataclasses

    from npu_serving.builds.build_settings import settings_to_serve
    from npu_serving.inspection.picture import check_picture_path
    from npu_serving.partition.asked_graph import asked_graph
    from npu_serving.partition.chosen_lists import chosen_lists, result_of_server
    from npu_serving.partition.partition_graph import draw_partition
    from npu_serving.partition.partition_graph import partition_graph as partitioned
    from npu_serving.partition.written_options import deployed_graph, write_options
    from npu_serving.settings import user_path

    path = user_path(model, "the model")
    if picture is not None:
        check_picture_path(picture)
    if from_ is not None:
        refuse_together("--from", "it names the file to compare with", server=server)
    if inputs or outputs:
        refuse_together("--inputs and --outputs", "they stand in its place", signature=signature)
    deployed = deployed_graph(deployment.absolute(), path, name) if deployment is not None else None
    if server:
        from_ = result_of_server(call.settings.build_root, server)
    asked = asked_graph(path, signature=signature, tags=tag, inputs=_listed(inputs), outputs=_listed(outputs))
    lists = chosen_lists(settings_to_serve(call.settings), supported)
    with call.console.progress(f"Dividing the graph of {path.name}"):
        found = partitioned(
            asked,
            lists,
            parts=parts,
            variables_on_host=deployed is not None and deployed.variables_on_host,
            with_nodes=nodes,
            check_result=from_,
        )
    if deployed is not None:
        found = write_options(found, deployed, dry_run=dry_run)
    if picture is not None and not dry_run:
        draw_partition(found, picture.absolute())
        found = dataclasses.replace(found, picture=picture)
    return found


def _listed(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(each.strip() for text in texts for each in text.split(";") if each.strip())
