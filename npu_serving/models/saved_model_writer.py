"""The writer of SavedModels: graphs with their signatures and assets, put together from bytes and parts of other files.

The constants of a graph may be gigabytes: they are copied from the file that they stand in, and never held. The numbers
of the fields are those of TensorFlow 1.15's .proto files; its SavedModelBuilder writes the same messages.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from npu_serving import fsutil
from npu_serving.errors import RequestError
from npu_serving.models.attribute_values import DATA_TYPES, encoded_shape
from npu_serving.models.layout import next_version, same_versions, version_directories
from npu_serving.models.pieces import FileExtent, Piece, piece_chunks, pieces_size
from npu_serving.models.saved_model import SAVED_MODEL, ModelSignature, TensorSpec
from npu_serving.wire_bytes import BYTES, bytes_field, entry_field, number_field, tag, text_field, varint

LARGEST_SERVED_GRAPH = (1 << 30) - 1
"""Bytes of a saved_model.pb. TensorFlow 1.15.0 has a limit of 1 GiB for it (ReadBinaryProto of core/platform/env.cc);
real TensorFlow loaded a file of so many bytes, and neither one of 1 GiB nor of a byte more."""
SERVE_TAG = "serve"
ASSETS, EXTRA_ASSETS, VARIABLES = "assets", "assets.extra", "variables"

WRITTEN_FOR = "1.15.0"  # the release of TensorFlow whose operators are meant
_MAIN_OP = "saved_model_main_op"  # the collection with what a loader runs after the variables are there
_SCHEMA_VERSION = 1
_CHECKPOINT_V2 = 2  # SaverDef.CheckpointFormatVersion
_MAX_TO_KEEP = 5
_DATA_TYPE_NUMBERS = {name: number for number, name in DATA_TYPES.items()}


@dataclass(frozen=True)
class SaverNames:
    """The nodes by which TensorFlow restores the variables: SaverDef of saver.proto."""

    filename_tensor: str = "save/Const:0"
    save_tensor: str = "save/control_dependency:0"
    restore_op: str = "save/restore_all"


@dataclass(frozen=True)
class ServableGraph:
    """One graph of a SavedModel to be written.

    `graph` is the GraphDef; `main_op` the node that a loader runs once the variables are restored, such as one that
    initialises tables; `assets` the names of files in assets/ by the tensors that are fed with their paths.
    """

    graph: Sequence[Piece]
    signatures: Mapping[str, ModelSignature]
    tags: tuple[str, ...] = (SERVE_TAG,)
    main_op: str = ""
    assets: Mapping[str, str] = field(default_factory=dict)
    saver: SaverNames | None = None


def node_pieces(
    name: str,
    operator: str,
    inputs: Sequence[str] = (),
    attributes: Mapping[str, Piece | Sequence[Piece]] | None = None,
    device: str = "",
) -> list[Piece]:
    """A node of a graph, as a field of the GraphDef. An attribute is the bytes of its AttrValue, or where they are."""
    message: list[Piece] = [
        b"".join(
            (
                text_field(1, name),
                text_field(2, operator),
                *(bytes_field(3, each.encode()) for each in inputs),
                text_field(4, device),
            )
        )
    ]
    for key, value in sorted((attributes or {}).items()):
        content = [value] if isinstance(value, (bytes, FileExtent)) else value
        message += _field(5, [bytes_field(1, key.encode()), *_field(2, content)])
    return _field(1, message)


def message_field(number: int, pieces: Sequence[Piece]) -> list[Piece]:
    """A field with the message that the pieces are."""
    return _field(number, pieces)


def saved_model_pieces(graphs: Sequence[ServableGraph]) -> list[Piece]:
    """The SavedModel that holds these graphs. RequestError where no graph, or a signature's type, could be."""
    if not graphs:
        raise RequestError("A SavedModel without a graph can't be served.", cure="name a graph")
    out: list[Piece] = [number_field(1, _SCHEMA_VERSION)]
    for each in graphs:
        out += _field(2, _meta_graph(each))
    return out


def write_saved_model(
    directory: Path, graphs: Sequence[ServableGraph], done: Callable[[int], None] | None = None
) -> None:
    """Writes saved_model.pb into a version's directory, after all else that belongs there: its name appears last.

    `done` gets the number of bytes that are written so far. RequestError where TensorFlow 1.15.0 would refuse it for
    its size.
    """
    pieces = saved_model_pieces(graphs)
    refuse_too_large(pieces_size(pieces))
    written = 0
    with fsutil.new_file(directory / SAVED_MODEL) as file:
        for chunk in piece_chunks(pieces):
            written += file.write(chunk)
            if done is not None:
                done(written)


def refuse_too_large(size_bytes: int) -> None:
    """RequestError for a saved_model.pb that TensorFlow 1.15.0 would not read."""
    if size_bytes > LARGEST_SERVED_GRAPH:
        raise RequestError(
            f"The saved_model.pb would have {size_bytes} bytes, and the server refuses more than "
            f"{LARGEST_SERVED_GRAPH}.",
            cause="TensorFlow 1.15.0 reads at most 1 GiB of it; weights that are variables stand in another file",
            cure="add --weights-as-variables",
        )


@dataclass
class NewVersion:
    """A version in the making. Its number is certain once it is there: another run may take the same one before."""

    number: int
    directory: Path


@contextmanager
def new_version(base: Path, version: int | None = None) -> Iterator[NewVersion]:
    """A version whose directory is to be filled: it is named BASE/VERSION when the block succeeds, else removed.

    Without `version` it is the highest there and one more, also where other runs publish meanwhile: their work and ours
    may have taken hours. Until then its name is one that a server passes over, as it begins with a dot; what killed
    runs left under such names is removed. RequestError where the version is there, NameTakenError where it comes to be.
    """
    number = checked_version(base, version)
    was_there = base.is_dir()
    if base.is_dir():
        with fsutil.explained(base, doing="read"):
            names = {found.group(1) for name in os.listdir(base) if (found := re.match(r"\.([0-9]+)\.", name))}
        for name in names:
            fsutil.remove_left_over(base / name)
    made = NewVersion(number, base)

    def another() -> Path:
        made.number = next_version(base)
        return base / str(made.number)

    try:
        path = base / str(number)
        with fsutil.new_directory(path, replaces=False, otherwise=another if version is None else None) as directory:
            made.directory = directory
            yield made
    except BaseException:
        if not was_there:
            with suppress(OSError):
                base.rmdir()  # no model is there, so there is no directory of one
        raise


def checked_version(base: Path, version: int | None = None) -> int:
    """The number that new_version() would use, with its errors."""
    if base.exists() and not base.is_dir():
        raise RequestError(
            f"{base} is not a directory, and the versions of a model are directories in it.", cure="name another place"
        )
    if any((base / name).exists() for name in (SAVED_MODEL, "saved_model.pbtxt")):
        raise RequestError(
            f"{base} contains a model itself, so it can't get versions.",
            cause="the layout is NAME/VERSION/saved_model.pb, and NAME is what is asked for here",
            cure=f"name {base.parent}, or another directory",
        )
    with fsutil.explained(base, doing="read"):
        there = version_directories(base) if base.is_dir() else {}
        double = same_versions(base) if base.is_dir() else {}
        free = next_version(base)
    number = free if version is None else version
    if not 0 <= number < 1 << 63:
        raise RequestError(f"--version can't be {number}.", cure="use a number from 0 to 9223372036854775807")
    if number in there:
        named = ", ".join(str(path) for path in double.get(number, (there[number],)))
        raise RequestError(
            f"Version {number} is there already: {named}.",
            cause="a version that was published stays as it is, so that a server can go back to it",
            cure=f"leave --version out, which makes version {free}",
        )
    return number


def _meta_graph(graph: ServableGraph) -> list[Piece]:
    information = b"".join(
        (*(bytes_field(4, each.encode()) for each in sorted(graph.tags)), text_field(5, WRITTEN_FOR))
    )
    out: list[Piece] = [bytes_field(1, information), *_field(2, graph.graph)]
    rest = []
    if graph.saver is not None:
        rest.append(bytes_field(3, _saver(graph.saver)))
    if graph.main_op:
        rest.append(entry_field(4, _MAIN_OP, bytes_field(1, bytes_field(1, graph.main_op.encode()))))
    rest += [entry_field(5, name, _signature(each)) for name, each in sorted(graph.signatures.items())]
    rest += [
        bytes_field(6, bytes_field(1, text_field(1, tensor)) + text_field(2, name))
        for tensor, name in sorted(graph.assets.items())
    ]
    return [*out, b"".join(rest)]


def _saver(names: SaverNames) -> bytes:
    return b"".join(
        (
            text_field(1, names.filename_tensor),
            text_field(2, names.save_tensor),
            text_field(3, names.restore_op),
            number_field(4, _MAX_TO_KEEP),
            number_field(7, _CHECKPOINT_V2),
        )
    )


def _signature(signature: ModelSignature) -> bytes:
    sides = ((1, signature.inputs), (2, signature.outputs))
    tensors = (
        entry_field(number, name, _tensor(each)) for number, side in sides for name, each in sorted(side.items())
    )
    return b"".join((*tensors, text_field(3, signature.method_name)))


def _tensor(spec: TensorSpec) -> bytes:
    number = _DATA_TYPE_NUMBERS.get(spec.data_type)
    if number is None:
        raise RequestError(
            f"The tensor {spec.name} is of the type {spec.data_type!r}, which TensorFlow 1.15 has not.",
            cure="name another tensor as input or output",
        )
    if spec.others:
        parts = b"".join(text_field(of, name) for of, name in enumerate((spec.name, *spec.others), start=1))
        named = bytes_field(4, parts)
    else:
        named = text_field(1, spec.name)
    return b"".join((named, number_field(2, number), bytes_field(3, encoded_shape(spec.shape))))


def _field(number: int, pieces: Sequence[Piece]) -> list[Piece]:
    return [varint(tag(number, BYTES)) + varint(pieces_size(pieces)), *pieces]
