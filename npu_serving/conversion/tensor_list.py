"""The lists of tensors that a person types for a signature: `input:0;mask=ids/mask:0[-1,128]`.

The guide's script separates names with `;`; a comma will do as well. The key that clients use is what was typed, as in
the guide's signatures, where no other stands before `=`; a shape in brackets takes the place of the graph's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from npu_serving.errors import RequestError
from npu_serving.models.attribute_values import MOST_DIMENSIONS, Shape

_ITEM = re.compile(r"(?:(?P<key>[^=\[\]]+)=)?(?P<name>[^=\[\]:]+)(?::(?P<number>[0-9]{1,7}))?\s*(?P<shape>\[.*\])?\Z")
_SIZES = {"?": -1, "None": -1, "-1": -1}
_LARGEST_SIZE = 2**63 - 1


@dataclass(frozen=True)
class NamedTensor:
    """A tensor NODE:NUMBER, the key that clients name it by, and its shape where one was typed."""

    key: str
    tensor: str
    shape: Shape = None
    has_shape: bool = False


def named_tensors(texts: Iterable[str], flag: str) -> tuple[NamedTensor, ...]:
    """What was typed for a flag. RequestError for what can't be read, and a key that stands there twice."""
    found = tuple(_tensor(item, flag) for text in texts for item in _items(text))
    keys = [each.key for each in found]
    for each in found:
        if keys.count(each.key) > 1:
            raise RequestError(
                f"{flag} has {each.key} twice.",
                cause="clients name each tensor by a key of its own",
                cure=f'give one another key, such as {flag} "{each.key}={found[0].tensor};other={each.tensor}"',
            )
    return found


def shape_text(shape: Shape) -> str:
    """A shape as it is typed behind a name."""
    return "" if shape is None else f"[{','.join(map(str, shape))}]"


def _items(text: str) -> list[str]:
    """The parts between `;` and `,`, but for the commas within brackets; one that is empty at the end is left out."""
    items = re.split(r"[;,](?![^\[\]]*\])", text)
    return [item.strip() for item in items if item.strip()]


def _tensor(item: str, flag: str) -> NamedTensor:
    match = _ITEM.match(item)
    name = match.group("name").strip() if match else ""
    if match is None or not name:
        raise RequestError(
            f"{flag} has {item!r}, which is not the name of a tensor.",
            cause='a tensor is written as NODE:0, KEY=NODE:0 or NODE:0[1,224,224,3], several with ";" between them',
            cure=f'write it like {flag} "input:0;ids=embedding/ids:0[-1,128]"',
        )
    number, brackets = match.group("number"), match.group("shape")
    typed = name if number is None else f"{name}:{int(number)}"
    key = (match.group("key") or "").strip() or typed
    shape = _shape(brackets[1:-1], item, flag) if brackets else None
    return NamedTensor(key, f"{name}:{int(number or 0)}", shape, has_shape=bool(brackets))


def _shape(text: str, item: str, flag: str) -> Shape:
    sizes = [each.strip() for each in text.split(",")] if text.strip() else []
    numbers = [_SIZES.get(size, int(size) if re.fullmatch("[0-9]{1,19}", size) else None) for size in sizes]
    if None in numbers or len(numbers) > MOST_DIMENSIONS or max((n or 0 for n in numbers), default=0) > _LARGEST_SIZE:
        raise RequestError(
            f"{flag} has {item!r}, whose shape can't be read.",
            cause="a shape is a list of whole numbers, with -1 for a size that each request may choose",
            cure=f'write it like {flag} "{item.partition("[")[0]}[-1,224,224,3]"',
        )
    return tuple(number for number in numbers if number is not None)
