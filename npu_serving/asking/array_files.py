"""The inputs of a request in NumPy's files: .npz with an array for each input, or a .npy file for each."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu_serving import fsutil
from npu_serving.asking.given_requests import ARRAYS, GivenFile
from npu_serving.client.model_types import Signature
from npu_serving.errors import RequestError

MOST_BYTES = 1 << 31
"""Of the arrays of one file: no message may have more, in which they could be sent."""
_OF_OBJECTS = re.compile(r"allow_pickle|Python objects")
_ENDS_EARLY = re.compile("^EOF: |mmap length is greater")
_IN_PARTS = "give fewer rows in a file, and ask for one part after the other"
_CURE = 'save plain arrays by name: numpy.savez("FILE.npz", input=array)'


def read_arrays(files: Sequence[GivenFile], signature: Signature) -> dict[str, NDArray[Any]]:
    """The arrays by the inputs they are for. RequestError for what is not an array of values, and for one input twice.

    An array without a name is for the only input of the signature.
    """
    found: dict[str, NDArray[Any]] = {}
    for file in files:
        with fsutil.explained(file.source if isinstance(file.source, Path) else Path("standard input"), doing="read"):
            arrays = _loaded(file)
        if file.input:
            if len(arrays) != 1:
                raise RequestError(
                    f"{file.name} holds {len(arrays)} arrays, which can't all be for the input {file.input!r}.",
                    cure=f"leave out the name: --request {file.name}",
                )
            arrays = {file.input: next(iter(arrays.values()))}
        for name, array in arrays.items():
            if not name:
                name = _only_input(file.name, signature)
            if name in found:
                raise RequestError(f"The input {name!r} was given twice.", cure="give each input once")
            found[name] = array
    return found


def npz_of(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The arrays as a .npz file. RequestError for texts that NumPy's files can't hold."""
    out = io.BytesIO()
    np.savez(out, **{name: storable(name, array) for name, array in arrays.items()})  # type: ignore[arg-type]
    return out.getvalue()


def npy_of(name: str, array: NDArray[Any]) -> bytes:
    """The array as a .npy file. RequestError for texts that NumPy's files can't hold."""
    out = io.BytesIO()
    np.save(out, storable(name, array))
    return out.getvalue()


def storable(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """The array, texts as bytes of one length: as objects they could be read by unpickling alone."""
    if array.dtype.kind != "O":
        return array
    texts = [text.encode() if isinstance(text, str) else bytes(text) for text in array.reshape(-1)]
    if any(text.endswith(b"\0") for text in texts):
        raise RequestError(
            f"The texts of {name!r} can't be kept in NumPy's files: one ends with a zero byte.",
            cause="NumPy fills texts up with these, and takes them off again",
            cure="use --json, which has bytes in base64",
        )
    return np.array(texts, dtype=np.bytes_).reshape(array.shape)


def _loaded(file: GivenFile) -> dict[str, NDArray[Any]]:
    """The arrays by name; "" for that of a .npy file."""
    source = file.source
    if isinstance(source, Path):
        fsutil.refuse_endless(source)
        if source.stat().st_size > MOST_BYTES:
            raise _unfit(file, "it has more than 2 GiB, and no message may have that", _IN_PARTS)
    try:
        if file.suffix != ARRAYS:
            # A file is looked at where it is: its header may say that it has more than there is.
            if isinstance(source, Path):
                return {"": np.lib.format.open_memmap(source, mode="r")}  # type: ignore[no-untyped-call]
            read: Any = np.lib.format.read_array  # without types in NumPy 2.2
            return {"": read(io.BytesIO(source), allow_pickle=False)}
        with zipfile.ZipFile(source if isinstance(source, Path) else io.BytesIO(source)) as archive:
            if sum(member.file_size for member in archive.infolist()) > MOST_BYTES:
                raise _unfit(file, "its arrays have more than 2 GiB, and no message may have that", _IN_PARTS)
        with np.load(source if isinstance(source, Path) else io.BytesIO(source)) as archive:
            found = {name: archive[name] for name in archive.files}
    except (OSError, RequestError):
        raise
    except (
        ValueError,
        EOFError,
        KeyError,
        MemoryError,
        NotImplementedError,
        RuntimeError,
        zipfile.BadZipFile,
    ) as error:
        if _ENDS_EARLY.search(str(error)):
            raise _unfit(file, "it ends before its values do", "copy it again as a whole, or save it again") from error
        why = "it is an array of Python's objects, which is not read: it could run a program"
        raise _unfit(
            file, why if _OF_OBJECTS.search(str(error)) else " ".join(str(error).split()).rstrip(".")
        ) from error
    if not found:
        raise _unfit(file, "it holds no array")
    wrong = next((name for name, array in found.items() if not isinstance(array, np.ndarray)), None)
    if wrong is not None:
        raise _unfit(file, f"its member {wrong!r} is not an array")
    return found


def _only_input(where: str, signature: Signature) -> str:
    if len(signature.inputs) != 1:
        wanted = "; ".join(info.text() for info in signature.inputs) or "no inputs"
        first = signature.inputs[0].name if signature.inputs else "NAME"
        raise RequestError(
            f"{where} does not say which input it is for.",
            cause=f"the signature takes {wanted}",
            cure=f"name it: --request {first}={where}",
        )
    return signature.inputs[0].name


def _unfit(file: GivenFile, why: str, cure: str = "") -> RequestError:
    return RequestError(f"{file.name} can't be read: {why}.", cure=cure or _CURE)
