"""What a model answered: arrays by name, the classes of examples, or a value for each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from npu_serving.client.example_types import ScoredLabel


@dataclass(frozen=True, eq=False)
class Prediction:
    """The outputs of a model by name, with all their rows; `prediction["name"]` is one of them.

    Arrays may be views of the answer's bytes, which can't be written to: `array.copy()` can.
    """

    outputs: Mapping[str, NDArray[Any]]
    model: str
    version: int | None
    """The version that answered; None where the server does not say it (REST)."""
    signature: str
    seconds: float
    """From sending the request to having its answer."""
    notes: tuple[str, ...] = ()
    """A sentence for each input that was sent as a different type from what it was given in."""

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.outputs[name]


@dataclass(frozen=True)
class Classification:
    """The classes of each example, with their scores, in the order in which the model gives them."""

    classes: tuple[tuple[ScoredLabel, ...], ...]
    model: str
    version: int | None
    signature: str
    seconds: float


@dataclass(frozen=True, eq=False)
class Regression:
    """A value for each example, as float32."""

    values: NDArray[Any]
    model: str
    version: int | None
    signature: str
    seconds: float
