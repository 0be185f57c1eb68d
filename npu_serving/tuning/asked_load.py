"""How loads are held against the server of a setting: its requests are made ready once, then come the loads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from npu_serving.asking.grpc_client import WITHOUT_FILES
from npu_serving.client.model_spec import ModelSpec
from npu_serving.console import Progress, Silent
from npu_serving.load.first_answer import first_answers
from npu_serving.load.level import Load, Terms, measure
from npu_serving.load.load_plan import AskedWishes, LoadWishes, plan_load_test
from npu_serving.load.results import Level
from npu_serving.serving.server import RunningServer
from npu_serving.trials.spare_server import FIRST_ANSWER_S, ticking

GRPC, REST = "grpc", "rest"


class WithinProgress:
    """The progress of a part, shown as a detail of the whole: how much of the part is done says nothing about that."""

    def __init__(self, progress: Progress, what: str, done: float = 0, total: float | None = None) -> None:
        self._progress = progress
        self._what = what
        self._done = done
        self._total = total

    def update(
        self, done: float, *, total: float | None = None, detail: str = "", under_way: Sequence[str] = ()
    ) -> None:
        """Shows the detail."""
        self._progress.update(self._done, total=self._total, detail=f"{self._what}: {detail}")


@dataclass(frozen=True)
class AskedLoad:
    """What each server is asked, over which API, and for how long a load is held."""

    model: str
    signature: str
    api: str
    asks: AskedWishes
    terms: Terms

    def of(self, server: RunningServer, progress: Progress) -> Callable[[int], Level]:
        """Makes the requests ready and waits for the first answers; what comes of it holds so many at once."""
        url = server.rest_url if self.api == REST else f"grpc://127.0.0.1:{server.grpc_port}"
        plan = plan_load_test(
            url, ModelSpec(self.model, None, "", self.signature), WITHOUT_FILES, self.asks, LoadWishes(), self.terms
        )
        with ticking(progress, "the first answer"):
            first_answers(plan.request, plan.asked, FIRST_ANSWER_S, Silent())

        def hold(at_once: int) -> Level:
            judge = plan.asked.judge if plan.asked.golden else None
            within = WithinProgress(progress, f"{at_once} at once")
            measured = measure(plan.request, Load(at_once), self.terms, within, judge=judge)
            if measured.interruption is not None:
                raise measured.interruption
            return measured.level

        return hold
