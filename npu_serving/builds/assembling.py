"""A finished server and its libraries become dist/<build-id>: assembled, verified, and only then given that name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from npu_serving import fsutil
from npu_serving.builds import bill_of_materials, provenance
from npu_serving.builds.current import find_build
from npu_serving.builds.fitting import fits_of, needing, needs_by_release
from npu_serving.builds.manifest import Build, BuildManifest, assembled, write_definers
from npu_serving.builds.verify import check_directory
from npu_serving.cann.known_adapters import KnownAdapter
from npu_serving.errors import AdapterError


def package(
    dist_root: Path,
    manifest: BuildManifest,
    server: Path,
    libraries: Mapping[str, Path],
    library_path: Sequence[Path],
    *,
    judged: Sequence[KnownAdapter] = (),
    former: Build | None = None,
    moves_server: bool = False,
) -> Build:
    """The build that `manifest` describes, made of those files; `library_path` is where CANN's libraries are.
    How a new server fits the adapters `judged` becomes part of the manifest; that of `former` is known already.

    Files of the build `former` are shared with it rather than copied; with `moves_server` the server was made for this
    build alone, and is moved into it.

    Raises VerificationError where the server would not start, or not with its adapter, as check_directory() does, and
    AdapterError where the adapter that was packed is not the one that the manifest names. Then nothing is left behind.
    """
    needs = needs_by_release(judged)
    if former is None:
        manifest = dataclasses.replace(manifest, releases=fits_of(server, needs))
    parts = assembled(dist_root, manifest, server, libraries, former=former, moves_server=moves_server)
    with parts as (directory, whole):
        if not manifest.without_adapter and manifest.adapter["sha256"] not in whole.files.values():
            raise replaced_meanwhile(Path(manifest.adapter["path"]))
        fsutil.write_file(directory / bill_of_materials.FILE_NAME, bill_of_materials.bill_of_materials(whole))
        fsutil.write_file(directory / provenance.FILE_NAME, provenance.provenance(whole))
        report = check_directory(
            directory,
            library_path,
            without_adapter=manifest.without_adapter,
            needing=needing(lambda: needs),
        )
        write_definers(directory, report.definers)
    return find_build(dist_root, manifest.build_id)


def replaced_meanwhile(adapter: Path) -> AdapterError:
    """The error for an adapter that has changed since the run began."""
    return AdapterError(
        f"{adapter} was replaced during this run; the previous build stays current.",
        cause="CANN is being installed or removed right now",
        cure="run the same command again when that is finished",
    )
