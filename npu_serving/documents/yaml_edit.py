"""Values set in a YAML text that a person has written: the lines that are not concerned stay as they are.

The edited text is read again and has to say what was meant, or nothing is edited: an anchor, a tag or a comma more can
make another document of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from npu_serving.documents.syntax import YAML, UnreadableError, parse
from npu_serving.writers.yaml import yaml_block

if TYPE_CHECKING:
    import yaml

Steps = tuple["str | int", ...]
_NULL = "tag:yaml.org,2002:null"


class UneditableError(ValueError):
    """The text can't be edited without changing more than was asked."""


def edited(text: str, values: Mapping[Steps, object]) -> str:
    """The text with these values, by the keys and places that lead to them; what leads there is made where it lacks.

    Raises UneditableError for a text that is not a YAML mapping, for places in it that are neither mapping nor list,
    and where the edit would change anything else, as where a value has an anchor that is used elsewhere.
    """
    try:
        plain, troubles = parse(text, YAML)
    except UnreadableError as error:
        raise UneditableError("it is not YAML") from error
    if troubles or not isinstance(plain, dict):
        raise UneditableError("it is not a mapping without mistakes")
    wanted: Any = plain
    for path, value in values.items():
        wanted = _with(wanted, path, value)
        text = _set(text, path, value)
    try:
        result, troubles = parse(text, YAML)
    except UnreadableError as error:
        raise UneditableError("its notation is not one that can be edited") from error
    if troubles or result != wanted:
        raise UneditableError("its notation is not one that can be edited")
    return text


def _with(document: Any, path: Steps, value: object) -> Any:
    """A copy with that value; what an alias stands for is changed in this place alone."""
    if not path:
        return value
    step = path[0]
    if document is None or isinstance(document, dict):
        known = document or {}
        return {**known, step: _with(known.get(step), path[1:], value)}
    if isinstance(document, list) and isinstance(step, int) and 0 <= step < len(document):
        return [_with(item, path[1:], value) if at == step else item for at, item in enumerate(document)]
    raise UneditableError(f"{step} can't be put where no mapping is")


def _set(text: str, path: Steps, value: object) -> str:
    import yaml

    node = yaml.compose(text, Loader=yaml.SafeLoader)
    assert node is not None
    for depth, step in enumerate(path):
        child = _child(node, step)
        if child is None:
            return _added(text, node, path[depth:], value)
        if depth + 1 == len(path) or _is_null(child):
            for further in reversed(path[depth + 1 :]):
                value = {further: value}
            return _replaced(text, child, value)
        node = child
    return text


def _child(node: yaml.Node, step: str | int) -> yaml.Node | None:
    import yaml

    if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
        return node.value[step]  # type: ignore[no-any-return]
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == step), None)
    return None


def _is_null(node: yaml.Node) -> bool:
    return bool(node.tag == _NULL)


def _replaced(text: str, node: yaml.Node, value: object) -> str:
    """The text with the value in place of the node, in one line: that of the key, where the node has lines below it."""
    begin, end = node.start_mark.index, _end(node)
    return f"{text[:begin].rstrip()} {_in_a_line(value)}{text[end:]}"


def _added(text: str, node: yaml.Node, path: Steps, value: object) -> str:
    """The text with a key more in the mapping."""
    import yaml

    if not isinstance(node, yaml.MappingNode):
        raise UneditableError(f"{path[0]} can't be put where no mapping is")
    for step in reversed(path):
        value = {step: value}
    if node.flow_style or not node.value:
        before = text[: node.end_mark.index - 1].rstrip()
        comma = "" if before.endswith(("{", ",")) else ", "
        return f"{before}{comma}{_in_a_line(value)[1:-1]}{text[len(before) :].lstrip()}"
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = yaml_block(value, node.value[0][0].start_mark.column).replace("\n", newline)
    end = _end(node)
    if not text[:end].endswith("\n"):  # only a text of several lines in one value ends with its newline
        at_end = text.find("\n", end)
        end = at_end + 1 if at_end >= 0 else len(text)
    if not text[:end].endswith("\n"):
        return f"{text}{newline}{lines.rstrip()}"
    return f"{text[:end]}{lines}{text[end:]}"


def _end(node: yaml.Node) -> int:
    """Where the node's own text ends: a block's mark is where the next one begins."""
    import yaml

    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return int(node.end_mark.index)


def _in_a_line(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_in_a_line_key(key)}: {_in_a_line(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_in_a_line(item) for item in value) + "]"
    return yaml_block(value).rstrip("\n")


def _in_a_line_key(key: str) -> str:
    return yaml_block({key: 0}).rpartition(":")[0]
