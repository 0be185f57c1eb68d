"""What `tune` turns: batching, requests that run at the same time on the NPU, gears; and all combinations of them.

A setting is what is written into a deployment, so that what was measured is what the file says afterwards.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from npu_serving.deploy.deployment_file import DeploymentFile
from npu_serving.deploy.deployment_sections import BatchingOptions
from npu_serving.errors import RequestError
from npu_serving.shown_text import in_a_line

OFF = "off"
"""In place of a batch size: each request runs on its own."""
STREAMS, GEARS = "graph_max_parallel_model_num", "dynamic_dims"
"""The session options: how many requests a graph runs at the same time, and the gears of its open dimensions."""
MOST_SETTINGS = 500
_MOST = 2**31 - 1

Steps = tuple["str | int", ...]


@dataclass(frozen=True)
class Knobs:
    """The values that are tried of each; of one without values the deployment's own counts.

    Sizes in rows, 0 for no batching; times in microseconds; gears as the option dynamic_dims has them.
    """

    batch_sizes: tuple[int, ...] = ()
    batch_timeouts: tuple[int, ...] = ()
    batch_threads: tuple[int, ...] = ()
    streams: tuple[int, ...] = ()
    gears: tuple[str, ...] = ()

    @property
    def are_given(self) -> bool:
        """Whether any has values."""
        return any((self.batch_sizes, self.batch_timeouts, self.batch_threads, self.streams, self.gears))


@dataclass(frozen=True)
class TunedSetting:
    """One combination: what it is called, by knob, and what is set in the deployment, by key path."""

    shown: tuple[tuple[str, str], ...]
    values: tuple[tuple[Steps, Any], ...]

    @property
    def text(self) -> str:
        """For a person: `batch size 8, batch timeout 2000`."""
        return ", ".join(f"{name} {value}" for name, value in self.shown) or "as the deployment is"

    @property
    def flags(self) -> tuple[str, ...]:
        """The values as --set takes them."""
        return tuple(
            ".".join(re.sub(r"([.\\=])", r"\\\1", str(step)) for step in steps) + f"={json.dumps(value)}"
            for steps, value in self.values
        )


def numbers(text: str, flag: str, *, least: int, off: bool = False) -> tuple[int, ...]:
    """The numbers of a list such as 1,4,16, each once; 0 for `off` where that is allowed. RequestError for others."""
    found = []
    for word in text.split(",") if text else ():
        word = word.strip()
        if off and word == OFF:
            found.append(0)
            continue
        if not word.isascii() or not word.isdecimal() or len(word) > 10 or not least <= int(word) <= _MOST:
            also = f", or {OFF} for no batching" if off else ""
            raise RequestError(
                f"{flag} can't be {text!r}: {word!r} is not a whole number from {least} to {_MOST}{also}.",
                cure=f"write the values that are to be tried, such as {flag} {'off,' if off else ''}1,4,16",
            )
        found.append(int(word))
    return tuple(dict.fromkeys(found))


def settings_of(deployment: DeploymentFile, index: int, knobs: Knobs) -> tuple[TunedSetting, ...]:
    """Every combination for the model with that index; those that would be the same deployment once.

    RequestError where a knob has nothing to turn: gears of a model without open dimensions, streams without an NPU.
    """
    model = deployment.models[index]
    npu = deployment.npu_of(model)
    if (knobs.streams or knobs.gears) and npu is None:
        raise RequestError(
            f"The CPU serves {model.name}: --streams and --gears are options of the NPU.",
            cure="leave them out, or give the deployment npu: {}",
        )
    if knobs.gears and "input_shape" not in (npu or {}):
        raise RequestError(
            f"{model.name} has no input_shape in the deployment: nothing says which dimensions the gears are of.",
            cure="write npu.input_shape and npu.dynamic_dims first; ./inv explain dynamic_dims says how",
        )
    found: dict[str, TunedSetting] = {}
    for size, timeout, threads, streams, gears in itertools.product(
        knobs.batch_sizes or (None,),
        knobs.batch_timeouts or (None,),
        knobs.batch_threads or (None,),
        knobs.streams or (None,),
        knobs.gears or (None,),
    ):
        batching = _Batching(deployment, index, size, timeout, threads, gears)
        shown = [*batching.shown(), *_named((("streams", streams), ("gears", gears)))]
        at = place_of_options(deployment, index)
        values = [
            *batching.values(),
            *(((*at, name), value) for name, value in ((STREAMS, streams), (GEARS, gears)) if value),
        ]
        found.setdefault(repr(values), TunedSetting(tuple(shown), tuple(values)))
    if len(found) > MOST_SETTINGS:
        raise RequestError(
            f"These are {len(found)} combinations, and a server would be started for each.",
            cure=f"give fewer values: {MOST_SETTINGS} combinations are the most",
        )
    return tuple(found.values())


@dataclass(frozen=True)
class _Batching:
    """The batching of one setting; None for what the deployment says itself."""

    deployment: DeploymentFile
    index: int
    size: int | None
    timeout: int | None
    threads: int | None
    gears: str | None

    @property
    def _own(self) -> BatchingOptions | None:
        return self.deployment.batching_of(self.deployment.models[self.index])

    @property
    def _is_off(self) -> bool:
        return self.size == 0 or (self.size is None and self._own is None)

    @property
    def _place(self) -> Steps:
        """Where it stands, or is to stand: with the model where others are served beside it, or it has its own."""
        model = self.deployment.models[self.index]
        has_own = isinstance(model.batching, BatchingOptions)
        return (
            ("models", self.index, "batching") if has_own or len(self.deployment.models) > 1 else ("server", "batching")
        )

    def shown(self) -> Iterator[tuple[str, str]]:
        if self.size is not None:
            yield "batch size", OFF if self.size == 0 else str(self.size)
        if not self._is_off:
            yield from _named((("batch timeout", self.timeout), ("batch threads", self.threads)))

    def values(self) -> Iterator[tuple[Steps, Any]]:
        model = self.deployment.models[self.index]
        if self._is_off:
            if self._own is not None:
                yield ("models", self.index, "batching"), False
            return
        place = self._place
        if model.batching is False:  # beside a server with batching: what stands there is no mapping
            yield ("models", self.index, "batching"), {}
            place = ("models", self.index, "batching")
        for name, value in (
            ("max_batch_size", self.size),
            ("allowed_batch_sizes", self._allowed()),
            ("batch_timeout_micros", self.timeout),
            ("num_batch_threads", self.threads),
        ):
            if value is not None:
                yield (*place, name), value

    def _allowed(self) -> list[int] | None:
        """The sizes that a batch is filled up to: the gears where these are sizes, and the greatest last."""
        own = self._own
        known = list(own.allowed_batch_sizes) if own is not None else []
        if self.gears is not None and all(gear.strip().isdecimal() for gear in self.gears.split(";")):
            known = sorted({int(gear) for gear in self.gears.split(";")})
            if self.size is None and own is not None and own.max_batch_size != known[-1]:
                return None
        elif self.size is None or not known:
            return None
        size = self.size or known[-1]
        return [*(item for item in known if item < size), size]


def index_of_model(deployment: DeploymentFile, model: str) -> int:
    """The place of the model of that name, or of the only one where it is ""; RequestError where there is none."""
    names = [each.name for each in deployment.models]
    if not model and len(names) == 1:
        return 0
    if model in names:
        return names.index(model)
    which = f"has no model {in_a_line(model)!r}" if model else f"has {len(names)} models"
    raise RequestError(f"The deployment {which}.", cure=f"name one: --model {names[0]}")


def place_of_options(deployment: DeploymentFile, index: int) -> Steps:
    """Where a session option is to stand: with the model where others are served beside it, or it has its own."""
    own = deployment.models[index].npu
    return ("models", index, "npu") if len(deployment.models) > 1 or isinstance(own, Mapping) else ("npu",)


def _named(pairs: Sequence[tuple[str, object]]) -> Iterator[tuple[str, str]]:
    return ((name, str(value)) for name, value in pairs if value is not None)
