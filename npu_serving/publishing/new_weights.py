"""--weights: the values of a version's variables replaced by those of a training server, its graph as it is.

Names, types and shapes have to agree. What belongs to an optimizer is left out: a graph that is served has none of it.
"""

from __future__ import annotations

import difflib
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from npu_serving import archives, fsutil
from npu_serving.console import Reporter
from npu_serving.errors import RequestError, UnsafeArchiveError
from npu_serving.models.checkpoint import Checkpoint, CheckpointVariable, checkpoint_prefix, index_of, open_checkpoint
from npu_serving.models.checkpoint_slices import VariableSlice
from npu_serving.models.checkpoint_writer import NewVariable, write_checkpoint
from npu_serving.publishing.version_files import VersionFiles, copy_files
from npu_serving.shown_text import in_a_line
from npu_serving.writers.shell import shell_word

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, numpy.dtype[Any]]

NPZ = ".npz"
VARIABLES = "variables"
_MEMBER = ".npy"
_HEADER_BYTES = 10_000  # numpy.load's own limit
_SHOWN = 8
# What TensorFlow 1 and 2 save beside the variables of a model: optimizers' numbers, counters, the graph of objects.
_OF_TRAINING = re.compile(
    r"(.*/)?(beta[12]_power(_[0-9]+)?|global_step|_CHECKPOINTABLE_OBJECT_GRAPH)\Z"
    r"|(.*/)?(optimizer|save_counter)(/.*)?\Z|.*/\.OPTIMIZER_SLOT/.*"
)


class GivenValues(Protocol):
    """Values by the names of variables, in a file."""

    @property
    def kinds(self) -> Mapping[str, tuple[str, tuple[int, ...]]]:
        """Type and shape of each."""

    def content(self, name: str, part: VariableSlice | None) -> list[bytes]:
        """The bytes of the values, or of a part of them; of texts one piece for each."""


@dataclass(frozen=True)
class NewWeights:
    """Which variables of a version get values of a file, and which keep theirs; `left_out` are of the file alone."""

    file: Path
    version: Checkpoint = field(repr=False)
    values: GivenValues = field(repr=False)
    replaced: tuple[str, ...]
    kept: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """As `--json` shows it."""
        return {
            "file": str(self.file),
            "replaced": list(self.replaced),
            "kept": list(self.kept),
            "left_out": list(self.left_out),
        }

    def text(self) -> str:
        """In a few words."""
        count = len(self.replaced)
        parts = [f"{count} variable{'' if count == 1 else 's'} from {self.file}"]
        parts += [f"{len(self.kept)} as in the former version ({_listed(self.kept)})"] if self.kept else []
        parts += [f"{len(self.left_out)} of the file are left out ({_listed(self.left_out)})"] if self.left_out else []
        return "; ".join(parts)

    def fill(self, files: VersionFiles, target: Path, reporter: Reporter) -> None:
        """Puts the version's files into `target`, with the new values. ModelFileError where values are damaged."""
        copy_files(files, target, reporter, leaving_out=lambda name: name.startswith(f"{VARIABLES}/"))
        fsutil.make_directory(target / VARIABLES)
        total = sum(self.version.variables[name].size_bytes for name in self.version.variables)
        with reporter.progress("writing the variables", total=total, unit="bytes") as progress:
            done = 0

            def variables() -> Iterator[NewVariable]:
                nonlocal done
                for variable in self.version.variables.values():
                    yield from self._written(variable)
                    done += variable.size_bytes
                    progress.update(done, detail=variable.name)

            write_checkpoint(target / VARIABLES / VARIABLES, variables())

    def _written(self, variable: CheckpointVariable) -> Iterator[NewVariable]:
        """The variable in the parts that the version has it in, by which its graph restores it."""
        values = self.values if variable.name in self.replaced else CheckpointValues(self.version)
        for part in variable.slices or (None,):
            yield NewVariable(variable.name, variable.dtype, variable.shape, values.content(variable.name, part), part)


class CheckpointValues:
    """Those of a checkpoint, verified as they are read."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self.kinds = {name: (each.dtype, each.shape) for name, each in checkpoint.variables.items()}

    def content(self, name: str, part: VariableSlice | None) -> list[bytes]:
        """The bytes of the values, or of a part of them; of texts one piece for each."""
        found = self._checkpoint.read(name, part)
        return found if isinstance(found, list) else [found.tobytes()]


class NpzValues:
    """Those of a file of NumPy. Its arrays are called like the variables, with or without :0 behind their names."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
        self._members: dict[str, tuple[str, int]] = {}
        try:
            beginnings = archives.read_beginnings(file, _HEADER_BYTES + 16)
        except UnsafeArchiveError as error:
            raise RequestError(error.what, cause=error.cause, cure=_CURE) from error
        for member, (size_bytes, data) in beginnings.items():
            name = member.removesuffix(_MEMBER).removesuffix(":0")
            if name in self.kinds:
                raise RequestError(f"{file} has {in_a_line(name)} twice.", cure="keep one of the two")
            self.kinds[name] = self._kind(member, data)
            self._members[name] = (member, size_bytes)
        if not self.kinds:
            raise RequestError(f"{file} has no arrays.", cure=_CURE)

    def content(self, name: str, part: VariableSlice | None) -> list[bytes]:
        """The bytes of the values, or of a part of them."""
        import numpy

        member, size_bytes = self._members[name]
        try:
            data = archives.read_files(self._file, {member}, most_bytes=size_bytes)[member]
            formats: Any = numpy.lib.format
            array: Array = formats.read_array(io.BytesIO(data), allow_pickle=False)
        except (UnsafeArchiveError, ValueError, KeyError) as error:
            raise RequestError(
                f"{self._file} is damaged at {in_a_line(member)}.", cause=str(error), cure=_CURE
            ) from error
        if part is not None:
            array = array[tuple(slice(begin, begin + count) for begin, count in part.resolved(array.shape))]
        return [array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()]

    def _kind(self, member: str, data: bytes) -> tuple[str, tuple[int, ...]]:
        import numpy

        try:
            stream = io.BytesIO(data)
            formats: Any = numpy.lib.format
            version = formats.read_magic(stream)
            read = {(1, 0): formats.read_array_header_1_0, (2, 0): formats.read_array_header_2_0}[version]
            shape, _, dtype = read(stream, max_header_size=_HEADER_BYTES)
        except (ValueError, KeyError) as error:
            raise RequestError(
                f"{self._file}: {in_a_line(member)} is not an array that can be read.", cause=str(error), cure=_CURE
            ) from error
        return dtype.name, shape


_CURE = 'save plain arrays by the variables\' names: numpy.savez("weights.npz", **{"dense/kernel": array})'


def new_weights(file: Path, directory: Path, *, partial: bool) -> NewWeights:
    """How the values in that file fit the version in that directory.

    RequestError with every name, type and shape that does not; unless it is `partial`, each variable needs a value,
    and each value a variable, but for what an optimizer has.
    """
    prefix = directory / VARIABLES / VARIABLES
    if not index_of(prefix).exists():
        raise RequestError(
            f"{directory} has no variables, so none can get another value.",
            cause="its weights are constants of its graph, as in a frozen one",
            cure="publish a SavedModel with variables first; ./inv convert-pb --weights-as-variables makes one",
        )
    version = _complete(prefix)
    values = NpzValues(file) if file.suffix == NPZ else CheckpointValues(_complete(checkpoint_prefix(file)))
    kinds = {name: (each.dtype, each.shape) for name, each in version.variables.items()}
    wanted = {name for name in kinds if not _OF_TRAINING.match(name)} or set(kinds)
    replaced = [name for name in kinds if name in values.kinds and name in wanted]
    kept = [name for name in kinds if name not in replaced]
    extra = [name for name in values.kinds if name not in wanted]
    foreign = [name for name in extra if not _is_of_training(name, wanted)]
    troubles = [
        f"{in_a_line(name)} is {_shown(values.kinds[name])} there, and {_shown(kinds[name])} in the model"
        for name in replaced
        if values.kinds[name] != kinds[name]
    ]
    if not partial:
        troubles += [f"{in_a_line(name)} is missing there{_near(name, foreign)}" for name in kept if name in wanted]
        troubles += [f"the model has no variable {in_a_line(name)}{_near(name, kept)}" for name in foreign]
    if troubles or not replaced:
        raise RequestError(
            f"The values in {file} don't fit {directory}:\n"
            + "\n".join(f"  {each}" for each in troubles[:_SHOWN] or ["no variable of the model is there"])
            + (f"\n  and {len(troubles) - _SHOWN} more" if len(troubles) > _SHOWN else ""),
            cause="they are those of another model, or of another version of its code",
            cure=f"./inv graph-nodes {shell_word(directory)} shows the model's variables"
            + ("" if partial else "; --partial takes those that both have"),
        )
    return NewWeights(file, version, values, tuple(replaced), tuple(kept), tuple(extra))


def _complete(prefix: Path) -> Checkpoint:
    """The checkpoint, whose values are there: what they are is verified when they are read."""
    found = open_checkpoint(prefix)
    missing = next((each for each in found.data_files() if not each.is_file()), None)
    if missing is not None:
        raise RequestError(
            f"{missing} is missing, and it has values of variables.",
            cause="a checkpoint was not copied as a whole",
            cure=f"copy all files that begin with {prefix.name}.",
        )
    return found


def _is_of_training(name: str, wanted: set[str]) -> bool:
    """Whether it is a slot of an optimizer, whose name begins with that of its variable, or a number of one."""
    if _OF_TRAINING.match(name):
        return True
    parts = name.split("/")
    return any("/".join(parts[:count]) in wanted for count in range(1, len(parts)))


def _near(name: str, others: list[str]) -> str:
    near = difflib.get_close_matches(name, others, n=1)
    return f" (is {in_a_line(near[0])} meant?)" if near else ""


def _shown(kind: tuple[str, tuple[int, ...]]) -> str:
    return f"{kind[0]} {list(kind[1])}"


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(in_a_line(name) for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
