"""tune: a server for each setting on spare ports, its best load within the budget, and the best setting of all."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving import fsutil
from npu_serving.builds.current import find_build
from npu_serving.console import Progress, Reporter, duration_text, table
from npu_serving.deploy.deployment_file import DeploymentFile, read_deployment
from npu_serving.errors import EXIT_ACTION_NEEDED, NpuServingError
from npu_serving.load.results import Level
from npu_serving.serving.server import RunningServer
from npu_serving.settings import Settings
from npu_serving.shown_text import in_a_line
from npu_serving.state_lock import state_lock
from npu_serving.trials.spare_server import on_spare_ports, plan_spare, started_whole
from npu_serving.tuning.asked_load import WithinProgress
from npu_serving.tuning.knobs import Knobs, TunedSetting, index_of_model, settings_of
from npu_serving.tuning.measured import KeptSettings, MeasuredSetting, best_load, digest_of
from npu_serving.tuning.tuned_file import write_tuned
from npu_serving.writers.shell import shell_word

SECONDS_A_SETTING = 30
"""A guess for a plan: the start, and some four loads of a few windows each."""

Ask = Callable[[RunningServer, Progress], Callable[[int], Level]]
"""Makes ready what a server is asked; what comes of it holds a load (requests at once) against that server."""


@dataclass(frozen=True)
class TuneTerms:
    """What is looked for: the budget, and what else decides what is measured, for the name of its directory."""

    p99_ms: float
    loads: tuple[int, ...]
    timeout_s: float
    asked: tuple[str, ...]
    """The request and how it is measured, in words that say all of it."""


@dataclass(frozen=True)
class TunePlan:
    """Which settings of which model are tried, and what is known of some already."""

    file: Path
    written: str = field(repr=False)
    """What the file holds before."""
    model: str
    build: str
    settings: tuple[TunedSetting, ...]
    terms: TuneTerms
    kept: KeptSettings

    def deployed(self, setting: TunedSetting) -> DeploymentFile:
        """The deployment with that setting. DocumentError where it can't be."""
        return read_deployment(self.file, (), setting.flags)

    def to_json(self) -> dict[str, object]:
        """The plan as `--json` shows it."""
        return {
            "deployment": str(self.file),
            "model": self.model,
            "p99_ms": self.terms.p99_ms,
            "loads": list(self.terms.loads),
            "settings": [
                {"setting": each.text, "set": list(each.flags), "measured": self.kept.of(each) is not None}
                for each in self.settings
            ],
            "directory": str(self.kept.directory),
        }

    def text(self) -> str:
        """A line for each setting."""
        known = [self.kept.of(each) is not None for each in self.settings]
        rows = [
            (each.text, "; ".join(each.flags), "measured before" if there else "")
            for each, there in zip(self.settings, known)
        ]
        left = known.count(False)
        about = f"Would start a server for each of {left}, some {duration_text(left * SECONDS_A_SETTING)} in all"
        shown = table(rows, header=("SETTING", "SETS", ""))
        return f"{shown}\n{about}; what was measured is kept in {self.kept.directory}"


@dataclass(frozen=True)
class TuneResult:
    """What each setting has reached, and which was written into the file."""

    plan: TunePlan
    measured: tuple[tuple[TunedSetting, MeasuredSetting], ...]
    best: TunedSetting | None
    seconds: float

    @property
    def exit_code(self) -> int:
        """3 where no setting is within the budget."""
        return 0 if self.best is not None else EXIT_ACTION_NEEDED

    def to_json(self) -> dict[str, object]:
        """All settings, the best first."""
        return {
            "deployment": str(self.plan.file),
            "model": self.plan.model,
            "p99_ms": self.plan.terms.p99_ms,
            "best": self.best.text if self.best is not None else None,
            "set": list(self.best.flags) if self.best is not None else [],
            "settings": [{**dataclasses.asdict(found), "set": list(each.flags)} for each, found in self.measured],
            "directory": str(self.plan.kept.directory),
            "seconds": round(self.seconds, 2),
        }

    def rows(self) -> list[str]:
        """The table as lines, the best first."""
        return table_of([found for _, found in self.measured])

    def text(self) -> str:
        """The table, and what was done with the best."""
        if self.best is None:
            return "\n".join(
                [
                    *self.rows(),
                    f"No setting holds p99 within {self.plan.terms.p99_ms:g} ms: {self.plan.file} is as it was.",
                    "Next: give a larger --p99, or smaller values; the loads begin with one request at a time",
                ]
            )
        return "\n".join(
            [
                *self.rows(),
                f"{self.plan.file} now has {self.best.text}, with this table above it.",
                f"Next: ./inv restart --deployment {shell_word(str(self.plan.file))}",
            ]
        )


def table_of(found: Sequence[MeasuredSetting]) -> list[str]:
    """A line for each, under a heading."""
    rows = [
        (each.setting, "", "", "", "", each.why)
        if each.why
        else (
            each.setting,
            str(each.concurrency),
            f"{each.throughput:,.0f}",
            f"{each.p50_ms:.3g} ms",
            f"{each.p99_ms:.3g} ms",
            "not stable" if not each.stable else "at least: the sender was the limit" if each.limit else "",
        )
        for each in found
    ]
    return table(rows, header=("SETTING", "AT ONCE", "PER SECOND", "P50", "P99", "")).splitlines()


def plan_tune(
    settings: Settings,
    file: Path,
    knobs: Knobs,
    terms: TuneTerms,
    *,
    model: str = "",
    build: str = "",
) -> TunePlan:
    """The settings to try. RequestError for what can't be tried, and what keeps the server from serving at all."""
    file = file.resolve()  # a link to it stays one
    written = fsutil.read_text(file)
    deployment = read_deployment(file)
    index = index_of_model(deployment, model)
    found_build = find_build(settings.dist_root, build).manifest.build_id
    tried = settings_of(deployment, index, knobs if knobs.are_given else usual_knobs(deployment, index))
    name = deployment.models[index].name
    question = [found_build, repr(deployment), name, repr(terms.p99_ms), repr(terms.loads), *terms.asked]
    kept = KeptSettings(settings.build_root / "tuning" / digest_of(question)[:16])
    plan = TunePlan(file, written, name, found_build, tried, terms, kept)
    for setting in tried:
        plan.deployed(setting)
    plan_spare(settings, on_spare_ports(plan.deployed(tried[0])), file, build=build, dry_run=True)
    return plan


def usual_knobs(deployment: DeploymentFile, index: int) -> Knobs:
    """What is tried where nothing is named: no batching and three sizes, waiting or not; on the NPU also streams."""
    on_npu = deployment.npu_of(deployment.models[index]) is not None
    return Knobs(batch_sizes=(0, 4, 16, 64), batch_timeouts=(0, 2000), streams=(1, 4) if on_npu else ())


def tune(settings: Settings, plan: TunePlan, ask: Ask, reporter: Reporter) -> TuneResult:
    """Measures what is not yet known, and writes the best into the file. Raises what writing it raises."""
    begun = time.monotonic()
    found: list[tuple[TunedSetting, MeasuredSetting]] = []
    with ExitStack() as stack:
        stack.enter_context(state_lock(settings.build_root / "tuning", doing="tune"))
        progress = stack.enter_context(reporter.progress(f"tuning {plan.model}", unit="settings"))
        for number, setting in enumerate(plan.settings):
            within = WithinProgress(progress, setting.text, number, len(plan.settings))
            within.update(0, detail="the server starts")
            known = plan.kept.of(setting)
            if known is None:
                known = _measured(settings, plan, setting, ask, within)
                plan.kept.keep(setting, known)
            found.append((setting, known))
        progress.update(len(found), total=len(found))
    found.sort(key=lambda pair: (pair[1].is_within, pair[1].stable, pair[1].throughput), reverse=True)
    best = found[0][0] if found[0][1].is_within else None
    result = TuneResult(plan, tuple(found), best, time.monotonic() - begun)
    if best is not None:
        heading = f"{time.strftime('%Y-%m-%d', time.gmtime())}, {plan.model}: most a second with p99 within "
        write_tuned(
            plan.file, plan.written, best, [f"{heading}{plan.terms.p99_ms:g} ms, build {plan.build}", *result.rows()]
        )
    return result


def _measured(
    settings: Settings, plan: TunePlan, setting: TunedSetting, ask: Ask, progress: Progress
) -> MeasuredSetting:
    """What the setting reaches; a server that does not start with it, or ends under load, is a result too."""
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    log_path = settings.logs / f"tune-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    try:
        server_plan = plan_spare(settings, on_spare_ports(plan.deployed(setting)), plan.file, build=plan.build)
        with started_whole(server_plan, log_path=log_path, timeout_s=plan.terms.timeout_s, progress=progress) as server:
            found = best_load(setting, plan.terms.loads, plan.terms.p99_ms, ask(server, progress))
    except NpuServingError as error:
        found = MeasuredSetting(setting.text, why=in_a_line(error.what))
    return dataclasses.replace(found, date=date)
