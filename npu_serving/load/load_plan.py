"""What a load test is to do, checked before anything is sent: loads, how long, over which path, held against what."""

from __future__ import annotations

from dataclasses import dataclass, field

from npu_serving.asking.golden import GoldenRequest
from npu_serving.asking.recorded_file import Recording
from npu_serving.asking.request import PredictRequest
from npu_serving.client.address import grpc_address, is_grpc
from npu_serving.client.model_spec import ModelSpec
from npu_serving.client.tls import Tls
from npu_serving.errors import RequestError
from npu_serving.load.arrivals import CONSTANT, RECORDED, Schedule
from npu_serving.load.asked import ReadyRequests, TestedModel
from npu_serving.load.generator import LoadTls, Plan
from npu_serving.load.level import Load, Terms
from npu_serving.load.random_inputs import RandomWishes
from npu_serving.load.thresholds import Threshold
from npu_serving.load.wanted import bounds_of, concurrencies_of, has_own_rate, rates_of, schedule_of
from npu_serving.shown_text import shown_url

GRPCIO, HTTP2, HTTP1, AUTO = "grpcio", "http2", "http1", "auto"
RATE_FOR_HTTP2 = 2000.0
"""From so many requests a second on, grpcio would take more of a processor than it leaves for being in time."""
FIRST_RATE = 10.0
"""Where a search begins that nobody says more of."""


@dataclass(frozen=True)
class LoadWishes:
    """How much, as a person typed it; "" for what was not said."""

    concurrency: str = ""
    rate: str = ""
    arrivals: str = ""
    search: bool = False
    p99_s: float | None = None
    path: str = AUTO


@dataclass(frozen=True)
class AskedWishes:
    """What is asked, as a person typed it: one of these, or else random values."""

    given: tuple[tuple[str, PredictRequest], ...] = ()
    golden: tuple[GoldenRequest, ...] = ()
    recorded: Recording | None = None
    random: RandomWishes = field(default_factory=lambda: RandomWishes({}, {}))


@dataclass(frozen=True)
class Search:
    """For the highest rate with a p99 of at most `p99_s`, from `lowest` on."""

    p99_s: float
    lowest: float
    highest: float | None
    arrivals: str


@dataclass(frozen=True)
class LoadTestPlan:
    """A load test that can begin."""

    url: str
    spec: ModelSpec
    asked: ReadyRequests
    request: Plan
    loads: tuple[Load, ...]
    search: Search | None
    terms: Terms
    thresholds: tuple[Threshold, ...]
    during: str = ""
    first_timeout_s: float = 600.0

    def to_json(self) -> dict[str, object]:
        """The plan as `--dry-run --json` shows it."""
        return {
            "url": shown_url(self.url),
            "model": self.spec.name,
            "request": self.asked.words,
            "requests": len(self.asked.requests),
            "bytes": len(self.asked.requests[0].body),
            "path": self.request.path,
            "processes": self.terms.processes,
            "loads": [self._load_words(load) for load in self.loads],
            "search": None if self.search is None else f"p99 of at most {1e3 * self.search.p99_s:g} ms",
            "window_s": self.terms.window_s,
            "duration_s": self.terms.duration_s,
            "fail_if": [str(threshold) for threshold in self.thresholds],
            "during": self.during,
        }

    def text(self) -> str:
        """The plan for a person."""
        terms = self.terms
        how_long = f"windows of {terms.window_s:g} s until three agree, {terms.most_windows} at most"
        if terms.duration_s is not None:
            how_long = f"{terms.duration_s:g} s"
        size = len(self.asked.requests[0].body)
        lines = [
            f"Would ask {self.spec.name} at {shown_url(self.url)} ({self.asked.words}; {size:,} bytes a request)",
            f"over {self.request.path}, from {terms.processes} {'process' if terms.processes == 1 else 'processes'}:",
            *(
                f"  {self._load_words(load)}: {how_long if load.seconds is None else f'{load.seconds:g} s'}"
                for load in self.loads
            ),
        ]
        if self.search is not None:
            lines.append(
                f"  rates from {self.search.lowest:g} a second on, for the highest with a p99 of at most "
                f"{1e3 * self.search.p99_s:g} ms: {how_long}"
            )
        if self.during:
            lines.append(f"In the middle of it: {self.during}")
        lines += [f"Exit code 3 if {threshold}" for threshold in self.thresholds]
        return "\n".join(lines)

    @staticmethod
    def _load_words(load: Load) -> str:
        if load.schedule is None:
            return f"{load.concurrency} at once"
        return f"{load.schedule.mean_rate:g} a second ({load.schedule.kind})"


def plan_load_test(
    url: str,
    spec: ModelSpec,
    tls: Tls,
    asks: AskedWishes,
    wishes: LoadWishes,
    terms: Terms,
    *,
    thresholds: tuple[Threshold, ...] = (),
    during: str = "",
    timeout_s: float = 60.0,
    first_timeout_s: float = 600.0,
) -> LoadTestPlan:
    """The plan. Asks the server what the model takes, and sends nothing else.

    RequestError for what contradicts itself, or does not fit the model; ServerError where no server answers.
    """
    search = _search(wishes)
    replays = wishes.arrivals == RECORDED and search is None
    loads = () if search is not None or replays else _loads(wishes)
    if replays:
        _refuse_beside_replay(asks, wishes)
    if during and len(loads) + replays != 1:
        raise RequestError(
            "--during is for one load.",
            cause="each level would run the command again",
            cure="give one --rate or one --concurrency",
        )
    model = TestedModel(url, spec, tls)
    asked = _asked(model, asks)
    if replays:
        loads = (Load(schedule=Schedule(RECORDED, recorded_ns=asked.arrivals_ns)),)
    most = max((load.schedule.mean_rate for load in loads if load.schedule is not None), default=0.0)
    path = _path(url, wishes.path, most)
    request = Plan(
        url=str(grpc_address(url)) if is_grpc(url) else url,
        requests=asked.requests,
        begin_ns=0,
        timeout_s=timeout_s,
        compares=bool(asked.golden),
        tls=_tls(tls),
        path=path,
    )
    return LoadTestPlan(url, spec, asked, request, loads, search, terms, thresholds, during, first_timeout_s)


def _asked(model: TestedModel, asks: AskedWishes) -> ReadyRequests:
    if asks.golden:
        return model.golden(asks.golden)
    if asks.recorded is not None:
        return model.recorded(asks.recorded)
    return model.given(asks.given) if asks.given else model.random(asks.random)


def _refuse_beside_replay(asks: AskedWishes, wishes: LoadWishes) -> None:
    if asks.recorded is None:
        raise RequestError(
            "--arrivals recorded needs a recorded file.",
            cause="it says when they came",
            cure="name it: --recorded FILE",
        )
    beside = {"--rate": wishes.rate, "--concurrency": wishes.concurrency, "--p99": wishes.p99_s}
    given = " and ".join(flag for flag, value in beside.items() if value)
    if given:
        raise RequestError(
            f"{given} would have no effect with --arrivals recorded.",
            cause="the file says when requests come",
            cure=f"leave out {given}",
        )


def _loads(wishes: LoadWishes) -> tuple[Load, ...]:
    if wishes.p99_s is not None:
        raise RequestError(
            "--p99 is for --search.",
            cause="it says under which latency the highest rate is searched for",
            cure="give --search as well, or hold the result against it: --fail-if 'p99>20ms'",
        )
    if wishes.concurrency and (wishes.rate or wishes.arrivals):
        raise RequestError(
            "--concurrency leaves --rate and --arrivals without effect.",
            cause="with it, a request is sent when an answer has come, not at a time",
            cure="give one of them",
        )
    if has_own_rate(wishes.arrivals):
        if wishes.rate:
            raise RequestError(f"--arrivals {wishes.arrivals} leaves --rate without effect.", cure="leave --rate out")
        return (Load(schedule=schedule_of(wishes.arrivals, None)),)
    if wishes.arrivals and not wishes.rate:
        raise RequestError(f"--arrivals {wishes.arrivals} needs a rate.", cure="give one: --rate 100")
    if wishes.rate:
        kind = wishes.arrivals or CONSTANT
        return tuple(Load(schedule=schedule_of(kind, rate)) for rate in rates_of(wishes.rate))
    return tuple(Load(concurrency=number) for number in concurrencies_of(wishes.concurrency or "1"))


def _search(wishes: LoadWishes) -> Search | None:
    if not wishes.search:
        return None
    if wishes.p99_s is None:
        raise RequestError(
            "--search needs a latency.", cause="any rate is answered some day", cure="say which: --search --p99 20ms"
        )
    if wishes.concurrency or has_own_rate(wishes.arrivals):
        flag = "--concurrency" if wishes.concurrency else f"--arrivals {wishes.arrivals}"
        raise RequestError(
            f"{flag} would have no effect with --search.", cause="it tries rates", cure=f"leave out {flag}"
        )
    lowest, highest = bounds_of(wishes.rate) if wishes.rate else (FIRST_RATE, None)
    schedule_of(wishes.arrivals or CONSTANT, lowest)
    return Search(wishes.p99_s, lowest, highest, wishes.arrivals or CONSTANT)


def _path(url: str, wanted: str, rate: float) -> str:
    fitting = (GRPCIO, HTTP2) if is_grpc(url) else (HTTP1,)
    if wanted == AUTO:
        return HTTP2 if rate >= RATE_FOR_HTTP2 and is_grpc(url) else fitting[0]
    if wanted not in fitting:
        raise RequestError(
            f"--path can't be {wanted!r} for {shown_url(url)}.",
            cause="gRPC is asked over grpcio or http2, REST over http1",
            cure=f"use {' or '.join(fitting)}, or leave it out",
        )
    return wanted


def _tls(tls: Tls) -> LoadTls:
    return LoadTls(tls.pem("ca"), tls.pem("cert"), tls.pem("key"))
