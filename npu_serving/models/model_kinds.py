"""What kind of file a model's file is, by its contents, whatever its name; and what to type next for each kind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.errors import ModelFileError
from npu_serving.models.wire_format import Field, WireBytes, WireFile, open_wire_file
from npu_serving.wire_bytes import BYTES, VARINT, tag
from npu_serving.writers.shell import shell_word

_HEAD = 4096  # bytes, by which a file is recognised
_OPERATOR = re.compile(rb"[A-Za-z_][A-Za-z0-9_.>/-]*\Z")
_INDEX_END = bytes.fromhex("57fb808b247547db")  # the magic number at the end of a table of LevelDB
_FIRST_WORD = re.compile(rb"(?:[ \t\r\n]|#[^\n]*\n)*([A-Za-z_]+)[ \t\r\n]*[:{<\[]")
_AGAIN = "copy or export the model again"


@dataclass(frozen=True)
class ModelKind:
    """A kind of file: its word, what a file of it is called in a sentence, and what to type next."""

    name: str
    what: str
    cure: str = _AGAIN
    cause: str = ""
    message: str = ""
    """Of a model that is read here, the message of TensorFlow that it is."""
    is_text: bool = False

    def cure_for(self, path: Path) -> str:
        """What to type next for the file at `path`."""
        return self.cure.format(file=shell_word(path)) if "{file}" in self.cure else self.cure


_CONVERT = "./inv convert-pb {file} --output models/NAME"
SAVED_MODEL_KIND = ModelKind("saved-model", "a SavedModel", "name it saved_model.pb", message="SavedModel")
_SAVED_MODEL_AS_TEXT = ModelKind(
    "saved-model-text", "a SavedModel as text", "name it saved_model.pbtxt", message="SavedModel", is_text=True
)
_NO_SIGNATURE = "it was renamed: it has no signature, by which a server could ask it"
FROZEN_GRAPH = ModelKind("frozen-graph", "a graph alone", _CONVERT, _NO_SIGNATURE, "GraphDef")
_GRAPH_AS_TEXT = ModelKind("graph-text", "a graph alone, as text", _CONVERT, _NO_SIGNATURE, "GraphDef", is_text=True)
META_GRAPH = ModelKind(
    "meta-graph", "the graph of a checkpoint (.meta)", _CONVERT, "it was renamed", message="MetaGraphDef"
)
_META_GRAPH_AS_TEXT = ModelKind(
    "meta-graph-text",
    "the graph of a checkpoint (.meta), as text",
    _CONVERT,
    "it was renamed",
    "MetaGraphDef",
    is_text=True,
)
EMPTY = ModelKind("empty", "empty", _AGAIN, "the disk was full, or the copy was broken off, when it was written")
UNKNOWN = ModelKind(
    "unknown", "of no kind that is known here", _AGAIN, "it was not copied as a whole, or is not a model"
)
_BEGINNINGS: tuple[tuple[int, bytes, ModelKind], ...] = (
    (
        0,
        b"version https://git-lfs",
        ModelKind("lfs-pointer", "a pointer of Git LFS, not the model itself", "git lfs pull"),
    ),
    (0, b"\x1f\x8b", ModelKind("gzip", "packed with gzip", "unpack it with gunzip")),
    (0, b"PK\x03\x04", ModelKind("zip", "a zip file", "unpack it with unzip")),
    (0, b"ustar", ModelKind("tar", "a tar file", "unpack it with tar xf")),
    (257, b"ustar", ModelKind("tar", "a tar file", "unpack it with tar xf")),
    (
        0,
        b"IMOD",
        ModelKind(
            "om",
            "an om, which ATC made for the NPU",
            "serve the SavedModel that it was made of",
            "it was renamed: TensorFlow loads an om only by an operator of a graph",
        ),
    ),
    (
        4,
        b"TFL3",
        ModelKind(
            "tflite", "a model of TensorFlow Lite", "export the model that it was made of as a SavedModel",
            "it was renamed: a server of TensorFlow Serving 1.15 loads no such file",
        ),
    ),
    (
        0,
        b"\x89HDF\r\n\x1a\n",
        ModelKind(
            "hdf5", "an HDF5 file, such as Keras saves a model in",
            "export it with tf.saved_model.save, from tf.keras.models.load_model of this file",
        ),
    ),
)  # fmt: skip
_ONNX = ModelKind("onnx", "a model of ONNX", "export the model from TensorFlow as a SavedModel")
_INDEX = ModelKind(
    "checkpoint-index", "the index of a checkpoint, with names and shapes only", "name the .meta beside it"
)
_STATE = ModelKind("checkpoint-state", "the list of a directory's checkpoints", "name the .meta of one of them")
_PAGE = "a page with an error, or another file, was saved under its name"
_TEXT = ModelKind("text", "text, not a model", _AGAIN, _PAGE)
_TEXT_KINDS = {
    **dict.fromkeys((b"node", b"library", b"versions", b"version"), _GRAPH_AS_TEXT),
    **dict.fromkeys((b"saved_model_schema_version", b"meta_graphs"), _SAVED_MODEL_AS_TEXT),
    **dict.fromkeys(
        (b"meta_info_def", b"graph_def", b"saver_def", b"collection_def", b"signature_def", b"asset_file_def"),
        _META_GRAPH_AS_TEXT,
    ),
    **dict.fromkeys((b"model_checkpoint_path", b"all_model_checkpoint_paths"), _STATE),
}
_MODEL_NAMES = {"GraphDef": "a frozen graph", "MetaGraphDef": "a .meta file", "SavedModel": "a SavedModel"}


def kind_of_file(path: Path) -> ModelKind:
    """What the file at `path` is. ModelFileError for what is not a file, FileAccessError."""
    with open_wire_file(path) as file:
        return recognised(file)


def recognised(file: WireFile) -> ModelKind:
    """What an open file is, by its first bytes, and the last few."""
    if not file.size:
        return EMPTY
    head = file.read(0, min(file.size, _HEAD))
    for at, start, kind in _BEGINNINGS:
        if head.startswith(start, at):
            return kind
    if file.size > 48 and file.read(file.size - len(_INDEX_END), file.size) == _INDEX_END:
        return _INDEX
    # A graph alone begins with the byte of a line feed, of which a text has another byte before or after.
    if _is_text(head):
        found = _FIRST_WORD.match(head)
        return _TEXT_KINDS.get(found.group(1), _TEXT) if found else _TEXT
    return _message_kind(file)


def as_wire(file: WireFile, *messages: str) -> tuple[WireFile, str]:
    """The file as one of these messages, and which: the file itself, or what its text means.

    What is not recognised is taken for the first of them, so that a reader may say at which byte it is damaged.
    ModelFileError where the file is of another kind.
    """
    kind = recognised(file)
    if kind is UNKNOWN:
        return file, messages[0]
    if kind.message not in messages:
        raise refused(file.path, kind, messages[0])
    if not kind.is_text:
        return file, kind.message
    from npu_serving.models.text_models import bytes_of_text  # few models are texts, and it takes its time

    text = fsutil.read_bytes(file.path).decode("utf-8", "surrogateescape")
    return WireBytes(file.path, bytes_of_text(file.path, text, kind.message)), kind.message


def refused(path: Path, kind: ModelKind, message: str = "") -> ModelFileError:
    """The error for a file of that kind where a message of TensorFlow is needed."""
    wanted = f", not {_MODEL_NAMES[message]}" if message and ", not" not in kind.what and kind is not EMPTY else ""
    return ModelFileError(f"{path} is {kind.what}{wanted}.", cause=kind.cause, cure=kind.cure_for(path))


def _is_text(head: bytes) -> bool:
    return head[:1] != b"\n" and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head[:64])


def _message_kind(file: WireFile) -> ModelKind:
    """What a file in the wire format is, by its first two fields."""
    try:
        first, second = _first_two(file)
        if first is None:
            return UNKNOWN
        key, start, end = first
        if key == tag(1, VARINT):
            if second is None or second[0] != tag(2, BYTES):
                return SAVED_MODEL_KIND if second is None and start == 1 else _ONNX if start > 1 else UNKNOWN
            return SAVED_MODEL_KIND if _is_message(file, *second[1:]) else _ONNX
        if key == tag(2, BYTES):
            return SAVED_MODEL_KIND
        if key == tag(1, BYTES):
            return FROZEN_GRAPH if _is_node(file, start, end) else META_GRAPH if _is_info(file, start, end) else UNKNOWN
        return UNKNOWN
    except ModelFileError:
        return UNKNOWN


def _first_two(file: WireFile) -> tuple[Field | None, Field | None]:
    fields = file.fields(0, file.size)
    first = next(fields, None)
    try:
        return first, next(fields, None) if first is not None else None
    except ModelFileError:
        return first, None


def _is_node(file: WireFile, start: int, end: int) -> bool:
    """Whether a message may be a NodeDef: its operator is a name, and its own name does not begin a message."""
    for key, first, last in _whole_fields(file, start, end):
        if key == tag(1, BYTES) and last - first and file.read(first, first + 1) == b"\n":
            return False
        if key == tag(2, BYTES):
            return last - first < _HEAD and _OPERATOR.match(file.read(first, last)) is not None
    return False


def _is_info(file: WireFile, start: int, end: int) -> bool:
    """Whether a message may be a MetaInfoDef: tags, versions of TensorFlow, or a list of operators."""
    for key, first, last in _whole_fields(file, start, end):
        if key == tag(1, BYTES) and last > first and file.read(first, first + 1) != b"\n":
            return False
        if key in (tag(number, BYTES) for number in (1, 2, 4, 5, 6)):
            return True
    return False


def _is_message(file: WireFile, start: int, end: int) -> bool:
    return start == end or file.read(start, start + 1) in (b"\n", b"\x12", b"\x1a", b'"', b"*", b"2", b":")


def _whole_fields(file: WireFile, start: int, end: int) -> Iterator[Field]:
    """The fields up to the first that is damaged."""
    try:
        yield from file.fields(start, end)
    except ModelFileError:
        return
