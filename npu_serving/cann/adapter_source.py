"""The error for a directory named as the adapter: most often a source tree of TF Adapter that was built."""

from __future__ import annotations

from pathlib import Path

from npu_serving.errors import AdapterError
from npu_serving.facts import ADAPTER_SONAME
from npu_serving.writers.shell import shell_word

_CI_BUILD = Path("tf_adapter_2.x", "CI_Build")
_PACKAGE = Path("output", "tfadapter.tar")


def error_for_directory(path: Path) -> AdapterError:
    """The error for an adapter that is a directory, with the way to the file.

    In a source tree of TF Adapter without its package it is the guide's 6.7.3. The script CI_Build builds the plug-in
    for TensorFlow 2 where the machine is an x86_64; where there is no TensorFlow 2 it succeeds without making the wheel
    that the package asks for. The guide's "xxx" is any name that is not the machine's own: the script makes an
    empty wheel then.
    """
    tree = next((place for place in (path, *list(path.parents)[:2]) if (place / _CI_BUILD).is_file()), None)
    what = f"{path} is a directory, not an adapter."
    if tree is None:
        return AdapterError(what, cure=f"name the library in it: --adapter {path / ADAPTER_SONAME}")
    package = tree / _PACKAGE
    if package.is_file():
        return AdapterError(
            what,
            cause=f"{tree} is a source tree of TF Adapter; the library is in the wheel npu_bridge in {package}",
            cure=f"unpack both (tar -xf, python3 -m zipfile -e), then use --adapter …/npu_bridge/{ADAPTER_SONAME}",
        )
    script = shell_word(tree / _CI_BUILD)
    return AdapterError(
        what,
        cause=f"{tree} is a source tree of TF Adapter whose build made no {package}: {_CI_BUILD} stops silently "
        "where TensorFlow 2 is not installed (guide 6.7.3)",
        cure=f'sed -i \'s/!= "x86_64"/!= "none"/\' {script}, then build TF Adapter again',
    )
