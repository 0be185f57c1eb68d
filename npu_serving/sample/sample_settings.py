"""What `sample` means in settings: the paths of its CANN and libpython. Light to import: rollback needs it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from npu_serving import fsutil
from npu_serving.facts import LIBPYTHON
from npu_serving.settings import Settings
from npu_serving.state_lock import state_lock

PYTHON = "python3.7.5"
"""The directory of the sample's Python, which has nothing but a libpython."""


STAMP = ".sample-inputs"
"""A file in each release of the sample's CANN: the digest of what it was made of."""


def with_sample(settings: Settings) -> Settings:
    """The settings with `sample` replaced by the paths of its CANN and libpython, which are made if missing.

    The sample's tree without an adapter takes its libpython alone.
    """
    if not _takes_sample(settings):
        return settings
    from npu_serving.sample.cann import build_sample_libpython, install_sample_cann

    root = sample_root(settings)
    if sample_is_missing(settings):
        fsutil.make_directory(root)
        with state_lock(root, doing="making the sample"):
            build_sample_libpython(root)
            if not settings.without_adapter:
                install_sample_cann(root)
    if settings.without_adapter:
        return replace(settings, python_prefix=root / PYTHON)
    return replace(settings, adapter="auto", cann_root=str(root / "Ascend"), python_prefix=root / PYTHON)


def sample_root(settings: Settings) -> Path:
    """Where the sample's CANN and libpython are made."""
    return settings.build_root / "sample"


def is_of_sample(component: Path) -> bool:
    """Whether that release of the toolkit or of tfplugin is the sample's, whose adapter opens no device."""
    return (component / STAMP).is_file()


def sample_archives(settings: Settings) -> Path:
    """Where the sample's archives are packed; the directory serves as their mirror."""
    return sample_root(settings) / "archives"


def sample_is_missing(settings: Settings) -> bool:
    """Whether the settings mean the sample's adapter, or its libpython, and it isn't made yet."""
    root = sample_root(settings)
    made = (root / PYTHON / "lib" / LIBPYTHON).is_file()
    made = made and (settings.without_adapter or (root / "Ascend" / "tfplugin" / "latest").exists())
    return _takes_sample(settings) and not made


def _takes_sample(settings: Settings) -> bool:
    if settings.adapter == "auto" and settings.source == "sample":
        return not settings.cann_root
    if settings.without_adapter:
        return settings.source == "sample"
    return settings.adapter == "sample"
