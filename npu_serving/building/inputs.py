"""The single things that go into a build, and how each is found; context.py puts them together."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from npu_serving import fsutil
from npu_serving.building.bazel_program import find_bazel, find_bazel_for_image
from npu_serving.building.host_runner import HostRunner
from npu_serving.building.runner import Runner
from npu_serving.building.sources import ServingSource, resolve_source
from npu_serving.cann.install import WHEELS, cann_of
from npu_serving.cann.known_adapters import OF_SAMPLE, KnownAdapter, known_adapters, wanted_adapters
from npu_serving.console import Reporter
from npu_serving.errors import LockFileError, MissingToolError
from npu_serving.facts import LIBPYTHON
from npu_serving.overlay.patches import Toolchain
from npu_serving.sample.sample_settings import sample_archives
from npu_serving.settings import WITHOUT_ADAPTER, Settings


def choose_runner(settings: Settings, reporter: Reporter) -> Runner:
    """The runner that the settings name; `auto` takes Docker where its engine answers."""
    if runner_name(settings) == "docker":
        from npu_serving.building.docker_runner import DockerRunner

        return DockerRunner(settings, find_bazel_for_image(settings, reporter), reporter)
    return HostRunner(settings, find_bazel(settings, reporter))


def refuse_what_is_not_there(settings: Settings) -> None:
    """SourceError or AdapterError where a source or an adapter is named that isn't there, as a build refuses it.

    That is a slip of the person, not a lack of the machine.
    """
    with contextlib.suppress(LockFileError):  # the tree is there, and doctor says what its lock lacks
        resolve_source(settings)
    named = settings.adapter
    if named not in ("auto", "sample", WITHOUT_ADAPTER) and not Path(named).expanduser().exists():
        _ = cann_of(settings).adapter


def runner_name(settings: Settings) -> str:
    """`host` or `docker`."""
    if settings.runner != "auto":
        return settings.runner
    from npu_serving.images.docker_engine import engine_answers

    return "docker" if engine_answers() else "host"


def find_libpython(settings: Settings) -> Path:
    """The shared libpython that the adapter needs (guide 6.3, step 3.2)."""
    path = settings.python_prefix / "lib" / LIBPYTHON
    if path.is_file():
        return path
    raise MissingToolError(
        f"The shared library {path} does not exist.",
        cause="Python 3.7.5 is not installed there, or was built without --enable-shared",
        cure="set python_prefix in invoke.yaml to the prefix of a Python 3.7 built with --enable-shared "
        "(see ./inv doctor)",
    )


def find_fits(
    settings: Settings, source: ServingSource, recorded: Sequence[KnownAdapter] = ()
) -> tuple[KnownAdapter, ...]:
    """What the server is to fit besides the adapter it is linked with (setting `also_fits`).

    A file that is among the `recorded` ones counts as what it was then.
    """
    return wanted_adapters(settings.also_fits, known_for(settings, source), settings.build_root / WHEELS, recorded)


def known_for(settings: Settings, source: ServingSource) -> tuple[KnownAdapter, ...]:
    """The adapters that are known for the TensorFlow in that tree."""
    return known_adapters(serving_of(source), settings.adapters)


def serving_of(source: ServingSource) -> str:
    """What known adapters are listed under: the version of Serving, or OF_SAMPLE for the sample's tree."""
    return OF_SAMPLE if source.copied_from is not None else source.lock.serving_version


def toolchain_of(identity: Mapping[str, str]) -> Toolchain:
    """The versions by which patches are chosen, from what a runner says it is."""
    glibc, gcc = (re.search(r"[0-9][0-9.]*", identity.get(name, "")) for name in ("glibc", "compiler"))
    return Toolchain(glibc.group() if glibc else "0", gcc.group() if gcc else "0")


def make_sample_archives(settings: Settings) -> None:
    """Packs the sample's archives into the directory that is their mirror."""
    from npu_serving.sample.sample_archives import build_archives

    build_archives(fsutil.make_directory(sample_archives(settings)))
