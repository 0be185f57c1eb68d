"""Scores of classes: which output has them, the best of each row, and how often the right one is among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu_serving.asking.label_files import Labels
from npu_serving.client.model_types import Signature, TensorInfo
from npu_serving.errors import RequestError

_SCORES = ("DT_FLOAT", "DT_DOUBLE", "DT_HALF", "DT_BFLOAT16")


@dataclass(frozen=True)
class ScoredClass:
    """One class of one row: its number, its name ("" where no label file says it), and its score."""

    number: int
    name: str
    score: float

    def to_json(self) -> dict[str, object]:
        """The class as `--json` shows it."""
        return {"class": self.number, "name": self.name, "score": self.score}


def scores_output(signature: Signature, chosen: str) -> str:
    """The output with the scores of the classes: the one that was named, or the only one that can have them.

    RequestError where there is none, and where there are several.
    """
    names = [info.name for info in signature.outputs]
    if chosen:
        if chosen not in names:
            raise RequestError(
                f"The signature {signature.name!r} has no output {chosen!r}.",
                cause=f"its outputs are {'; '.join(info.text() for info in signature.outputs)}",
                cure="name one of these: --scores NAME",
            )
        return chosen
    fit = [info.name for info in signature.outputs if _may_have_scores(info)]
    if len(fit) != 1:
        what = "None of the outputs" if not fit else f"More than one of the outputs ({', '.join(fit)})"
        raise RequestError(
            f"{what} can have the scores of the classes.",
            cause=f"the signature answers with {'; '.join(info.text() for info in signature.outputs) or 'nothing'}",
            cure="name the one that has them: --scores NAME" if names else "leave out --top-k and --labels",
        )
    return fit[0]


def rows_of_scores(name: str, output: NDArray[Any]) -> NDArray[np.float64]:
    """The scores, [rows, classes]: dimensions of one within a row are left out, as of [N, 1, 1, 1001].

    RequestError where a row has more dimensions than that.
    """
    inner = [size for size in output.shape[1:] if size != 1] or [1]
    if not output.ndim or len(inner) != 1 or output.dtype.kind not in "fiu":
        raise RequestError(
            f"The output {name!r} has no scores of classes: it is {output.dtype.name} {list(output.shape)}.",
            cause="scores are one number for each class, in each row",
            cure="name another output: --scores NAME, or leave out --top-k and --labels",
        )
    return output.reshape(output.shape[0], inner[0]).astype(np.float64)


def best_classes(scores: NDArray[np.float64], count: int, labels: Labels) -> list[tuple[ScoredClass, ...]]:
    """The classes of the highest scores, for each row, the highest first; of equal ones the lower number first."""
    placed = np.argsort(np.where(np.isnan(scores), np.inf, -scores), axis=1, kind="stable")[:, :count]
    return [
        tuple(ScoredClass(int(at), labels.name(int(at)), float(row[at])) for at in best)
        for row, best in zip(scores, placed)
    ]


def hits(scores: NDArray[np.float64], right: Sequence[int], count: int) -> NDArray[np.bool_]:
    """For each row whether the right class is among the first `count`, as TensorFlow's in_top_k has it.

    A class with the score of the last of them counts as one of them, and one whose score is NaN does not.
    """
    own = scores[np.arange(len(scores)), list(right)][:, None]
    with np.errstate(invalid="ignore"):
        better = (scores > own).sum(axis=1)
    return np.asarray((better < count) & np.isfinite(own[:, 0]))


def _may_have_scores(info: TensorInfo) -> bool:
    inner = [size for size in (info.shape or (-1, -1))[1:] if size != 1]
    return info.dtype in _SCORES and len(inner) == 1
