"""The commands of a relink kit: relink, show, verify, unpack. It is run from the kit, by Python's standard library."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from npu_serving import fsutil
from npu_serving.builds.current import read_builds
from npu_serving.builds.fitting import needing
from npu_serving.builds.manifest import Build
from npu_serving.builds.rollback import NOT_JUDGED, switch_back
from npu_serving.builds.verify import fit_with, verify_directory
from npu_serving.cann.install import Cann
from npu_serving.console import Console, Reporter, amount_text
from npu_serving.errors import EXIT_ACTION_NEEDED, EXIT_INTERRUPTED, NpuServingError, RequestError
from npu_serving.relink_kit.kit_file import Kit, read_kit
from npu_serving.relink_kit.own_words import OwnWords
from npu_serving.relink_kit.proof import GoldenProof
from npu_serving.relink_kit.relink import KitRequest, plan_relink, relink
from npu_serving.relink_kit.unpacking import OTHER_CACHE, check_machine, is_unpacked, unpack, verify_kit
from npu_serving.shown_text import fit_to_show
from npu_serving.state_lock import state_lock
from npu_serving.writers.shell import command_line

_LONG_NAME = "x" * 200  # as long as any that is added to a path that somebody types


class _Answer(Protocol):
    def text(self) -> str: ...

    def to_json(self) -> Mapping[str, object]: ...


@dataclass(frozen=True)
class KitAnswer:
    """What a command found: its lines, its JSON, its exit code."""

    lines: tuple[str, ...]
    document: Mapping[str, object] = field(default_factory=dict)
    exit_code: int = 0

    def text(self) -> str:
        """The lines."""
        return "\n".join(self.lines)

    def to_json(self) -> Mapping[str, object]:
        """The same as data."""
        return self.document


def main(kit_path: str, cache: str, words: Sequence[str]) -> int:
    """Runs one command of the kit in that file; returns the exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    parser = _parser(kit_path)
    arguments = parser.parse_args(words)
    for name, value in vars(arguments).items():
        if isinstance(value, list):  # argparse before Python 3.13 takes a value of "--" for none
            parser.error(f"--{name.replace('_', '-')} can't be '--'")
    reporter, own = Console(), OwnWords(kit_path, _place(arguments))
    try:
        answer = _run(read_kit(Path(kit_path)), Path(cache), arguments, reporter)
    except NpuServingError as error:
        if arguments.json:
            _write(json.dumps(own.of(error.to_json()), indent=2))
        else:
            sys.stderr.write(f"{own.of(fit_to_show(str(error)))}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted. What was current before is current now.\n")
        return EXIT_INTERRUPTED
    _write(json.dumps(own.of(answer.to_json()), indent=2) if arguments.json else str(own.of(answer.text())))
    return int(getattr(answer, "exit_code", 0))


def _interrupted(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _write(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(fit_to_show(text) + "\n")
        sys.stdout.flush()


def _place(arguments: argparse.Namespace) -> list[str]:
    """Where the servers and CANN are, as it was typed."""
    given = {name: getattr(arguments, name, "") or "" for name in ("dist", "cann_root", "adapter", "cache")}
    usual = {"dist": "dist", "adapter": "auto"}
    return [
        word
        for name, value in given.items()
        if value != usual.get(name, "")
        for word in (f"--{name.replace('_', '-')}", value)
    ]


def _parser(kit_path: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python3 {Path(kit_path).name}",
        description="Links TensorFlow Serving with the TF Adapter of the CANN that is installed here.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, about: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=about, allow_abbrev=False)
        added.add_argument("--json", action="store_true", help="print one JSON document")
        added.add_argument("--cache", help="what is unpacked is kept there (default: ~/.cache/npu-serving)")
        return added

    def of_cann(added: argparse.ArgumentParser) -> None:
        added.add_argument("--dist", default="dist", help="the servers, and `current` (default: dist)")
        added.add_argument("--cann-root", help="where CANN is (default: where it is usually installed)")
        added.add_argument("--adapter", default="auto", help="a _tf_adapter.so, or its wheel (default: CANN's own)")

    one = command("relink", "makes, verifies, proves and installs the server for the CANN that is here")
    of_cann(one)
    one.add_argument("--linker", default="auto", help="auto, lld, gold, bfd, or the path of one (default: auto)")
    one.add_argument("--install-link", help="a symbolic link that leads to the current server")
    one.add_argument("--model-base-path", help="the directory of the model that the golden requests ask, or of several")
    one.add_argument("--platform-config-file", help="the platform config to prove the server with")
    one.add_argument("--no-proof", action="store_true", help="verify the server, and ask it nothing")
    one.add_argument("--dry-run", action="store_true", help="print what would be done")
    one.add_argument("--full-check", action="store_true", help="read again what is unpacked and the current server")
    command("show", "shows what the kit is and holds")
    two = command("verify", "reads all of the kit, and says whether the current server fits the CANN that is here")
    of_cann(two)
    three = command("rollback", "makes another server the current one, at once")
    of_cann(three)
    three.add_argument("--build", help="its name (default: the one that was current before)")
    three.add_argument("--force", action="store_true", help="switch even if it does not fit the installed CANN")
    three.add_argument("--dry-run", action="store_true", help="print what would be done")
    command("unpack", "unpacks what the link reads, so that a later relink is as quick as the link")
    return parser


def _run(kit: Kit, cache: Path, arguments: argparse.Namespace, reporter: Reporter) -> _Answer:
    if arguments.command == "show":
        return _show(kit, cache)
    if arguments.command == "unpack":
        check_machine(kit, platform.machine())
        with state_lock(cache, doing="unpacking a kit", cure=f"wait until it has finished, or {OTHER_CACHE}"):
            members = unpack(kit, cache, reporter)
        size = amount_text(kit.file.size_bytes, "bytes")
        return KitAnswer((f"Unpacked into {members} ({size}).",), {"directory": str(members)})
    _refuse_empty(arguments)
    dist_root = _typed(arguments.dist, "--dist")
    request = KitRequest(dist_root, cache, arguments.adapter, arguments.cann_root or "")
    if arguments.command == "rollback":
        cann, force = request.cann, arguments.force
        return switch_back(
            dist_root,
            lambda build: fit_with(build, cann),
            arguments.build or "",
            force=force,
            dry_run=arguments.dry_run,
        )
    if arguments.command == "verify":
        verify_kit(kit, reporter)
        return _verify(kit, dataclasses.replace(request, full_check=True))
    request = dataclasses.replace(
        request,
        linker=arguments.linker,
        install_link=str(_typed(arguments.install_link, "--install-link")) if arguments.install_link else "",
        full_check=arguments.full_check,
    )
    models = _typed(arguments.model_base_path, "--model-base-path") if arguments.model_base_path else None
    if models is not None and not os.path.isdir(models):  # noqa: PTH112 - False for a name that is too long
        raise RequestError(f"--model-base-path {models} is not a directory.", cure="name the directory of a model")
    config = (
        _typed(arguments.platform_config_file, "--platform-config-file") if arguments.platform_config_file else None
    )
    if config is not None and not os.path.isfile(config):  # noqa: PTH113
        raise RequestError(f"--platform-config-file {config} is not a file.", cure="name a platform config")
    if arguments.dry_run:
        plan = plan_relink(kit, request)
        return KitAnswer((plan.text(),), plan.to_json())
    golden = GoldenProof(kit, cache, models, config)

    def proof(build: Build, cann: Cann) -> None:
        if not arguments.no_proof:
            golden.prove(build, cann, reporter)

    return relink(kit, request, reporter, proof)


def _refuse_empty(arguments: argparse.Namespace) -> None:
    """RequestError for a flag with an empty value, which a default would stand in for: "" is the working directory."""
    for name, value in vars(arguments).items():
        if value == "":
            raise RequestError(
                f"--{name.replace('_', '-')} has an empty value.",
                cause="the word behind it is a variable that is not set",
                cure="write a value behind it, or leave the flag out",
            )


def _typed(text: str, flag: str) -> Path:
    """A path as a person types it; RequestError where nobody has the name behind its ~, or no file could lie there."""
    try:
        path = Path(text).expanduser().absolute()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            os.lstat(path / _LONG_NAME)
    except RuntimeError as error:
        raise RequestError(f"{flag} can't be {text!r} ({error}).", cure="write the whole path") from error
    except OSError as error:
        raise RequestError(f"{flag} can't be {text[:60]!r}… ({error.strerror}).", cure="name another place") from error
    return path


def _show(kit: Kit, cache: Path) -> KitAnswer:
    file = kit.file
    sha256 = fsutil.sha256_of(kit.path)
    golden = sorted(name for name in file.entries if name.startswith("golden/") and name.endswith(".json"))
    document = {
        "kit": kit.digest,
        "file": str(kit.path),
        "sha256": sha256,
        "size_bytes": kit.path.stat().st_size,
        "machine": file.machine,
        "objects": file.objects,
        "built_with_linker": file.built_with_linker,
        "linked_files": file.linked_files,
        "members": len(file.members),
        "unpacked_bytes": file.size_bytes,
        "unpacked": is_unpacked(kit, cache),
        "fits": {release: len(symbols) for release, symbols in file.fits.items()},
        "golden": [Path(name).stem for name in golden],
        "manifest": file.manifest.to_json(),
    }
    sizes = f"{amount_text(kit.path.stat().st_size, 'bytes')}, unpacked {amount_text(file.size_bytes, 'bytes')}"
    lines = (
        f"Relink kit {kit.digest}",
        f"  sha256 of the file {sha256}",
        f"  TensorFlow Serving {file.manifest.serving_version} from {file.manifest.source['name']}, {file.machine}, "
        f"objects {file.objects[:12]}",
        f"  {sizes}: {file.content_text}",
        f"  fits the adapters of: {', '.join(sorted(file.fits)) or 'whichever it is linked with'}",
        f"  golden requests: {', '.join(Path(name).stem for name in golden) or 'none'}",
        f"Next: {command_line(['python3', str(kit.path), 'relink'])}",
    )
    return KitAnswer(lines, document)


def _verify(kit: Kit, request: KitRequest) -> KitAnswer:
    """The kit is whole; now whether the current server would start with the installed adapter."""
    lines = [f"The kit {kit.digest} is whole."]
    document: dict[str, object] = {"kit": kit.digest, "whole": True, "current": None, "fits": None}
    current = next((build for build in read_builds(request.dist_root).sound if build.current), None)
    if current is None:
        return KitAnswer((*lines, f"There is no server in {request.dist_root} yet."), document)
    document["current"] = current.manifest.build_id
    try:
        if request.cann.adapter_if_installed is None:
            return _without_cann(current, lines, document)
        return _judged(kit, request, current, lines, document)
    except NpuServingError as error:  # what is wrong here says nothing against the kit
        return KitAnswer((*lines, str(error)), {**document, **error.to_json()}, error.exit_code)


def _without_cann(current: Build, lines: list[str], document: dict[str, object]) -> KitAnswer:
    name, damaged = current.manifest.build_id, current.damaged_file(read_again=True)
    if damaged:
        why = f"{name}, the current server, is damaged: its {damaged} was removed or changed since it was built."
        return KitAnswer((*lines, why), document, EXIT_ACTION_NEEDED)
    note = f"{name}, the current server, was read and is as it was built. {NOT_JUDGED}; name it with --cann-root."
    return KitAnswer((*lines, note), document)


def _judged(kit: Kit, request: KitRequest, current: Build, lines: list[str], document: dict[str, object]) -> KitAnswer:
    plan = plan_relink(kit, request)
    needed_by = needing(lambda: kit.file.fits)
    library_path, adapter = request.cann.library_path, request.cann.adapter
    report = verify_directory(current.directory, library_path, adapter, needing=needed_by)
    document.update(fits=plan.action == "nothing", plan=plan.to_json())
    return KitAnswer(
        (*lines, plan.text(), report.text()), document, EXIT_ACTION_NEEDED if plan.action != "nothing" else 0
    )
