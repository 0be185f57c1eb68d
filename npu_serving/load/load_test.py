"""The load test: the first answer, level after level, what is kept of it, and what is said of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from npu_serving.asking.golden_files import usual_name
from npu_serving.console import Reporter
from npu_serving.errors import EXIT_ACTION_NEEDED, EXIT_FAILED, NpuServingError
from npu_serving.load.change import TimedChange
from npu_serving.load.first_answer import first_answers
from npu_serving.load.history import DIRECTORY, KeptRun, keep_run
from npu_serving.load.kinds import DIFFERS
from npu_serving.load.level import Load, Measured, measure
from npu_serving.load.load_plan import LoadTestPlan, Search
from npu_serving.load.results import Level, LoadRun, Window
from npu_serving.load.sampling import ServerSampler, sampled_server
from npu_serving.load.search import highest_rate, is_beyond, is_within
from npu_serving.load.tables import run_text
from npu_serving.load.thresholds import hold_against
from npu_serving.load.wanted import schedule_of
from npu_serving.load.windows import AGREEING_WINDOWS
from npu_serving.shown_text import in_a_line, shown_url


@dataclass(frozen=True)
class LoadTestResult:
    """A run that is kept, and what is said of it besides."""

    kept: KeptRun
    said: dict[str, str] = field(default_factory=dict)
    """What was said of the first error of each kind."""
    change_failed: str = ""
    found_none: bool = False
    """Whether a search has found no rate."""

    @property
    def exit_code(self) -> int:
        """1 where nothing was answered, or the change failed; 3 for thresholds, an invalid run, a search in vain."""
        if self.change_failed or not any(level.ok for level in self.kept.run.levels):
            return EXIT_FAILED
        return EXIT_ACTION_NEEDED if self.found_none else self.kept.exit_code

    def to_json(self) -> dict[str, object]:
        """The run, its files, and what was said."""
        return {**self.kept.to_json(), "said": dict(self.said), "change_failed": self.change_failed}

    def text(self) -> str:
        """What was asked, the levels, and what went wrong."""
        said = [f"{kind}: {in_a_line(what)}" for kind, what in sorted(self.said.items())]
        return "\n\n".join(filter(None, ["\n".join(said), self.change_failed, self.kept.text()]))


def run_load_test(plan: LoadTestPlan, build_root: Path, reporter: Reporter) -> LoadTestResult:
    """Does what the plan says. What was measured is kept, also where Ctrl-C ends it, which is raised again then.

    Raises the error of a first request that has no answer, as first_answers() does.
    """
    return _Running(plan, build_root, reporter).run()


class _Running:
    """A load test that is under way."""

    def __init__(self, plan: LoadTestPlan, build_root: Path, reporter: Reporter) -> None:
        self._plan = plan
        self._root = build_root
        self._reporter = reporter
        self._begun = time.time()
        self._id = _free_id(build_root, self._begun, plan.spec.name)
        self._levels: list[Level] = []
        self._said: dict[str, str] = {}
        self._interruption: KeyboardInterrupt | None = None
        self._change = self._change_of(plan)
        self._sampler = ServerSampler(sampled_server(plan.url))

    def run(self) -> LoadTestResult:
        """All of it, with the server sampled beside."""
        with self._sampler:
            return self._run_all()

    def _run_all(self) -> LoadTestResult:
        plan = self._plan
        first_answers(plan.request, plan.asked, plan.first_timeout_s, self._reporter)
        best: int | None = None
        if plan.search is not None:
            best = self._search(plan.search)
        else:
            for load in plan.loads:
                if self._interruption is None:
                    self._measure(
                        load, f"{len(self._levels) + 1} of {len(plan.loads)}: " if len(plan.loads) > 1 else ""
                    )
        found_none = plan.search is not None and best is None
        run = self._run(best, found_none=found_none)
        for note in self._sampler.notes:
            self._reporter.note(note)
        try:
            kept = keep_run(run, self._root)
        except NpuServingError:
            self._reporter.note(run_text(run))  # the disk is full, say: it may have taken hours
            raise
        if self._interruption is not None:
            raise type(self._interruption)(f"what was measured until then is kept: {kept.report}.")
        return LoadTestResult(kept, self._said, self._how_it_ended(), found_none)

    def _measure(self, load: Load, place: str, is_hopeless: Callable[[Sequence[Window]], bool] | None = None) -> Level:
        plan = self._plan
        words = f"{load.concurrency} at once" if load.schedule is None else f"{load.schedule.mean_rate:g} a second"
        judge = plan.asked.judge if plan.asked.golden else None
        with self._reporter.progress(f"{place}{words}", unit="answers") as progress:
            measured = measure(
                plan.request,
                load,
                plan.terms,
                progress,
                judge=judge,
                change=self._change,
                sampler=self._sampler,
                **({"is_hopeless": is_hopeless} if is_hopeless is not None else {}),
            )
        self._take(measured)
        return measured.level

    def _take(self, measured: Measured) -> None:
        self._levels.append(measured.level)
        for kind, said in measured.said.items():
            self._said.setdefault(kind, said)
        self._interruption = measured.interruption

    def _search(self, search: Search) -> int | None:
        def holds(rate: float) -> bool:
            if self._interruption is not None:
                return False
            load = Load(schedule=schedule_of(search.arrivals, rate))
            level = self._measure(
                load, f"search {len(self._levels) + 1}: ", lambda found: is_beyond(found, search.p99_s)
            )
            return is_within(level, search.p99_s)

        return highest_rate(holds, search.lowest, search.highest)

    def _run(self, best: int | None, *, found_none: bool) -> LoadRun:
        plan = self._plan
        spec = plan.spec
        run = LoadRun(
            id=self._id,
            begun=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._begun)),
            target=shown_url(plan.url),
            model=spec.name,
            version=spec.label if spec.version is None else str(spec.version),
            signature=spec.signature_name,
            api="grpc" if plan.asked.is_grpc else "rest",
            request=plan.asked.words,
            levels=tuple(self._levels),
            best=best,
        )
        run = replace(run, thresholds=tuple(hold_against(plan.thresholds, run)), golden=self._golden())
        reasons = [
            f"{level.load}: {level.generator.bottleneck}." for level in run.judged() if level.generator.bottleneck
        ]
        valid = not reasons
        reasons += [_unsteady(level) for level in run.judged() if not level.stable and not found_none]
        if found_none:
            reasons.append("No rate that was tried keeps to that latency without errors.")
        if self._interruption is not None:
            reasons.append("The run was interrupted.")
        return replace(run, valid=valid, reasons=tuple(reasons))

    def _golden(self) -> dict[str, object]:
        golden = self._plan.asked.golden
        if not golden:
            return {}
        differ = sum(level.errors.get(DIFFERS, 0) for level in self._levels)
        compared = sum(level.ok for level in self._levels) + differ
        return {"names": [each.name for each in golden], "compared": compared, "differ": differ}

    def _change_of(self, plan: LoadTestPlan) -> TimedChange | None:
        return TimedChange(plan.during, self._root / DIRECTORY / f"{self._id}-during.log") if plan.during else None

    def _how_it_ended(self) -> str:
        """That the change failed, with the end of what it said; "" where it didn't."""
        change = self._change
        if change is None or change.returncode == 0:
            return ""
        if not change.has_begun:
            return f"{change.name} was not begun: the run had ended before."
        end = ""
        with suppress(OSError):
            end = change.log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
        how = "was ended with the run" if change.returncode is None else f"ended{change.how_it_ended}"
        return f"{change.name} {how}{f' ({in_a_line(end)})' if end else ''}; its output is in {change.log}."


def _unsteady(level: Level) -> str:
    if not level.ok:
        return f"{level.load}: no request was answered."
    if len(level.windows) < AGREEING_WINDOWS:
        return f"{level.load}: not stable: there were only {len(level.windows)} windows."
    last = level.windows[-AGREEING_WINDOWS:]
    rates = ", ".join(f"{window.throughput:,.0f}/s at {window.mean_ms or 0:.3g} ms" for window in last)
    return f"{level.load}: not stable: the last windows differ by more than 10% ({rates})."


def _free_id(root: Path, begun: float, model: str) -> str:
    """A name for the run that sorts by time, and that no run has yet."""
    plain = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(begun))}-{usual_name(model)}"
    name, number = plain, 1
    while (root / DIRECTORY / f"{name}.json").exists():
        number += 1
        name = f"{plain}-{number}"
    return name
