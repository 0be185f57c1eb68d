"""After a run: what it has dumped, and what somebody who helps has to see."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.commands.flags import OFFERED, Call, command

if TYPE_CHECKING:
    from npu_serving.cli import Result


@command(
    settings=("cann_root",),
    kinds={"directory": Path, "step": int, "device": int, "graphs": Path},
    help={
        "directory": "what dump_path names, or a directory within it",
        "model": "only the model whose directory is called so",
        "operator": "only this operator, by its name in the model, or all of this type; * and ? as in a shell",
        "step": "only this step (data_index)",
        "device": "only this device",
        "graphs": "where GE's graphs are (ge_proto_*_Build.txt); near the dumps and where servers run by default",
        "cann_root": "the CANN whose programs compare them",
    },
)
def show_dump(
    call: Call,
    directory: Path,
    model: str = "",
    operator: str = "",
    step: int | None = None,
    device: int | None = None,
    graphs: Path | None = None,
) -> Result:
    """List dumps of operators by time, device, model, step and operator, with what compares them."""
    from npu_serving.cann.install import cann_of
    from npu_serving.results.dump_selection import DumpFilter
    from npu_serving.results.show_dump import show_dump
    from npu_serving.serving.server_record import known_servers

    wanted = DumpFilter(model, operator, step, device)
    records = [server.record for server in known_servers(call.settings.build_root)]
    servers = [record.directory for record in records if record is not None]
    return show_dump(directory, wanted, graphs, cann_of(call.settings).installation, call.console, servers)


@command(
    settings=("adapter", "cann_root"),
    kinds={"output": Path, "deployment": Path},
    help={
        "output": "the file to write; support-bundle-TIME.tar.gz by default",
        "deployment": "a deployment.yaml that goes in too; those of the servers of serve do anyway",
        "dry_run": "list what would go in and write nothing",
    },
)
def support_bundle(
    call: Call, output: Path | None = None, deployment: Path | None = None, dry_run: bool = False
) -> Result:
    """Write one file with what somebody who helps has to see: versions, checks, settings, logs; without secrets."""
    from npu_serving.support.support_bundle import support_bundle

    return support_bundle(call.settings, output, deployment, OFFERED, call.console, dry_run=dry_run)
