"""What programs of a build on this machine get to see: the search path, and the Python of the build scripts."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from npu_serving.errors import MissingToolError
from npu_serving.settings import Settings

STANDARD_PATH = ("/usr/local/bin", "/usr/bin", "/bin")


def build_python(settings: Settings) -> Path:
    """The interpreter for TensorFlow's build scripts: the one set, that of python_prefix, or the one running this."""
    if settings.python_bin:
        chosen = Path(settings.python_bin).expanduser()
        if not os.access(chosen, os.X_OK) or chosen.is_dir():
            raise MissingToolError(
                f"python_bin must be a Python interpreter, but {chosen} is not a program.",
                cure="correct python_bin in invoke.yaml, or leave it empty",
            )
        return chosen.absolute()
    for name in ("python3.7", "python3"):
        candidate = settings.python_prefix / "bin" / name
        if os.access(candidate, os.X_OK):
            return candidate
    # Not sys.executable: a virtual environment's link loses its environment when started under another name.
    return Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
