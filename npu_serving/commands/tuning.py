"""The settings of a deployment that answer most under a latency budget, and gears for the shapes that come."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.commands.flags import Call, check_timeout, command
from npu_serving.errors import RequestError

if TYPE_CHECKING:
    from npu_serving.cli import Result


@command(
    kinds={"deployment": Path, "batch_size": int},
    help={
        "deployment": "the deployment.yaml whose settings are tried, and that gets the best",
        "model": "the model that is asked, where the deployment has several",
        "p99": "the budget: 99 of 100 answers come within that time; 20ms by default",
        "max_batch_size": "the sizes of a batch to try, such as off,4,16; off,4,16,64 without any of these five",
        "batch_timeout": "how many microseconds a batch waits for more, such as 0,2000, which it is without any",
        "batch_threads": "how many batches run at the same time, such as 1,2",
        "streams": "how many requests the NPU runs at the same time (graph_max_parallel_model_num), such as 1,4",
        "gears": "gears to try, as npu.dynamic_dims has them, such as '1;4;16' (repeatable)",
        "concurrency": "how many requests are under way, one load after the other; 1:128:x2 by default",
        "api": "grpc, the default, or rest",
        "signature": "the signature to ask; the request's own, or serving_default, by default",
        "request": "a request in JSON, or a .json or .npz file (repeatable); random values by default",
        "golden": "a golden request, or all of the model, with each answer compared under load",
        "shape": "for random values: an input's sizes, the batch as well, NAME:4,16 (repeatable)",
        "range": "for random values: an input's lowest value and the one above its highest, NAME:0:100 (repeatable)",
        "batch_size": "for random values: the first dimension where that is open; 1 by default",
        "window": "how long a window of a load is; 2s by default",
        "max_windows": "after how many windows that do not agree a load ends; 10 by default",
        "timeout": "for how many seconds a server is waited for until its models are available; 3600 by default",
    },
)
def tune(
    call: Call,
    deployment: Path | None = None,
    model: str = "",
    p99: str = "20ms",
    max_batch_size: str = "",
    batch_timeout: str = "",
    batch_threads: str = "",
    streams: str = "",
    gears: tuple[str, ...] = (),
    concurrency: str = "1:128:x2",
    api: str = "grpc",
    signature: str = "",
    request: tuple[str, ...] = (),
    golden: str = "",
    shape: tuple[str, ...] = (),
    range: tuple[str, ...] = (),
    batch_size: int | None = None,
    window: str = "2s",
    max_windows: int = 10,
    build: str = "",
    timeout: int = 3600,
    dry_run: bool = False,
) -> Result:
    """Try batching, streams and gears under load, each with a server of its own, and write the best into the file."""
    from npu_serving.commands.measuring import MOST_WINDOWS, asked_wishes, check_number
    from npu_serving.load.level import Terms
    from npu_serving.load.wanted import concurrencies_of, seconds_of
    from npu_serving.tuning import tune as room
    from npu_serving.tuning.asked_load import GRPC, REST, AskedLoad
    from npu_serving.tuning.knobs import Knobs, numbers

    if deployment is None:
        raise RequestError(
            "tune needs --deployment.",
            cause="it tries the settings of a deployment, and writes the best into its file",
            cure="name it: ./inv tune --deployment deployment.yaml",
        )
    if api not in (GRPC, REST):
        raise RequestError(f"--api can't be {api!r}.", cure=f"use {GRPC} or {REST}")
    check_timeout(timeout)
    budget_s = seconds_of(p99, "--p99")
    knobs = Knobs(
        numbers(max_batch_size, "--max-batch-size", least=1, off=True),
        numbers(batch_timeout, "--batch-timeout", least=0),
        numbers(batch_threads, "--batch-threads", least=1),
        numbers(streams, "--streams", least=1),
        gears,
    )
    check_number("--max-windows", max_windows, MOST_WINDOWS)
    loads = tuple(sorted(set(concurrencies_of(concurrency))))
    terms = Terms(window_s=seconds_of(window, "--window", least=0.01), most_windows=max_windows)
    words = (api, signature, *request, golden, *shape, *range, str(batch_size), repr(terms))
    plan = room.plan_tune(
        call.settings,
        deployment,
        knobs,
        room.TuneTerms(1e3 * budget_s, loads, float(timeout), words),
        model=model,
        build=build,
    )
    asks = asked_wishes(call, plan.model, golden, request, shape, range, batch_size)
    if dry_run:
        return plan
    return room.tune(call.settings, plan, AskedLoad(plan.model, signature, api, asks, terms).of, call.console)


@command(
    kinds={"model_path": Path, "deployment": Path},
    optional=("file",),
    help={
        "file": "a file that ./inv record wrote, or counts of shapes in JSON or YAML",
        "also": "a further such file (repeatable)",
        "model": "the model whose requests count, where the files or the deployment have several",
        "signature": "the signature whose requests count, where several were asked",
        "most": "how many gears there may be, from 2 to 100; 8 by default",
        "model_path": "the model's directory, by whose nodes the inputs are ordered; the deployment's own by default",
        "deployment": "the deployment.yaml that gets the options",
        "cover": "a shape that has to fit although it never came, NAME:8,512 (repeatable)",
    },
)
def suggest_gears(
    call: Call,
    file: str,
    also: tuple[str, ...] = (),
    model: str = "",
    signature: str = "",
    most: int = 8,
    model_path: Path | None = None,
    deployment: Path | None = None,
    cover: tuple[str, ...] = (),
    dry_run: bool = False,
) -> Result:
    """Choose the gears with the least padding for the shapes that clients send: input_shape and dynamic_dims."""
    from npu_serving.settings import user_path
    from npu_serving.tuning.suggested_gears import suggest_gears as suggested

    if not file:
        raise RequestError(
            "suggest-gears needs a file with requests.",
            cause="gears are chosen by the shapes that clients send",
            cure="./inv record --url grpc://localhost:8500 --listen 9500 --output requests.rec, while they ask",
        )
    return suggested(
        [user_path(each, "the file") for each in (file, *also)],
        call.console,
        model=model,
        signature=signature,
        most=most,
        model_path=model_path,
        deployment=deployment,
        cover=cover,
        dry_run=dry_run,
    )
