"""How a served model is laid out on disk, NAME/VERSION/saved_model.pb, and the names that it may have."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from npu_serving import fsutil
from npu_serving.errors import RequestError
from npu_serving.settings import user_path

MODEL_LAYOUT = (
    "the layout must be NAME/VERSION/saved_model.pb, such as resnet/1/saved_model.pb, and the path to name is NAME"
)
# The server takes a model's name from a URL as it is, without decoding %20 and the like (http_rest_api_handler.cc
# at 1.15.0: [^/:]+), so over REST only names of the characters that a URL's path may hold can be asked for.
_PLAIN_IN_URL = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._~!$&'()*+,;=@-]+\Z")


LARGEST_VERSION = 2**63 - 1
TAKEN_BACK = re.compile(r"([0-9]{1,18})\.taken-back(?:\.[0-9]+)?")
"""What a version is called that no server is to find any more."""


@dataclass(frozen=True)
class RemotePlace:
    """A model that the server reads from elsewhere, such as s3://bucket/model: untouched, and not looked into here."""

    url: str

    @property
    def name(self) -> str:
        """Its last part."""
        return self.url.rstrip("/").rpartition("/")[2]

    def __str__(self) -> str:
        return self.url


ModelPlace = Union[Path, RemotePlace]


def model_place(text: str, where: str) -> ModelPlace:
    """Where a model is: the URL as it was typed, or a path made absolute. RequestError for what can be neither."""
    return RemotePlace(text) if fsutil.is_remote(text) else user_path(text, where).absolute()


def check_model_name(name: str) -> None:
    """RequestError for a name under which no client could ask for the model over REST."""
    if not _PLAIN_IN_URL.match(name):
        raise RequestError(
            f"{name!r} is not a valid model name.",
            cause="TensorFlow Serving reads it from the URL undecoded, so no REST call could name it",
            cure="use letters, digits, '-', '_' and '.'",
        )


def model_name_of(path: Path) -> str:
    """A name that check_model_name() takes for the model of a file or a directory, as near to its own as it goes."""
    plain = re.sub(r"[^\w.-]+", "_", path.stem, flags=re.ASCII).strip("_.-")
    return plain if _PLAIN_IN_URL.match(plain) else "model"


def version_directories(base: Path) -> dict[int, Path]:
    """The directories of a model's versions, by version.

    Whatever strto64 reads is a version for the server (file_system_storage_path_source.cc), 00000123 as well, but
    no number of more than 64 bits, such as a date with its nanoseconds.
    """
    return dict(_numbered(base))


def next_version(base: Path) -> int:
    """The number after the highest that was ever there: one that was taken back keeps its own. OSError."""
    if not base.is_dir():
        return 1
    taken_back = (TAKEN_BACK.fullmatch(name) for name in os.listdir(base))
    return max([0, *version_directories(base), *(int(found[1]) for found in taken_back if found)]) + 1


def same_versions(base: Path) -> dict[int, tuple[Path, ...]]:
    """The directories that a server takes for one version (123 and 0123), by that version."""
    found: dict[int, list[Path]] = {}
    for number, path in sorted(_numbered(base)):
        found.setdefault(number, []).append(path)
    return {number: tuple(paths) for number, paths in found.items() if len(paths) > 1}


def _numbered(base: Path) -> Iterator[tuple[int, Path]]:
    paths = (path for path in base.iterdir() if re.fullmatch("[0-9]{1,255}", path.name))
    yield from ((number, path) for path in paths if (number := int(path.name)) <= LARGEST_VERSION)


def check_model_directory(base: Path, wanted: str) -> None:
    """RequestError where the version that the server would load, the highest, does not exist or has no model."""
    if not base.is_dir():
        raise RequestError(f"The model directory {base} does not exist.", cause=MODEL_LAYOUT, cure="check the path")
    names = (wanted, "saved_model.pbtxt") if wanted == "saved_model.pb" else (wanted,)
    if any((base / name).is_file() for name in names):
        is_version = re.fullmatch("[0-9]+", base.name) is not None
        cure = f"name {base.parent} instead" if is_version else f"mkdir {base}/1 and move the files of {base} into it"
        raise RequestError(f"{base} contains a model itself, not version directories.", cause=MODEL_LAYOUT, cure=cure)
    versions = version_directories(base)
    if not versions:
        raise RequestError(
            f"{base} contains no version directory.", cause=MODEL_LAYOUT, cure=f"put the model into {base / '1'}"
        )
    latest = versions[max(versions)]
    if not any(os.access(latest / name, os.R_OK) for name in names):
        raise RequestError(
            f"{latest} contains no readable {' or '.join(names)}.",
            cause=f"the server loads the highest version; {MODEL_LAYOUT}",
            cure=f"complete {latest} or remove it",
        )
