"""The files that a deployment's session options name: whether they are there, and what is wrong in them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from npu_serving.cann.operator_library import OperatorLibrary
from npu_serving.deploy.deployed_presets import options_of
from npu_serving.deploy.deployment_file import DeploymentFile
from npu_serving.deploy.deployment_sections import DeployedModel
from npu_serving.deploy.library_checks import KIND, check_against_library
from npu_serving.errors import DocumentError, NpuServingError
from npu_serving.findings import WARNING, Finding
from npu_serving.options.asked_options import GUIDE_FORBIDS
from npu_serving.options.auxiliary_files import (
    AUXILIARY_FILES,
    WRITTEN_FILES,
    CustomDtypes,
    ImplementationModes,
    LimitedCache,
    MixedPrecisionLists,
)
from npu_serving.options.auxiliary_reader import passed_over, read_auxiliary_file
from npu_serving.writers.shell import command_line

MISSING = "missing-file"

_CACHE = "op_compiler_cache_dir"
_NARROW = frozenset(("fusion_switch_file", _CACHE, "compress_weight_conf"))
"""Options whose paths the guide restricts (7.1.2)."""
_PATH = re.compile(r"[A-Za-z0-9_./\u4e00-\u9fff-]*")
_VARIABLES = ("ASCEND_MAX_OP_CACHE_SIZE", "ASCEND_REMAIN_CACHE_SIZE_RATIO")
_OF_SHAPES = ("input_shape", "dynamic_input")


def check_auxiliary_files(
    deployment: DeploymentFile,
    model: DeployedModel,
    environment: Mapping[str, str],
    library: Callable[[], OperatorLibrary],
) -> Iterator[tuple[str, Finding]]:
    """What is wrong with those of a model, each finding with the option that it is about.

    A file whose content stands in the deployment has the right form already; what it says of operators is compared with
    the `library`, which is read only where there is something to compare.
    """
    of_model = {**options_of(model.presets), **(model.npu or {})}
    given = {**deployment.options_of_presets, **(deployment.npu or {}), **of_model}
    for option, path in (deployment.npu_of(model) or {}).items():
        if option not in AUXILIARY_FILES or not isinstance(path, str):
            continue
        content: Any = given[option]
        if isinstance(content, (str, LimitedCache)) and option in _NARROW and not _PATH.fullmatch(path):
            what = f"{option} is {path!r}: the guide takes only letters, digits, _ - . and Chinese characters in it"
            yield option, Finding(what, "rename it", WARNING, GUIDE_FORBIDS)
        if isinstance(content, LimitedCache):
            yield from ((option, finding) for finding in _of_limits(content, environment))
            continue
        if isinstance(content, str):
            if not path.startswith("/"):
                what = f"{option} is {path!r}, which the server would look for in its working directory"
                yield option, Finding(what, "write the absolute path", kind=KIND)
                continue
            if option == _CACHE:
                yield from ((option, finding) for finding in _of_cache(Path(path), environment))
                continue
            try:
                content = read_auxiliary_file(option, Path(path))
            except NpuServingError as error:
                kind = KIND if isinstance(error, DocumentError) else MISSING
                yield option, Finding(f"{option}: {error.what}", _cure(option, error), kind=kind)
                continue
            empty = passed_over(Path(path)) if isinstance(content, CustomDtypes) else None
            if empty is not None:
                what = f"{path}:{empty} is empty or a comment, and CANN 9 refuses a file of data types with such a line"
                yield option, Finding(what, "leave it out", WARNING, KIND)
        if isinstance(content, (MixedPrecisionLists, CustomDtypes, ImplementationModes)):
            found = check_against_library(option, content, library())
            yield from ((option, finding) for finding in found)
        if option == "op_debug_config" and {"ccec_O0", "ccec_g"} & set(content) and set(_OF_SHAPES) & set(given):
            what = "op_debug_config has ccec_O0 or ccec_g, with which kernels of dynamic shapes may not compile"
            yield option, Finding(what, "leave them out", WARNING, GUIDE_FORBIDS)


def _cure(option: str, error: NpuServingError) -> str:
    if isinstance(error, DocumentError):
        return error.cure
    return f"name a file that is there, or write the content of {WRITTEN_FILES[option].name} in place of its path"


def _of_limits(cache: LimitedCache, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Other limits than those that are written into the cache's directory when the server starts."""
    path = Path(cache.directory) / AUXILIARY_FILES[_CACHE].name
    for name, value in zip(_VARIABLES, (cache.size, cache.ratio)):
        if environment.get(name, str(value)) != str(value):
            what = f"{name} is {environment[name]}, and {path} will have {value}, which counts"
            yield Finding(what, f"leave {name} out", WARNING, KIND)
    try:
        limits = read_auxiliary_file(_CACHE, path).limits if os.path.lexists(path) else None
    except NpuServingError:
        return
    if limits is not None and (limits.size, limits.ratio) != (cache.size, cache.ratio):
        what = f"{path} has {limits.size} MB and {limits.ratio} %, and is replaced for all who use that cache"
        yield Finding(what, "write its values into the deployment, or name a directory of its own", WARNING, KIND)


def _of_cache(directory: Path, environment: Mapping[str, str]) -> Iterator[Finding]:
    """What CANN passes over in silence: an op_cache.ini that is not whole, and variables beside one that is."""
    path = directory / AUXILIARY_FILES[_CACHE].name
    if not os.path.lexists(path):
        return
    try:
        limits = read_auxiliary_file(_CACHE, path).limits
    except NpuServingError as error:
        yield Finding(
            f"The cache's limits are not those of its file, which counts only with two valid values: {error.what}",
            f"correct it, or remove it: {command_line(['rm', path])}",
            WARNING,
            KIND,
        )
        return
    for name, value in zip(_VARIABLES, (limits.size, limits.ratio)):
        if environment.get(name, str(value)) != str(value):
            yield Finding(
                f"{name} is {environment[name]}, and {path} has {value}, which counts for all who use that cache",
                f"write the value into that file, or remove it: {command_line(['rm', path])}",
                WARNING,
                KIND,
            )
