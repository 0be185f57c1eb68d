"""Measuring a running server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.commands.flags import Call, check_timeout, command, refuse_together
from npu_serving.errors import RequestError

if TYPE_CHECKING:
    from npu_serving.asking.golden import GoldenRequest
    from npu_serving.cli import Result
    from npu_serving.load.load_plan import AskedWishes

MOST_PROCESSES = 64
MOST_WINDOWS = 1000
SERVER = "grpc://localhost:8500"


@command(
    kinds={
        "version": int,
        "timeout": int,
        "first_timeout": int,
        "processes": int,
        "max_windows": int,
        "batch_size": int,
        "recorded": Path,
        "ca": Path,
        "cert": Path,
        "key": Path,
    },
    help={
        "model": "the model's name",
        "url": f"where its gRPC API is, {SERVER} by default (grpcs:// with TLS), or its REST API, http://HOST:8501",
        "version": "the version to ask; the newest by default",
        "label": "the label of the version to ask, over gRPC",
        "signature": "the signature to ask; the request's own, or serving_default, by default",
        "request": "a request in JSON, or a .json or .npz file (repeatable); random values by default",
        "golden": "a golden request, or all of the model, with each answer compared under load",
        "recorded": "a recorded file: its requests for the model; with --arrivals recorded at the times they came",
        "shape": "for random values: an input's sizes, the batch as well, NAME:4,16 (repeatable)",
        "range": "for random values: an input's lowest value and the one above its highest, NAME:0:100 (repeatable)",
        "batch_size": "for random values: the first dimension where that is open; 1 by default",
        "concurrency": "closed loop: how many requests are under way, 8, or levels, 1,2,4 or 1:16:x2; 1 by default",
        "rate": "open loop: requests a second, 200, or levels, 100:500:100; with --search from where to where",
        "arrivals": "open loop: constant, the default, poisson, step:100@10s,500@10s, line:10..500@30s, or recorded",
        "search": "search the highest rate whose p99 is at most --p99",
        "p99": "the latency of --search, such as 20ms",
        "warm_up": "how long is not measured at first, such as 5s; by default a second, or until an answer has come",
        "window": "how long a window is; 2s by default",
        "max_windows": "after how many windows that do not agree a level ends; 10 by default",
        "duration": "measure for so long, such as 30s, whether windows agree or not",
        "processes": "how many processes send; 1 by default",
        "path": "grpcio, http2 (gRPC at high rates), http1 (REST), or auto, the default",
        "timeout": "for how many seconds an answer is waited for; 60 by default",
        "first_timeout": "for how many seconds the first answer is, for which the model may compile; 600 by default",
        "during": "a command to run in the middle of it, split into words, without a shell",
        "fail_if": "leave with 3 if so, such as 'p99>20ms', 'errors>0', 'throughput<100' (repeatable)",
        "ca": "with TLS, the certificates to check the server's with, PEM; those of this machine by default",
        "cert": "with TLS, the client's own certificate, PEM, where the server wants one (client_verify)",
        "key": "the key of that certificate, PEM",
    },
)
def load_test(
    call: Call,
    model: str,
    url: str = SERVER,
    version: int | None = None,
    label: str = "",
    signature: str = "",
    request: tuple[str, ...] = (),
    golden: str = "",
    recorded: Path | None = None,
    shape: tuple[str, ...] = (),
    range: tuple[str, ...] = (),
    batch_size: int | None = None,
    concurrency: str = "",
    rate: str = "",
    arrivals: str = "",
    search: bool = False,
    p99: str = "",
    warm_up: str = "",
    window: str = "2s",
    max_windows: int = 10,
    duration: str = "",
    processes: int = 1,
    path: str = "auto",
    timeout: int = 60,
    first_timeout: int = 600,
    during: str = "",
    fail_if: tuple[str, ...] = (),
    ca: Path | None = None,
    cert: Path | None = None,
    key: Path | None = None,
    dry_run: bool = False,
) -> Result:
    """Measure how fast a served model answers, and how many requests it bears: honest latencies, errors by kind."""
    from npu_serving.client.model_spec import ModelSpec
    from npu_serving.client.tls import Tls
    from npu_serving.load.level import Terms
    from npu_serving.load.load_plan import LoadWishes, plan_load_test
    from npu_serving.load.load_test import run_load_test
    from npu_serving.load.thresholds import parse_threshold
    from npu_serving.load.wanted import seconds_of

    check_timeout(timeout)
    check_timeout(first_timeout)
    check_number("--processes", processes, MOST_PROCESSES)
    check_number("--max-windows", max_windows, MOST_WINDOWS)
    if golden:
        refuse_together("--golden", "a golden request has its own values and signature", request=request, shape=shape)
        refuse_together("--golden", "it says which version is asked", version=version is not None, label=label)
    if recorded is not None:
        refuse_together("--recorded", "its requests say what is asked", request=request, golden=golden)
        refuse_together("--recorded", "its requests say what is asked", signature=signature, label=label)
    plan = plan_load_test(
        url,
        ModelSpec(model, version, label, signature),
        Tls(ca, cert, key),
        asked_wishes(call, model, golden, request, shape, range, batch_size, recorded),
        LoadWishes(concurrency, rate, arrivals, search, seconds_of(p99, "--p99") if p99 else None, path),
        Terms(
            warm_up_s=seconds_of(warm_up, "--warm-up", least=0.0) if warm_up else None,
            window_s=seconds_of(window, "--window", least=0.01),
            most_windows=max_windows,
            duration_s=seconds_of(duration, "--duration", least=0.1) if duration else None,
            processes=processes,
        ),
        thresholds=tuple(parse_threshold(text) for text in fail_if),
        during=during,
        timeout_s=float(timeout),
        first_timeout_s=float(first_timeout),
    )
    return plan if dry_run else run_load_test(plan, call.settings.build_root, call.console)


def asked_wishes(
    call: Call,
    model: str,
    golden: str,
    request: tuple[str, ...],
    shape: tuple[str, ...],
    ranges: tuple[str, ...],
    batch_size: int | None,
    recorded: Path | None = None,
) -> AskedWishes:
    """What is asked, by the flags that say it. RequestError where one leaves another without effect."""
    from npu_serving.asking.recorded_file import read_recording
    from npu_serving.load.given_files import read_given
    from npu_serving.load.load_plan import AskedWishes
    from npu_serving.load.random_inputs import read_wishes

    if golden or request or recorded is not None:
        given = "--golden" if golden else "--request" if request else "--recorded"
        refuse_together(given, "there are no random values", shape=shape, range=ranges, batch_size=batch_size)
    if golden:
        return AskedWishes(golden=_golden(call, model, golden))
    if recorded is not None:
        return AskedWishes(recorded=read_recording(recorded))
    if request:
        return AskedWishes(given=tuple(read_given(model, source) for source in request))
    return AskedWishes(random=read_wishes(shape, ranges, batch_size))


def _golden(call: Call, model: str, name: str) -> tuple[GoldenRequest, ...]:
    from npu_serving.asking.golden_places import RECORD
    from npu_serving.serving.golden_request import golden_requests

    there = [each for each in golden_requests(call.settings).sound() if each.is_of(model)]
    chosen = tuple(each for each in there if name in ("all", each.name))
    if not chosen:
        names = ", ".join(each.name for each in there[:10])
        raise RequestError(
            f"There is no golden request {name!r} of the model {model!r}.",
            cure=f"choose one that is there: {names}" if there else f"record one: {RECORD}",
        )
    return chosen


def check_number(flag: str, value: int, most: int) -> None:
    """RequestError for a number that is not from 1 to `most`."""
    if not 0 < value <= most:
        raise RequestError(f"{flag} can't be {value}.", cure=f"use a number from 1 to {most}")
