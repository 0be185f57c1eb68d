"""What `./inv --version` says: which code this is, and what it builds by default."""

from __future__ import annotations

import re

from npu_serving import __version__, process
from npu_serving.errors import NpuServingError
from npu_serving.settings import PROJECT_ROOT, Settings, load_settings


def version_text() -> str:
    """The project's version, its git commit where there is one, and the source that invoke.yaml names."""
    commit = _commit()
    return f"npu-serving {__version__}{f' (commit {commit})' if commit else ''}, builds {_built()}"


def _commit() -> str:
    """The commit of this checkout, and whether a tracked file differs from it; "" for a copy without git."""
    if not (PROJECT_ROOT / ".git").exists():
        return ""  # git would look in the directories above, which belong to other projects
    git = ("git", "-C", PROJECT_ROOT)
    try:
        head = process.run([*git, "rev-parse", "--short=7", "HEAD"]).stdout.strip()
        changed = process.run([*git, "status", "--porcelain", "--untracked-files=no"]).stdout.strip()
    except NpuServingError:
        return ""  # no git here, or a checkout that belongs to another user
    return f"{head}, with local changes" if changed else head


def _built() -> str:
    try:
        source = load_settings().source
    except NpuServingError:
        source = Settings().source  # the version is often asked for when something is wrong
    if re.fullmatch(r"\d+(\.\d+)+", source):
        return f"TensorFlow Serving {source}"
    return "the sample" if source == "sample" else f"the TensorFlow Serving of {source}"
