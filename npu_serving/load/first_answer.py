"""The first answers, before anything is measured: the model may compile for minutes, and a wrong request is refused."""

from __future__ import annotations

import time
from dataclasses import replace

from npu_serving.console import Reporter, duration_text
from npu_serving.errors import GatewayError, NpuServingError, RequestError, ServerError, UnreachableError
from npu_serving.load.arrivals import RECORDED, Schedule
from npu_serving.load.asked import ReadyRequests
from npu_serving.load.generator import Plan
from npu_serving.load.kinds import KINDS
from npu_serving.load.workers import working
from npu_serving.shown_text import in_a_line, shown_url

MOST_FIRST_REQUESTS = 8
OF_A_QUEUE = ("busy", "expired")
SECONDS_BEFORE_IT_IS_SAID = 2.0


def first_answers(plan: Plan, asked: ReadyRequests, timeout_s: float, reporter: Reporter) -> float:
    """Sends one request of each size, and waits for the answers; returns the seconds that the slowest took.

    Raises the error that says why one has no answer. Those for which a queue was too short are let go, if not all are:
    they were sent at once.
    """
    places = list({(each.path, len(each.body)): at for at, each in reversed(list(enumerate(asked.requests)))}.values())
    places = places[-MOST_FIRST_REQUESTS:]
    chosen = replace(
        plan,
        requests=tuple(asked.requests[at] for at in places),
        schedule=Schedule(RECORDED, recorded_ns=(0,) * len(places)),
        concurrency=0,
        timeout_s=timeout_s,
        compares=False,
    )
    slowest_s, left, answered = 0.0, len(places), False
    with working([chosen]) as workers, reporter.progress("The first answer", unit="s") as progress:
        begin_ns = workers.begin(0.0)
        while left and not workers.are_over:
            outcomes = workers.outcomes(0.2)
            seconds = (time.monotonic_ns() - begin_ns) / 1e9
            if seconds > SECONDS_BEFORE_IT_IS_SAID:
                progress.update(seconds, detail="a first request compiles the model for the NPU, which takes minutes")
            for outcome in outcomes:
                kind, left = KINDS[outcome["kind"]], left - 1
                if kind in OF_A_QUEUE and (answered or left):
                    continue
                if kind and not (kind == "refused" and asked.arrivals_ns):
                    source = asked.sources[places[outcome["request"]]]
                    raise refusal(kind, workers.said.get(kind, ""), plan.url, source, timeout_s)
                answered = True
                slowest_s = max(slowest_s, (int(outcome["done"]) - int(outcome["intended"])) / 1e9)
    if slowest_s > SECONDS_BEFORE_IT_IS_SAID:
        reporter.note(f"The first answer took {duration_text(slowest_s)}; that is not counted.")
    return slowest_s


def refusal(kind: str, said: str, url: str, source: str, timeout_s: float) -> NpuServingError:
    """The error for a first request that has no answer."""
    said, where = f" ({in_a_line(said)})" if said else "", shown_url(url)
    if kind == "refused":
        return RequestError(
            f"The model refuses {source}{said}.",
            cause="its shapes or values are not what the model takes, though the signature allows them",
            cure="give shapes and values that it takes (--shape, --range), or requests of your own (--request FILE)",
        )
    if kind == "unknown_model":
        return RequestError(
            f"{where} does not know the model that {source} asks{said}.",
            cause="it is not loaded, or has another name or version",
            cure="./inv status shows the models that are served here",
        )
    if kind == "timeout":
        return ServerError(
            f"{where} did not answer {source} within {timeout_s:g} s{said}.",
            cause="it is still compiling, or it hangs",
            cure="./inv status MODEL says how it is; --first-timeout waits longer",
        )
    if kind == "unreachable":
        return UnreachableError(
            f"{where} can't be reached{said}.",
            cause="the server has ended, or something between here and there closes connections",
            cure="./inv status MODEL says how it is",
        )
    if kind in ("gateway", "too_large_for_gateway"):
        return GatewayError(
            f"A gateway or proxy answered {source} in place of the server at {where}{said}.",
            cause="it wants a login, can't reach the server, or takes no request of this size",
            cure="use the server's own port, or set the gateway right",
        )
    causes = {
        "busy": "its queue of requests is full before the test has begun",
        "expired": "requests wait too long in its queue before the test has begun",
        "malformed": "another program uses this port",
        "too_large_for_client": "its answer is larger than is read",
    }
    return ServerError(
        f"{where} could not answer {source}{said}.",
        cause=causes.get(kind, "the model fails at this request"),
        cure="./inv status MODEL and the server's log say more",
    )
