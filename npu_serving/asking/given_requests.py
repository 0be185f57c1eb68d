"""What was given to be predicted, told apart by its name or its first bytes: JSON, arrays, CSV, records, images.

Only what it is, and where: what is in it is read by request.py, array_files.py, csv_requests.py, logged_requests.py
and images.py, which are not imported here: a small request in JSON needs none of them.
"""

from __future__ import annotations

import enum
import io
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Union

from npu_serving import fsutil
from npu_serving.errors import RequestError
from npu_serving.settings import user_path

STANDARD_INPUT = "-"
ARRAYS = ".npz"
ARRAY = ".npy"
RECORDING = ".rec"
RECORDS = (".tfrecord", ".tfrecords", RECORDING)
WARM_UP_REQUESTS = "tf_serving_warmup_requests"
ROWS: Mapping[str, str] = {".csv": ",", ".tsv": "\t"}
"""What stands between the values of a line."""
IMAGES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_MAGIC = {b"PK\x03\x04": ARRAYS, b"\x93NUMPY": ARRAY}
_NAMED = re.compile(r"([^=/]+)=(.+)", re.DOTALL)
_NUMBERED = re.compile(r"(.+)#([0-9]{1,9})", re.DOTALL)

Source = Union[Path, bytes]


class GivenKind(enum.Enum):
    """The kinds of what can be given."""

    JSON = "JSON"
    ARRAYS = "arrays"
    ROWS = "a CSV file"
    RECORDS = "records"
    IMAGES = "images"


@dataclass(frozen=True)
class GivenFile:
    """A file, or the bytes of standard input, the input that it is for ("" for the only one), and of many requests
    the number of the one that is meant (0 for all).
    """

    source: Source
    suffix: str = ""
    input: str = ""
    number: int = 0

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return str(self.source) if isinstance(self.source, Path) else "standard input"


@dataclass(frozen=True)
class GivenRequest:
    """All that was given for one run of a task: of one kind. `text` is JSON, or names it as read_request() takes it."""

    kind: GivenKind
    files: tuple[GivenFile, ...] = ()
    text: str = ""
    piped: bytes | None = None


def sort_given(texts: Sequence[str], *, stdin: BinaryIO | None = None) -> GivenRequest:
    """What the texts of --request name. RequestError for a file that isn't there, and for several of one request.

    `NAME=FILE` names the input that an array or image is for; `FILE#3` the third request of a file of many.
    """
    if not texts or list(texts) == [STANDARD_INPUT]:
        stream = stdin if stdin is not None else sys.stdin.buffer
        data = fsutil.read_whole(stream, "standard input")
        suffix = next((suffix for magic, suffix in _MAGIC.items() if data.startswith(magic)), "")
        if suffix:
            return GivenRequest(GivenKind.ARRAYS, (GivenFile(data, suffix),))
        return GivenRequest(GivenKind.JSON, text=STANDARD_INPUT, piped=data)
    sorted_ones = [_sorted(text) for text in texts]
    kinds = {kind for kind, _ in sorted_ones}
    if len(kinds) > 1 or (len(texts) > 1 and kinds & {GivenKind.JSON, GivenKind.ROWS, GivenKind.RECORDS}):
        named = " and ".join(sorted(kind.value for kind in kinds))
        raise RequestError(
            f"--request was given {len(texts)} times, with {named}.",
            cause="several make one request only where each is an array or an image",
            cure="give one of them, or arrays by their inputs: --request a=A.npy --request b=B.npy",
        )
    (kind,) = kinds
    if kind is GivenKind.JSON:
        return GivenRequest(kind, text=texts[0])
    return GivenRequest(kind, tuple(file for _, file in sorted_ones if file is not None))


def json_stream(given: GivenRequest) -> BinaryIO | None:
    """What came from standard input, for read_request()."""
    return None if given.piped is None else io.BytesIO(given.piped)


def _sorted(text: str) -> tuple[GivenKind, GivenFile | None]:
    if text.lstrip()[:1] in ("[", "{") or text == STANDARD_INPUT or "\0" in text or not text.strip():
        return GivenKind.JSON, None
    path, name, number = user_path(text, "the request"), "", 0
    with fsutil.explained(path, doing="read"):
        is_there = path.exists()
    named, numbered = _NAMED.fullmatch(text), _NUMBERED.fullmatch(text)
    if not is_there and named is not None:
        name, path = named[1], user_path(named[2], "the request")
    elif not is_there and numbered is not None:
        path, number = user_path(numbered[1], "the request"), int(numbered[2])
        if not number:
            raise RequestError(f"{path} has no request 0.", cause="they are counted from 1", cure=f"{path}#1")
    kind = _kind_of(path)
    if kind is None:
        return GivenKind.JSON, None  # read_request() reads it, or says that it isn't there
    if name and kind not in (GivenKind.ARRAYS, GivenKind.IMAGES):
        raise RequestError(
            f"{path} is {kind.value}, which can't be for the input {name!r} alone.",
            cause="NAME=FILE is for arrays and images",
            cure=f"--request {path}",
        )
    with fsutil.explained(path, doing="read"):
        if not path.exists():
            raise RequestError(f"There is no {path}.", cause="the path was mistyped", cure="correct it")
    return kind, GivenFile(path, path.suffix.lower(), name, number)


def is_image_name(path: Path) -> bool:
    """Whether a file is called as images are."""
    return path.suffix.lower() in IMAGES


def _kind_of(path: Path) -> GivenKind | None:
    suffix = path.suffix.lower()
    if suffix in (ARRAYS, ARRAY):
        return GivenKind.ARRAYS
    if suffix in ROWS:
        return GivenKind.ROWS
    if suffix in RECORDS or path.name == WARM_UP_REQUESTS:
        return GivenKind.RECORDS
    with fsutil.explained(path, doing="read"):
        return GivenKind.IMAGES if is_image_name(path) or path.is_dir() else None
