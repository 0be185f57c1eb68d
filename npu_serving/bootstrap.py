"""What `./inv unbundle` runs before there is an environment: unpacks this project's own packages from the bundle.

Only the standard library is here at that time. The task itself, which unpacks the rest, follows.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence

from npu_serving.bundle.placing import place_wheels
from npu_serving.bundle.reader import read_bundle
from npu_serving.bundle.writer import WHEEL, Manifest
from npu_serving.cli import errors_shown
from npu_serving.errors import MissingToolError, RequestError
from npu_serving.settings import PROJECT_ROOT, user_path


def main(words: Sequence[str]) -> None:
    """Puts the wheels of the bundle that `./inv unbundle` was given beside `inv`, which then goes on.

    Leaves with the exit code of an error, which is shown as the task itself would show it.
    """
    parser = argparse.ArgumentParser(prog="./inv unbundle", add_help=False)
    parser.add_argument("bundle", nargs="?")
    parser.add_argument("--sha256")  # here only so that its value isn't taken for the bundle
    parser.add_argument("--json", action="store_true")
    known, _ = parser.parse_known_args(words)
    with errors_shown(as_json=known.json):
        if known.bundle is None:
            raise RequestError(
                "unbundle needs the bundle's file.", cure="./inv unbundle FILE [--sha256 DIGEST] [--dry-run] [--json]"
            )
        bundle = read_bundle(user_path(known.bundle, "the bundle"))
        check_fits(bundle.manifest)
        place_wheels(bundle, PROJECT_ROOT, lambda _: None)


def check_fits(manifest: Manifest) -> None:
    """MissingToolError where the packages in the bundle are not for this Python and processor."""
    here = (platform.machine(), f"{sys.version_info[0]}.{sys.version_info[1]}")
    if not manifest.of_kind(WHEEL) or (manifest.machine, manifest.python) == here:
        return
    raise MissingToolError(
        f"The bundle's Python packages are for {manifest.machine} with Python {manifest.python}, "
        f"but this machine is {here[0]} with Python {here[1]}.",
        cure=f"make the bundle with: ./inv bundle --arch {here[0]} --python {here[1]} --output FILE; or, if "
        "this machine has "
        f"that Python: NPU_SERVING_PYTHON=python{manifest.python} ./inv unbundle FILE",
    )


if __name__ == "__main__":
    main(sys.argv[1:])
