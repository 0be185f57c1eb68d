"""What a relink kit holds beside the link's files: its description, golden requests, bill of materials, the program."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from npu_serving import fsutil
from npu_serving.asking.golden_files import read_golden_requests
from npu_serving.asking.golden_places import golden_directory
from npu_serving.builds import bill_of_materials
from npu_serving.builds.manifest import SERVER, BuildManifest
from npu_serving.cann.known_adapters import KnownAdapter, is_release
from npu_serving.console import Reporter
from npu_serving.elf.symbols import read_elf
from npu_serving.errors import NpuServingError, RequestError
from npu_serving.facts import ADAPTER_SONAME
from npu_serving.packaging.kit_members import ADAPTER, ROLES, KitLink
from npu_serving.packaging.kit_source import KitSource
from npu_serving.relink_kit.kit_file import KIT_BILL, KIT_GOLDEN, AdapterFiles, KitFile, KitMember
from npu_serving.relink_kit.program_files import program_files
from npu_serving.settings import Settings

UNKNOWN = "0" * 64
"""Stands in the bill of materials for the digest of what a relink makes."""
ANY_TIME = "1980-01-01T00:00:00Z"


def described_kit(
    source: KitSource, link: KitLink, files: Mapping[str, bytes], held: Mapping[str, KitMember]
) -> KitFile:
    """kit.json. `held` is what was written for each member, `files` what else is in the kit."""
    adapter_files = {role: f"{ADAPTER}/{name}" for name, role in ROLES.items()}
    return KitFile(
        machine=machine_of(link),
        objects=source.saved.objects,
        soname=ADAPTER_SONAME,
        built_with_linker=_linker(source.saved.linker),
        command=link.command,
        adapter_files=AdapterFiles(**{**adapter_files, **link.adapter_files}),
        libraries=link.libraries,
        members=held,
        linked_files=len(source.saved.inputs),
        fits=fits_by_release(source.fits),
        manifest=template(source.manifest),
        entries={name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    )


def fits_by_release(adapters: Iterable[KnownAdapter]) -> dict[str, tuple[str, ...]]:
    """What each needs of the server, by its release; what was named by its file goes by the file's name alone.

    The directories are this machine's. Adapters all have one name, so those that share it are one entry with the needs
    of them all.
    """
    found: dict[str, set[str]] = {}
    for item in adapters:
        name = item.release if is_release(item.release) else Path(item.release).name
        found.setdefault(name, set()).update(item.symbols)
    return {name: tuple(sorted(symbols)) for name, symbols in found.items()}


_LINKERS: Mapping[str, Literal["bfd", "gold", "lld"]] = {"bfd": "bfd", "gold": "gold", "lld": "lld"}


def _linker(name: str) -> Literal["bfd", "gold", "lld"]:
    """The linker's name. RequestError for one by which a kit is not linked."""
    if name in _LINKERS:
        return _LINKERS[name]
    raise RequestError(
        f"The build was linked with {name}, and a kit is linked with bfd, gold or lld.",
        cause="a flag in --bazel-arg or bazel_args chose it",
        cure="leave that flag out, and build again: ./inv build-serving",
    )


def files_beside(golden: Path, source: KitSource, link: KitLink, reporter: Reporter) -> dict[str, bytes]:
    """What else is in the kit, by name; `golden` is the directory of the golden requests."""
    return {
        **program_files(),
        **golden_files(golden, reporter),
        KIT_BILL: _bill(source.manifest, link),
    }


def machine_of(link: KitLink) -> str:
    """The machine that the link is for, as `uname -m` says it."""
    (path, *_) = sorted(link.libraries.values())
    return read_elf(next(member.sources[0] for member in link.members if member.path == path)).machine


def template(manifest: BuildManifest) -> BuildManifest:
    """The manifest without what differs between two links of the same objects."""
    return dataclasses.replace(
        manifest,
        build_id="",
        input_digest="",
        adapter={},
        actions={},
        files={},
        created="",
        linked="",
        linker="",
        linker_version="",
        releases=(),
    )


def _bill(manifest: BuildManifest, link: KitLink) -> bytes:
    """The bill of what was compiled: the server and the adapter have no digest yet."""
    sources = {member.path: member.sources[0] for member in link.members}
    libraries = {f"lib/{soname}": fsutil.sha256_of(sources[path]) for soname, path in link.libraries.items()}
    files = {SERVER: UNKNOWN, f"lib/{ADAPTER_SONAME}": UNKNOWN, **libraries}
    whole = dataclasses.replace(
        template(manifest), files=files, created=ANY_TIME, input_digest=manifest.objects, adapter={"sha256": UNKNOWN}
    )
    return bill_of_materials.bill_of_materials(whole).encode()


def golden_names(files: Mapping[str, bytes]) -> tuple[str, ...]:
    """The names of the golden requests among what is beside the link's files."""
    found = (name for name in files if name.startswith(KIT_GOLDEN) and name.endswith(".json"))
    return tuple(sorted(name[len(KIT_GOLDEN) : -len(".json")] for name in found))


def golden_of_kit(settings: Settings, directory: Path | None, reporter: Reporter) -> Path:
    """The directory of the golden requests for a kit: the one that is named, or that beside the builds.

    A named one that is not there is fine, since a repository may have none, and said.
    """
    if directory is not None and not directory.is_dir():
        reporter.warn(f"{directory} is not a directory, so the kit has no golden requests.")
    return directory or golden_directory(settings.dist_root)


def golden_files(directory: Path, reporter: Reporter) -> dict[str, bytes]:
    """The golden requests as they are in a kit, each with its arrays and its platform config, by name.

    Warns of what can't go along.
    """
    return dict(_golden_files(directory, reporter))


def _golden_files(directory: Path, reporter: Reporter) -> Iterator[tuple[str, bytes]]:
    """Each names its platform config as a file beside it."""
    held = read_golden_requests(directory)
    for error in held.errors:
        reporter.warn(f"A golden request is not in the kit. {error.what}")
    for golden in held.requests:
        path = directory / f"{golden.name}.json"
        if not path.is_file():
            reporter.warn(
                f"The golden request {golden.name} is not in the kit: it has no file of its own in {directory}."
            )
            continue
        try:
            yield from _golden_request(path, golden.name, golden.platform_config_file)
        except NpuServingError as error:
            reporter.warn(f"The golden request {golden.name} is not in the kit. {error.what}")


def _golden_request(path: Path, name: str, config: Path | None) -> list[tuple[str, bytes]]:
    document = json.loads(fsutil.read_bytes(path))
    found = []
    if config is not None:
        found.append((f"{KIT_GOLDEN}{name}.config", fsutil.read_bytes(config)))
        document["platform_config_file"] = f"{name}.config"
    for key in ("inputs_npz", "expected_npz"):
        if document.get(key):
            found.append((f"{KIT_GOLDEN}{document[key]}", fsutil.read_bytes(path.parent / document[key])))
    return [(f"{KIT_GOLDEN}{name}.json", (json.dumps(document, indent=2) + "\n").encode()), *found]
