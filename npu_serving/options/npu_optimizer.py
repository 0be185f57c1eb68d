"""NpuOptimizer's entry in a platform config: what TF Adapter makes of it in silence, said before a server is started.

Nothing is registered under that name: TF Adapter looks for it in the session's custom optimizers itself, and a name
that is not exactly this one is silently passed over. `use_off_line` decides whether models go to the NPU. It is
read from the field `b` of its value, whatever field is set, so any other one reads as false; without it, true counts
(tf_adapter/util/npu_attrs.cc, alike in all releases).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from npu_serving.errors import RequestError

OPTIMIZER = "NpuOptimizer"
SWITCH = "use_off_line"
_NEAR = 0.85  # of what is in either; 0.75 would take any name that ends in Optimizer
_TRUE = {"true", "True", "t", "1", "0x1", "01"}  # what text format takes for a bool
_EFFECT = "the server would say nothing, and every model would be served by the CPU"


@dataclass(frozen=True)
class OptimizerParameter:
    """The value of an option: which field of the AttrValue is set ("" for none), its text, and where it stands."""

    kind: str
    text: str
    place: str

    @property
    def value(self) -> bool | int | str | None:
        """The value as TF Adapter may read it; None for a field that it reads no option from."""
        if self.kind == "b":
            return self.text in _TRUE
        if self.kind == "s":
            return self.text[1:-1]
        if self.kind != "i" or re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|[0-9]{1,19})", self.text, re.ASCII) is None:
            return None
        sign, digits = (-1, self.text[1:]) if self.text.startswith("-") else (1, self.text)
        octal = len(digits) > 1 and digits.isdigit() and digits[0] == "0" and not set(digits) & set("89")
        return sign * int(digits, 8 if octal else 16 if digits[:2] in ("0x", "0X") else 10)


def asks_for_npu(name: str, place: str, parameters: Mapping[str, OptimizerParameter]) -> bool:
    """Whether a custom optimizer of that name has models run on the NPU; `place` is FILE:LINE.

    RequestError for a name that is meant to be NpuOptimizer and isn't, and for a switch that the adapter would misread.
    """
    if name != OPTIMIZER:
        if _is_near(name, OPTIMIZER) or name.casefold().startswith("npu"):
            raise RequestError(
                f"{place}: the optimizer is called {name!r}, not {OPTIMIZER!r}.",
                cause=f"it was mistyped: {_EFFECT}",
                cure=f'write name: "{OPTIMIZER}"',
            )
        return False
    for other, value in parameters.items():
        if other != SWITCH and _is_near(other, SWITCH):
            raise RequestError(
                f"{value.place}: NpuOptimizer has no option {other!r}.",
                cause="it was mistyped: the adapter silently passes over an option that it doesn't know",
                cure=f'write key: "{SWITCH}"',
            )
    switch = parameters.get(SWITCH)
    if switch is None:
        return True
    if switch.kind != "b":
        written = f"{switch.kind}: {switch.text}" if switch.kind else "nothing"
        raise RequestError(
            f"{switch.place}: {SWITCH} is given as {written}, not as b.",
            cause=f"the adapter reads only b, and takes anything else for false: {_EFFECT}",
            cure="write value { b: true }",
        )
    return switch.text in _TRUE


def _is_near(name: str, wanted: str) -> bool:
    plain, other = (re.sub(r"[^a-z0-9]", "", text.casefold()) for text in (name, wanted))
    return plain == other or difflib.SequenceMatcher(None, plain, other).ratio() >= _NEAR
