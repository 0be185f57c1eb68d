"""A caller's arrays as the types that a signature takes: what loses nothing is cast, the rest refused, unless forced.

NumPy makes float64 and int64 of plain numbers, while most models take float32 and int32. The rule for each number is
that of number_rules.py, whichever API carries it: what REST would let through as another number is refused as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu_serving.client.arrays import QUANTISED, STORED, WireArray, array_of, to_bfloat16
from npu_serving.client.data_types import BFLOAT16, BY_NAME, DataType
from npu_serving.client.errors import NotSentError
from npu_serving.client.model_types import Signature, TensorInfo
from npu_serving.client.number_rules import LARGEST, PRECISION_BITS, whole_range

_OWN_TYPES = (*QUANTISED, "DT_BFLOAT16")  # NumPy has the values, and not the types
_FORCE = "give values of that type, or force the cast with cast=True (--cast)"


@dataclass(frozen=True)
class CastInputs:
    """The inputs as they are sent, and a sentence for each that was cast."""

    values: Mapping[str, object]
    notes: tuple[str, ...] = ()


class SignatureFit:
    """What a signature takes, prepared so that arrays which are that already are found out at once."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._plain = {
            item.name: (STORED[BY_NAME[item.dtype]], item.shape)
            for item in signature.inputs
            if item.dtype in BY_NAME and BY_NAME[item.dtype] in STORED and item.dtype not in _OWN_TYPES
        }
        self._count = len(signature.inputs)

    def cast(self, inputs: Mapping[str, object], *, force: bool = False) -> CastInputs:
        """What cast_inputs() does."""
        if isinstance(inputs, dict) and len(inputs) == self._count:
            for name, value in inputs.items():
                plain = self._plain.get(name)
                if plain is None or type(value) is not np.ndarray or value.dtype != plain[0]:
                    break
                if plain[1] is not None and not _is_of_shape(value.shape, plain[1]):
                    break
            else:
                return CastInputs(inputs)
        return cast_inputs(self._signature, inputs, cast=force)


def _is_of_shape(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(of in (-1, size) for size, of in zip(shape, wanted))


def cast_inputs(signature: Signature, inputs: Mapping[str, object], *, cast: bool = False) -> CastInputs:
    """The inputs as the signature takes them. NotSentError, naming the input and the place, for what doesn't fit.

    `cast` forces what would lose something. Names, number of dimensions and sizes have to fit in any case.
    """
    if not isinstance(inputs, Mapping):
        raise NotSentError(
            "The inputs have no names.",
            cause=f"the signature {signature.name!r} takes {_takes(signature)}",
            cure='give each by its name, such as {"x": array}',
            reason="input-names",
        )
    by_name = {item.name: item for item in signature.inputs}
    unknown, missing = sorted(set(inputs) - set(by_name)), sorted(set(by_name) - set(inputs))
    if unknown or missing:
        what = f"has no input {unknown[0]!r}" if unknown else f"lacks the input {missing[0]!r}"
        raise NotSentError(
            f"The request {what}." if missing and not unknown else f"The signature {signature.name!r} {what}.",
            cause=f"the signature {signature.name!r} takes {_takes(signature)}; "
            f"given: {', '.join(map(repr, sorted(inputs))) or 'nothing'}",
            cure="give each of these inputs, by its name",
            reason="input-names",
        )
    found = {name: cast_input(by_name[name], value, cast=cast) for name, value in inputs.items()}
    return CastInputs(
        {name: value for name, (value, _) in found.items()}, tuple(note for _, note in found.values() if note)
    )


def cast_input(info: TensorInfo, value: object, *, cast: bool = False) -> tuple[object, str]:
    """One input as it is sent, and a sentence where its type is not what was given. NotSentError."""
    kind = BY_NAME.get(info.dtype)
    if kind is None or not kind.field:
        return value, ""
    if isinstance(value, WireArray):
        if value.dtype != info.dtype:
            raise _misfit(info, f"was given as {value.dtype}")
        _check_shape(info, np.shape(value.array))
        return value, ""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):  # type: ignore[no-untyped-call]
        raise _misfit(info, "has masked values, which no request can leave out", cure="give them: array.filled(VALUE)")
    array = value if type(value) is np.ndarray else _array(info, value)
    _check_shape(info, array.shape)
    if kind.is_text:
        if array.dtype.kind not in "OSUT":
            raise _misfit(info, f"was given as {array.dtype.name}, and takes texts or bytes")
        return array, ""
    stored = STORED[kind]
    if kind.code == BFLOAT16:
        if array.dtype.name == BFLOAT16:
            return array, ""
    elif array.dtype == stored or array.dtype.newbyteorder("<") == stored:
        return (WireArray(array, info.dtype) if kind.name in QUANTISED else array), ""
    sent = _forced(info, kind, array) if cast else _cast(info, kind, array)
    shown = BFLOAT16 if kind.code == BFLOAT16 else stored.name
    return sent, f"the input {info.name!r} was given as {array.dtype.name}, and is sent as {shown}"


def _array(info: TensorInfo, value: object) -> NDArray[Any]:
    try:
        return array_of(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise NotSentError(
            f"The input {info.name!r} is ragged, or not an array: {error}.",
            cause=f"the signature takes {info.text()}",
            cure="give rows of one length at each level",
            reason="ragged",
        ) from error


def _check_shape(info: TensorInfo, shape: tuple[int, ...]) -> None:
    wanted = info.shape
    if wanted is None or _is_of_shape(shape, wanted):
        return
    what = f"has the shape {list(shape)}"
    if len(wanted) == len(shape) + 1:
        what += ", without the dimension of the batch" if wanted[0] in (-1, 1) else ", with a dimension too few"
    raise _misfit(info, what, cure="give as many values as that; -1 stands for any number of them", reason="shape")


def _cast(info: TensorInfo, kind: DataType, array: NDArray[Any]) -> object:
    """The array in that type. NotSentError, with the place, for the first number that it doesn't hold."""
    given: str = array.dtype.kind
    if given == "O":
        _refuse_wide_numbers(info, array)
    is_possible = (
        (given in "iu" and kind.code != "?")
        or (given == "f" and kind.code != "?")
        or (given == "c" and kind.is_complex)
        or (array.dtype.name == BFLOAT16 and kind.is_real)
    )
    if not is_possible:
        wanted = "truth values" if kind.code == "?" else "numbers"
        what = "texts" if given in "OSUT" else array.dtype.name
        raise _misfit(info, f"{_first(array)}was given as {what}, and takes {wanted}", cure=_FORCE, reason="lossy")
    if not array.size:
        return _sent(kind, array)
    bad = _lost(kind, array)
    if bad is None or not bad.any():
        return _sent(kind, array)
    place = tuple(int(at) for at in np.unravel_index(int(np.argmax(bad)), array.shape))
    index = f" at {list(place)}" if place else ""
    raise NotSentError(
        f"The value {array[place]!s} of the input {info.name!r}{index} does not fit into {kind.name}.",
        cause=f"the signature takes {info.text()}",
        cure=_FORCE,
        reason="lossy",
    )


def _lost(kind: DataType, array: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Where the numbers would become others; None where none can."""
    if kind.code in PRECISION_BITS:
        if array.dtype.kind in "iu":
            return _inexact(kind, array)
        largest = LARGEST.get(kind.code)
        if largest is None or array.dtype.itemsize < STORED[kind].itemsize:
            return None
        parts = [array.real, array.imag] if array.dtype.kind == "c" else [array.astype(np.float64)]
        bad = np.zeros(array.shape, np.bool_)
        for part in parts:
            bad |= np.isfinite(part) & (np.abs(part) > largest)
        return bad
    lowest, highest = whole_range(kind)
    if array.dtype.kind in "iu":
        if int(array.min()) >= lowest and int(array.max()) <= highest:
            return None
        own = np.iinfo(array.dtype)
        bad = np.zeros(array.shape, np.bool_)
        if own.min < lowest:
            bad |= array < lowest
        if own.max > highest:
            bad |= array > highest
        return bad
    numbers = array.astype(np.float64)
    with np.errstate(invalid="ignore"):
        fits = (numbers == np.trunc(numbers)) & (numbers >= float(lowest)) & (numbers < float(highest + 1))
    bad = np.ones(array.shape, np.bool_)
    bad[fits] = False
    return bad


def _inexact(kind: DataType, array: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Which whole numbers the type rounds: those with more bits between the first 1 and the last than it has."""
    bits = PRECISION_BITS[kind.code]
    if max(abs(int(array.min())), abs(int(array.max()))) <= 1 << bits:
        return None
    signed = array.dtype.kind == "i"
    wide = array.astype(np.int64) if signed else array
    size = np.where(wide < 0, np.uint64(0) - wide.astype(np.uint64), wide.astype(np.uint64)) if signed else wide
    size = size.astype(np.uint64)
    lowest_bit = np.maximum(size & (np.uint64(0) - size), np.uint64(1))
    bad: NDArray[np.bool_] = size // lowest_bit >= np.uint64(1 << bits)
    if kind.code == "e":
        bad |= size > np.uint64(int(LARGEST["e"]))
    return bad


def _refuse_wide_numbers(info: TensorInfo, array: NDArray[Any]) -> None:
    """NotSentError for whole numbers of which NumPy makes objects, as it has no type for them."""
    items = array.reshape(-1).tolist()
    if items and all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in items):
        raise _misfit(info, f"has a whole number of more than 64 bits: {max(items, key=abs)}", reason="lossy")


def _first(array: NDArray[Any]) -> str:
    """The first value, for an error about what all of them are."""
    if not array.size:
        return ""
    shown = repr(array.reshape(-1)[0].item() if array.dtype.kind != "O" else array.reshape(-1)[0])
    return f"({shown if len(shown) <= 40 else shown[:37] + '...'}) "


def _forced(info: TensorInfo, kind: DataType, array: NDArray[Any]) -> object:
    try:
        with np.errstate(all="ignore"):
            if kind.code == BFLOAT16 or (array.dtype.kind == "c" and not kind.is_complex):
                return _sent(kind, array.real.astype(np.float32) if kind.code == BFLOAT16 else array.real)
            return _sent(kind, array)
    except (ValueError, TypeError, OverflowError) as error:
        raise _misfit(info, f"can't be cast: {error}", cure="give values of that type", reason="lossy") from error


def _sent(kind: DataType, array: NDArray[Any]) -> object:
    if kind.code == BFLOAT16:
        return WireArray(to_bfloat16(array.astype(np.float32)), kind.name)
    with np.errstate(all="ignore"):
        cast = array.astype(STORED[kind])
    return WireArray(cast, kind.name) if kind.name in QUANTISED else cast


def _misfit(info: TensorInfo, what: str, *, cure: str = "", reason: str = "dtype") -> NotSentError:
    return NotSentError(
        f"The input {info.name!r} {what}.",
        cause=f"the signature takes {info.text()}",
        cure=cure or "give values of that type",
        reason=reason,
    )


def _takes(signature: Signature) -> str:
    return "; ".join(item.text() for item in signature.inputs) or "no inputs"
