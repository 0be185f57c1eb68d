"""An adapter that is named as the wheel it comes in: unpacked below the state directory, by the digest of the wheel."""

from __future__ import annotations

from pathlib import Path

from npu_serving import archives, fsutil
from npu_serving.cann.layout import packages
from npu_serving.cann.places import ADAPTER
from npu_serving.errors import AdapterError, UnsafeArchiveError

_ZIP = b"PK\x03\x04"
_DIGITS = 32  # of the digest: what two wheels never share


def is_wheel(path: Path) -> bool:
    """Whether that file is a wheel by its name, or by its first bytes. Raises OSError where it can't be read."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return path.suffix == ".whl" or file.read(len(_ZIP)) == _ZIP


def unpacked(wheel: Path, root: Path) -> Path:
    """The adapter in that wheel, below `root`; what was unpacked of the same bytes before is taken as it is.

    Raises AdapterError for a file that is not a complete wheel of npu_bridge.
    """
    directory = root / fsutil.sha256_of(wheel)[:_DIGITS]
    if not directory.is_dir():
        try:
            archives.extract(wheel, directory)
        except UnsafeArchiveError as error:
            raise AdapterError(error.what, cause=error.cause, cure=_download_again()) from error
    library = directory / ADAPTER
    if not library.is_file():
        fsutil.remove(directory)
        raise AdapterError(
            f"{wheel} is a zip archive without {ADAPTER}.",
            cause="it is the wheel of another package: npu_device is the plug-in for TensorFlow 2",
            cure=_download_again(),
        )
    return library


def _download_again() -> str:
    facts = packages()["tfplugin"].wheel
    assert facts is not None
    return f"download {facts.name} again: {facts.published}, the tag that ends in CANN's release"
