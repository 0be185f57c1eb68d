"""Golden requests on disk: a file NAME.json for each in one directory, and .npz files beside it for large tensors.

The .json file is written last and names the others, whose names have their content's digest: whatever interrupts a
write leaves the request as it was, or as it is to be.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from npu_serving import fsutil
from npu_serving.asking.golden import GRPC, REST, GoldenOrigin, GoldenRequest, Tolerance
from npu_serving.asking.golden_places import DIRECTORY, FORMER, RECORD
from npu_serving.asking.npy import SUFFIX, json_values, read_npz, tensor_of, write_npz
from npu_serving.asking.request import COLUMN, ROW, PredictRequest
from npu_serving.documents import DocumentRefusal, Rule, read_document
from npu_serving.errors import NpuServingError, RequestError
from npu_serving.shown_text import in_a_line

FORMAT = 2

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_OWN_NPZ = r"-(inputs|expected)-[0-9a-f]{12}\.npz"
_MOST_VERSION = 2**63 - 1
_Problem = tuple[str, str]


def _npz_name(name: str) -> str:
    if "/" in name or not name.endswith(SUFFIX) or name.startswith("."):
        return f"must be the name of a {SUFFIX} file beside this one, not {name!r}"
    return ""


def _model(name: str) -> str:
    return "" if name.strip() else "must be the name that the server knows the model by"


NpzName = Annotated[str, Rule(check=_npz_name)]
WholeVersion = Annotated[int, Rule(minimum=0, maximum=_MOST_VERSION)]


@dataclass(frozen=True)
class GoldenFile:
    """A golden request as it stands in its file."""

    model: Annotated[str, Rule(check=_model)]
    signature: str = ""
    version: WholeVersion | None = None
    label: str = ""
    api: Literal["rest", "grpc"] = "rest"
    instances: tuple[object, ...] | None = None
    inputs: object = None
    inputs_npz: NpzName | None = None
    expected: object = None
    expected_npz: NpzName | None = None
    tolerance: Tolerance = field(default=Tolerance())
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    model_base_path: str = ""
    platform_config_file: Path | None = None
    recorded: GoldenOrigin = field(default=GoldenOrigin())

    def problems(self) -> Iterator[_Problem]:
        """No inputs or two kinds of them, no answer or two of them, a version and a label."""
        given = [key for key in (ROW, COLUMN, "inputs_npz") if getattr(self, key) is not None]
        if not given:
            yield COLUMN, f"is missing: give {ROW}, {COLUMN} or inputs_npz"
        for key in given[1:]:
            yield key, f"is there beside {given[0]}: keep one of them"
        if self.instances is not None and not self.instances:
            yield ROW, "must have at least one instance"
        if self.expected is not None and self.expected_npz is not None:
            yield "expected_npz", "is there beside expected: keep one of the two"
        if self.version is not None and self.label:
            yield "label", "is there beside version: keep one of the two"


@dataclass(frozen=True)
class FormerFile:
    """The golden request as it stood in the single file of format 1."""

    model_base_path: str
    model_name: str
    platform_config_file: Path | None
    request: Mapping[str, object]
    expected: object
    tolerance: Annotated[float, Rule(minimum=0)]
    build_id: str


@dataclass(frozen=True)
class GoldenRequests:
    """Those of a directory, in the order of their names, and the errors of files that hold none."""

    directory: Path
    requests: tuple[GoldenRequest, ...] = ()
    errors: tuple[NpuServingError, ...] = ()

    def sound(self) -> tuple[GoldenRequest, ...]:
        """The requests. RequestError with every mistake of every file, where there is one."""
        if self.errors:
            cures = "; ".join(dict.fromkeys(error.cure for error in self.errors if error.cure))
            error = RequestError("\n".join(each.what for each in self.errors), cause=self.errors[0].cause, cure=cures)
            found = [each.details.get("mistakes", ()) for each in self.errors]
            mistakes = [mistake for of_file in found if isinstance(of_file, (list, tuple)) for mistake in of_file]
            error.details["mistakes"] = mistakes
            raise error
        return self.requests

    def of(self, model: str, base_path: str = "") -> tuple[GoldenRequest, ...]:
        """Those of the model; see GoldenRequest.is_of()."""
        return tuple(each for each in self.requests if each.is_of(model, base_path))


def read_golden_requests(directory: Path) -> GoldenRequests:
    """All golden requests of the directory; none where there is no such directory.

    One in the single file that there was before, beside the directory, counts under its model's name unless the
    directory has another of that name.
    """
    found: dict[str, GoldenRequest] = {}
    errors: list[NpuServingError] = []
    with fsutil.explained(directory, doing="read"):
        names = sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []
    for name in names:
        if name.endswith(".json") and not name.startswith("."):
            try:
                found[name[:-5]] = _read(directory / name)
            except NpuServingError as error:
                errors.append(error)
    former = directory.parent / FORMER
    if directory.name == DIRECTORY and former.is_file():
        try:
            one = _read_former(former)
            found.setdefault(one.name, one)
        except NpuServingError as error:
            errors.append(error)
    return GoldenRequests(directory, tuple(found[name] for name in sorted(found)), tuple(errors))


def usual_name(model: str) -> str:
    """What the golden request of a model is called where nobody says otherwise."""
    return re.sub("[^A-Za-z0-9._-]", "_", model)[:100] or "_"


def check_name(name: str, flag: str = "--name") -> str:
    """The name, where a file may have it; else RequestError."""
    if not _NAME.fullmatch(name) or name.endswith((SUFFIX, ".json")):
        raise RequestError(
            f"{in_a_line(name)!r} can't be the name of a golden request.",
            cause="its files are called like it",
            cure=f"use letters, digits, '-', '_' and '.', such as resnet-batch-8: {flag} NAME",
        )
    return name


def write_golden(directory: Path, golden: GoldenRequest, inputs_npz: bytes | None = None) -> Path:
    """Adds it to the directory, or replaces the one of its name; returns its file.

    Where `inputs_npz`, the content of a .npz file, holds its inputs, they are kept so, and the answer as arrays where
    it can be.
    """
    check_name(golden.name)
    fsutil.make_directory(directory)
    request = golden.request
    config = golden.platform_config_file
    written: dict[str, object] = {
        "format": FORMAT,
        "model": golden.model,
        "signature": request.signature_name,
        **({"version": golden.version} if golden.version is not None else {}),
        **({"label": golden.label} if golden.label else {}),
        "api": golden.api,
    }
    if inputs_npz is None:
        written |= {request.form: request.values, "expected": golden.expected}
    else:
        written["inputs_npz"] = _write_npz(directory, f"{golden.name}-inputs", inputs_npz)
        arrays = _arrays(golden.expected)
        if arrays is None:
            written["expected"] = golden.expected
        else:
            written["expected_npz"] = _write_npz(directory, f"{golden.name}-expected", arrays)
    written |= {
        "tolerance": asdict(golden.tolerance),
        **(
            {"tolerances": {name: asdict(each) for name, each in golden.tolerances.items()}}
            if golden.tolerances
            else {}
        ),
        "model_base_path": golden.model_base_path,
        "platform_config_file": str(config) if config is not None else None,
        "recorded": asdict(golden.origin),
    }
    path = directory / f"{golden.name}.json"
    fsutil.write_file(path, json.dumps(written, indent=2) + "\n")
    _clear_up(directory, golden.name, {str(written.get(key)) for key in ("inputs_npz", "expected_npz")})
    return path


def keep_tolerances(directory: Path, golden: GoldenRequest, tolerances: Mapping[str, Tolerance]) -> Path:
    """Puts the tolerances of these outputs ("" for a single one without a name) into its file, which it returns.

    All else in the file stays as it is. RequestError where it has no file of its own.
    """
    path = directory / f"{golden.name}.json"
    if not path.is_file():
        raise RequestError(
            f"{golden.name} has no file of its own in {directory}, for tolerances to be written to.",
            cause=f"it stands in {FORMER}, which an earlier version wrote",
            cure=f"record it again: {RECORD}",
        )
    document = json.loads(fsutil.read_text(path))
    named = {name: asdict(each) for name, each in tolerances.items() if name}
    if "" in tolerances:
        document["tolerance"] = asdict(tolerances[""])
        document.pop("tolerances", None)
    if named:
        document["tolerances"] = {**(document.get("tolerances") or {}), **named}
    fsutil.write_file(path, json.dumps(document, indent=2) + "\n")
    return path


def _write_npz(directory: Path, stem: str, data: bytes) -> str:
    name = f"{stem}-{hashlib.sha256(data).hexdigest()[:12]}{SUFFIX}"
    fsutil.write_file(directory / name, data)
    return name


def _clear_up(directory: Path, name: str, kept: set[str]) -> None:
    """Removes what an earlier request of that name had, and the single file of before that it now stands for."""
    for path in sorted(directory.iterdir()):
        if re.fullmatch(re.escape(name) + _OWN_NPZ, path.name) and path.name not in kept:
            fsutil.remove(path)
    former = directory.parent / FORMER
    if directory.name == DIRECTORY and former.is_file():
        try:
            is_replaced = _read_former(former).name == name
        except NpuServingError:
            is_replaced = False
        if is_replaced:
            fsutil.remove(former)


def _read(path: Path) -> GoldenRequest:
    refusal = DocumentRefusal(
        f"{path} is not a golden request:", RequestError, "", f"correct {path}, or record it again"
    )
    check_name(path.stem)
    fsutil.refuse_endless(path)
    read = read_document(path, GoldenFile, format=FORMAT, refusal=refusal)
    try:
        values = read.inputs
        if read.inputs_npz is not None:
            values = {name: json_values(tensor) for name, tensor in read_npz(path.parent / read.inputs_npz).items()}
        expected = read.expected
        if read.expected_npz is not None:
            arrays = {name: json_values(tensor) for name, tensor in read_npz(path.parent / read.expected_npz).items()}
            expected = next(iter(arrays.values())) if len(arrays) == 1 else arrays
    except NpuServingError as error:
        raise RequestError(f"{refusal.heading} {error.what}", cause=error.cause, cure=refusal.cure) from error
    form = ROW if read.instances is not None else COLUMN
    if read.instances is not None:
        values = list(read.instances)
    return GoldenRequest(
        name=path.stem,
        model=read.model,
        request=PredictRequest(form, values, read.signature),
        expected=expected,
        tolerance=read.tolerance,
        tolerances=read.tolerances,
        version=read.version,
        label=read.label,
        api=GRPC if read.api == GRPC else REST,
        model_base_path=read.model_base_path,
        platform_config_file=read.platform_config_file,
        origin=read.recorded,
    )


def _read_former(path: Path) -> GoldenRequest:
    refusal = DocumentRefusal(
        f"{path} is not a golden request:", RequestError, "it was changed by hand", f"record it again: {RECORD}"
    )
    read = read_document(path, FormerFile, format=1, ignore_unknown=True, refusal=refusal)
    forms = [key for key in (ROW, COLUMN) if key in read.request]
    if len(forms) != 1:
        raise RequestError(f"{refusal.heading} its request has no inputs.", cause=refusal.cause, cure=refusal.cure)
    return GoldenRequest(
        name=usual_name(read.model_name),
        model=read.model_name,
        request=PredictRequest(forms[0], read.request[forms[0]], str(read.request.get("signature_name", ""))),
        expected=read.expected,
        tolerance=Tolerance(read.tolerance, read.tolerance),
        model_base_path=read.model_base_path,
        platform_config_file=read.platform_config_file,
        origin=GoldenOrigin(build=read.build_id),
    )


def _arrays(expected: object) -> bytes | None:
    """The answer as arrays: the outputs by name, or the only one; None where it is not made of numbers alone."""
    by_name = expected if isinstance(expected, dict) and len(expected) > 1 else {"output": expected}
    tensors = {name: tensor_of(value) for name, value in by_name.items()}
    if any(tensor is None or not re.fullmatch(r"[^/\\\x00-\x1f]+", name) for name, tensor in tensors.items()):
        return None
    return write_npz({name: tensor for name, tensor in tensors.items() if tensor is not None})
