"""What --output means: a directory that the package goes into, or, by the end of its name, the very file."""

from __future__ import annotations

from pathlib import Path

from npu_serving import fsutil
from npu_serving.errors import RequestError

TAR, DEB, IMAGE, KIT = "tar", "deb", "image", "kit"
FORMATS = (TAR, DEB, IMAGE, KIT)
ENDINGS = {".tar.gz": TAR, ".tgz": TAR, ".tar": TAR, ".deb": DEB, ".pyz": KIT}
"""How the name of a package's file ends, and the format that it has then; a .tar is not compressed."""
NOT_MADE = (
    ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tbz", ".tar.zst", ".tzst", ".tar.lz4", ".tar.lzma", ".gz", ".xz", ".bz2",
    ".zst", ".zip", ".7z", ".rpm", ".apk", ".run", ".img", ".iso", ".oci", ".sif", ".whl",
)  # fmt: skip
"""Ends of files that hold packages of other kinds: whoever writes one expects a file, which would not be that."""


def file_format(output: Path | None) -> str:
    """The format that a file of that name has; "" for a directory, or None.

    RequestError for the name of a file of a kind that is not made here.
    """
    if output is None:
        return ""
    name = output.name.lower()
    for ending, kind in ENDINGS.items():
        if name.endswith(ending):
            return kind
    refused = next((ending for ending in NOT_MADE if name.endswith(ending)), "")
    if refused and not output.is_dir():
        raise RequestError(
            f"--output {output} ends like a file of a kind that is not made ({refused}).",
            cure=f"give it a name that ends in {', '.join(ENDINGS)}, or name a directory",
        )
    return ""


def chosen_format(wanted: str, output: Path | None) -> str:
    """The format: what --format says, else what the name of the file means, else tar.

    RequestError for a format that is unknown, and where the two say different things.
    """
    if wanted and wanted not in FORMATS:
        raise RequestError(f"--format can't be {wanted!r}.", cure=f"choose one of {', '.join(FORMATS)}")
    named = file_format(output)
    if wanted and named and wanted != named:
        fitting = " or ".join(ending for ending, kind in ENDINGS.items() if kind == wanted) or "no file"
        raise RequestError(
            f"--format {wanted} does not make a file like {output}, which is a {named} package.",
            cure=f"leave out --format, or name a file that ends in {fitting}",
        )
    return wanted or named or TAR


def file_to_write(output: Path | None, directory: Path, name: str) -> Path:
    """The file: `output` itself where it is named like one, else `name` in it (in `directory` by default).

    RequestError where something else is in the way.
    """
    if output is not None and file_format(output):
        fsutil.refuse_other_than_file(output)
        return output.absolute()
    chosen = (output or directory).absolute()
    with fsutil.explained(chosen, doing="used"):
        if chosen.exists() and not chosen.is_dir():
            raise RequestError(
                f"{chosen} is a file, so nothing can be put into it.",
                cure=f"name a directory, or a file that ends in {', '.join(ENDINGS)}",
            )
    return chosen / name
