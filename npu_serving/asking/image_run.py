"""Images in batches to a model: what it says of each, how often that is right, and how fast it is.

The times are those of the requests alone. The first batch stands apart, because the server may compile the model then,
and images that only fill up the last batch are counted nowhere. While a batch is asked, the next ones are decoded.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from npu_serving.asking.answers import strict
from npu_serving.asking.array_prediction import class_table, milliseconds, plain_values, shown_outputs
from npu_serving.asking.array_server import ArrayServer
from npu_serving.asking.class_scores import ScoredClass, best_classes, hits, rows_of_scores, scores_output
from npu_serving.asking.image_inputs import ImageInput
from npu_serving.asking.label_files import Labels
from npu_serving.asking.waiting import reason_shown
from npu_serving.client.model_types import Signature
from npu_serving.console import Reporter, table
from npu_serving.errors import EXIT_ACTION_NEEDED, NpuServingError, RequestError
from npu_serving.shown_text import in_a_line

_MOST_DECODERS = 4
_SHOWN_IMAGES, _SHOWN_FAILURES = 20, 10


@dataclass(frozen=True)
class ImageAnswer:
    """What was said of one image; `right` is its class by the label file, None without one."""

    image: Path
    best: tuple[ScoredClass, ...] = ()
    right: int | None = None

    def to_json(self) -> dict[str, object]:
        """The answer as `--json` shows it."""
        return {
            "image": str(self.image),
            **({"top": [each.to_json() for each in self.best]} if self.best else {}),
            **({"label": self.right} if self.right is not None else {}),
        }


@dataclass(frozen=True)
class Accuracy:
    """Of how many images the right class was the best one, and among the best `most`."""

    images: int
    first: int
    among: int
    most: int

    def to_json(self) -> dict[str, object]:
        """The counts, and the shares."""
        counted = max(self.images, 1)
        return {
            "images": self.images,
            "top1": self.first / counted,
            "top1_right": self.first,
            f"top{self.most}": self.among / counted,
            f"top{self.most}_right": self.among,
        }

    def text(self) -> str:
        """Both shares in one line."""
        shares = [(1, self.first), (self.most, self.among)] if self.most > 1 else [(1, self.first)]
        return ", ".join(
            f"top-{most} {right / max(self.images, 1):.2%} ({right:,} of {self.images:,})" for most, right in shares
        )


@dataclass(frozen=True)
class BatchTimes:
    """How long the requests took. `later_images` and `later_seconds` are those of all batches but the first."""

    batch_size: int
    batches: int = 0
    filled_up: int = 0
    first_seconds: float = 0.0
    later_images: int = 0
    later_seconds: float = 0.0

    @property
    def images_per_second(self) -> float | None:
        """By all batches but the first; None where there was one alone."""
        return self.later_images / self.later_seconds if self.later_seconds > 0 else None

    def to_json(self) -> dict[str, object]:
        """The times as `--json` shows them."""
        rate = self.images_per_second
        return {
            "batch_size": self.batch_size,
            "batches": self.batches,
            "filled_up": self.filled_up,
            "first_batch_seconds": round(self.first_seconds, 6),
            "later_images": self.later_images,
            "later_seconds": round(self.later_seconds, 6),
            "images_per_second": None if rate is None else round(rate, 3),
        }

    def text(self) -> str:
        """The first batch, and the rate of the others."""
        rate = self.images_per_second
        first = f"first batch {milliseconds(self.first_seconds)}"
        if rate is None:
            return f"{first}; it was the only one and may have compiled the model, so there is no rate"
        return (
            f"{first}, which may have compiled the model; the others {rate:,.1f} images per second "
            f"({self.later_images:,} in {milliseconds(self.later_seconds)})"
        )


@dataclass(frozen=True)
class ImageRun:
    """All of a run. `failed` has each image that could not be decoded, with the reason."""

    model: str
    version: int | None
    answers: tuple[ImageAnswer, ...]
    times: BatchTimes
    failed: tuple[tuple[Path, str], ...] = ()
    passed_over: int = 0
    """Files of the directories that are not called as images are, and directories within them."""
    accuracy: Accuracy | None = None
    outputs: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """A row for each answer, where they were wanted."""
    inputs: Mapping[str, object] = field(default_factory=dict)
    """What the only batch was, where there was one alone."""
    whole_outputs: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """The answer to that batch, with what filled it up."""
    is_data: ClassVar[bool] = True

    @property
    def exit_code(self) -> int:
        """3 where an image could not be decoded: the figures are not of all of them."""
        return EXIT_ACTION_NEEDED if self.failed else 0

    def to_json(self) -> dict[str, object]:
        """The run as `--json` shows it."""
        return {
            "model": self.model,
            "version": self.version,
            "images": [answer.to_json() for answer in self.answers],
            "failed": [{"image": str(image), "why": why} for image, why in self.failed],
            "passed_over": self.passed_over,
            **({"accuracy": self.accuracy.to_json()} if self.accuracy is not None else {}),
            **(
                {"outputs": {name: strict(plain_values(each)) for name, each in self.outputs.items()}}
                if self.outputs
                else {}
            ),
            **self.times.to_json(),
        }

    def text(self) -> str:
        """What was said of the first images, and the figures of all."""
        shown = self.answers[:_SHOWN_IMAGES]
        names = [in_a_line(answer.image.name) for answer in shown]
        if any(answer.best for answer in shown):
            lines = [_marked_table(shown, names)]
        else:
            lines = [shown_outputs(self.outputs)] if self.outputs else [table([(name,) for name in names])]
        if len(self.answers) > len(shown) and shown[0].best:
            lines.append(f"... and {len(self.answers) - len(shown):,} more; --json has all of them")
        lines += [f"not decoded: {in_a_line(why)}" for _, why in self.failed[:_SHOWN_FAILURES]]
        times = self.times
        filled = f", the last one filled up by {times.filled_up} that are not counted" if times.filled_up else ""
        images = "1 image" if len(self.answers) == 1 else f"{len(self.answers):,} images"
        batches = "1 batch" if times.batches == 1 else f"{times.batches:,} batches"
        failed = f"; {len(self.failed)} could not be decoded" if self.failed else ""
        passed = f"; {self.passed_over} other files were passed over" if self.passed_over else ""
        lines.append(f"{images} in {batches} of {times.batch_size}{filled}{failed}{passed}")
        if self.accuracy is not None:
            lines.append(self.accuracy.text())
        version = "" if self.version is None else f" version {self.version}"
        return "\n".join([*lines, times.text(), f"({self.model}{version})"])


@dataclass(frozen=True)
class ImageWork:
    """What is asked, and what is wanted of the answers."""

    images: tuple[Path, ...]
    taken: ImageInput
    batch_size: int
    labels: Labels
    top: int = 0
    """How many classes of each image; 0 where the outputs are wanted as they are, and never with label files."""
    scores: str = ""
    passed_over: int = 0
    keep_outputs: bool = False


def ask_images(server: ArrayServer, model: str, plan: ImageWork, reporter: Reporter) -> ImageRun:
    """Asks for all of the images. One that can't be decoded is left out and reported; a refused batch ends the run.

    RequestError where none can be decoded, where an image has no label, and where the answer is not one row for each.
    """
    right = plan.labels.classes_of(plan.images) if plan.labels.of_images else []
    run = _Run(server.signature, plan, dict(zip(plan.images, right)))
    with reporter.progress(f"asking {model}", total=len(plan.images), unit="images") as progress:
        for paths, batch in run.batches():
            progress.update(run.done)
            begun = time.monotonic()
            with reason_shown(progress, run.done):
                answered = server.ask({plan.taken.name: batch})
            run.add(paths, answered.outputs, answered.version, time.monotonic() - begun)
            if run.count == 1:
                run.first = {plan.taken.name: batch}, answered.outputs
    return run.result(model)


class _Run:
    """What has been answered so far."""

    def __init__(self, signature: Signature, plan: ImageWork, right: Mapping[Path, int]) -> None:
        self.done = self.count = self.first_right = self.among_right = self._filled_up = self._later = 0
        self.first: tuple[Mapping[str, object], Mapping[str, NDArray[Any]]] = ({}, {})
        self._plan = plan
        self._right = right
        self._scores = scores_output(signature, plan.scores) if plan.top else ""
        self._version: int | None = None
        self._seconds: list[float] = []
        self._answers: list[ImageAnswer] = []
        self._failed: list[tuple[Path, str]] = []
        self._errors: list[NpuServingError] = []
        self._outputs: list[Mapping[str, NDArray[Any]]] = []

    def batches(self) -> Iterator[tuple[list[Path], NDArray[Any]]]:
        """The images of each batch, and their values, filled up to the batch's size."""
        plan, waiting = self._plan, iter(self._plan.images)
        ahead: collections.deque[tuple[Path, Future[NDArray[Any]]]] = collections.deque()
        paths: list[Path] = []
        values: list[NDArray[Any]] = []
        with ThreadPoolExecutor(_MOST_DECODERS) as decoders:
            try:
                while True:
                    while len(ahead) < 2 * plan.batch_size + _MOST_DECODERS:
                        path = next(waiting, None)
                        if path is None:
                            break
                        ahead.append((path, decoders.submit(plan.taken.values_of, path)))
                    if not ahead:
                        break
                    path, future = ahead.popleft()
                    try:
                        value = future.result()
                        if values and value.shape != values[0].shape:
                            raise _of_another_size(path, value, paths[0], values[0])
                    except NpuServingError as error:
                        self._failed.append((path, error.what))
                        self._errors.append(error)
                        self.done += 1
                        continue
                    paths.append(path)
                    values.append(value)
                    if len(paths) == plan.batch_size:
                        yield paths, plan.taken.batch(values, plan.batch_size)
                        paths, values = [], []
                if paths:
                    self._filled_up = plan.batch_size - len(paths)
                    yield paths, plan.taken.batch(values, plan.batch_size)
            finally:
                for _, future in ahead:
                    future.cancel()

    def add(
        self, paths: Sequence[Path], outputs: Mapping[str, NDArray[Any]], version: int | None, seconds: float
    ) -> None:
        """Takes the answer to one batch, without what only filled it up."""
        plan = self._plan
        for name, output in outputs.items():
            if not output.ndim or output.shape[0] != plan.batch_size:
                raise RequestError(
                    f"The output {name!r} of {list(output.shape)} has not a row for each of {plan.batch_size} images.",
                    cause="the model puts a batch together, or cuts it",
                    cure="ask for one image at a time: --batch-size 1",
                )
        own = {name: output[: len(paths)] for name, output in outputs.items()}
        best: list[tuple[ScoredClass, ...]] = [()] * len(paths)
        right = [self._right.get(path) for path in paths]
        if self._scores:
            scores = rows_of_scores(self._scores, own[self._scores])
            plan.labels.check(scores.shape[1])
            best = best_classes(scores, plan.top, plan.labels)
            known = [number for number in right if number is not None]
            if known:
                self.first_right += sum(row[0].number == number for row, number in zip(best, known))
                self.among_right += int(hits(scores, known, plan.top).sum())
        self._answers += [ImageAnswer(*each) for each in zip(paths, best, right)]
        if plan.keep_outputs:
            self._outputs.append(own)
        if self.count:
            self._later += len(paths)
        self._version = version
        self._seconds.append(seconds)
        self.count += 1
        self.done += len(paths)

    def result(self, model: str) -> ImageRun:
        """The whole run."""
        plan = self._plan
        if not self._answers:
            first = self._errors[0]
            many = f" So it is with all of the {len(self._failed)} images." if len(self._failed) > 1 else ""
            raise RequestError(first.what + many, cause=first.cause, cure=first.cure)
        names = self._outputs[0] if self._outputs else ()
        return ImageRun(
            model,
            self._version,
            tuple(self._answers),
            BatchTimes(
                plan.batch_size,
                self.count,
                self._filled_up,
                self._seconds[0],
                self._later,
                sum(self._seconds[1:]),
            ),
            tuple(self._failed),
            plan.passed_over,
            Accuracy(len(self._answers), self.first_right, self.among_right, plan.top) if self._right else None,
            {name: np.concatenate([each[name] for each in self._outputs]) for name in names},
            *(self.first if self.count == 1 else ({}, {})),
        )


def _of_another_size(path: Path, value: NDArray[Any], first: Path, of_first: NDArray[Any]) -> RequestError:
    return RequestError(
        f"{path} is of {list(value.shape)}, and {first} in the same batch of {list(of_first.shape)}.",
        cause="neither the model nor the image spec says which size images are to have",
        cure="give size in the image spec, or ask for one at a time: --batch-size 1",
    )


def _marked_table(answers: Sequence[ImageAnswer], names: Sequence[str]) -> str:
    """The best classes; beside a label file only the best one, and the right one where that is another."""
    if all(answer.right is None for answer in answers):
        return class_table(names, [answer.best for answer in answers], "IMAGE")
    rows: list[tuple[str, ...]] = []
    for name, answer in zip(names, answers):
        best = answer.best[0]
        place = next((at for at, each in enumerate(answer.best, 1) if each.number == answer.right), 0)
        verdict = "right" if place == 1 else f"{answer.right} is right" + (f", place {place}" if place else "")
        rows.append((name, str(best.number), best.name, f"{best.score:.6g}", verdict))
    return table(rows, header=("IMAGE", "CLASS", "NAME", "SCORE", ""))
