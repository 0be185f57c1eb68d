"""Every error class of the project, each with its exit code and a sentence on when it occurs.

An error has three parts: what happened, the likely cause, and what to type next. Only tasks.py prints them.
"""

from __future__ import annotations

EXIT_FAILED = 1
EXIT_BAD_REQUEST = 2
EXIT_ACTION_NEEDED = 3
EXIT_UNFIT_TOOL = 4
EXIT_PIN_MISMATCH = 5
EXIT_INTERRUPTED = 130  # the shell's convention: 128 + SIGINT


class NpuServingError(Exception):
    """The base of all of them: something the person at the terminal has to know about.

    `what` names the file, URL, option or symbol at fault; `cause` says why it probably happened; `cure` is what to
    type next. The last two may be empty where nothing honest can be said.
    """

    exit_code = EXIT_FAILED

    def __init__(self, what: str, *, cause: str = "", cure: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.cause = cause
        self.cure = cure
        self.details: dict[str, object] = {}
        """What a program wants to know besides, such as the report of the files of a fetch that failed."""

    def __str__(self) -> str:
        parts = [self.what]
        if self.cause:
            parts.append(f"Likely cause: {self.cause}")
        if self.cure:
            parts.append(f"Next: {self.cure}")
        return "\n".join(parts)

    def to_json(self) -> dict[str, object]:
        """The error as `--json` shows it."""
        return {
            "error": type(self).__name__,
            "what": self.what,
            "cause": self.cause,
            "cure": self.cure,
            "exit_code": self.exit_code,
            **self.details,
        }


# ---- 2: the request, or a file it names, is wrong


class RequestError(NpuServingError):
    """A flag, a setting or a file that was given is not valid."""

    exit_code = EXIT_BAD_REQUEST


class UnwritableValueError(RequestError):
    """A value can't be written in the language of the file it is meant for: no quoting would preserve it."""


class DocumentError(RequestError):
    """A YAML or JSON file is not what it is meant to be; the message has all its mistakes, each with its place."""


class SettingsError(RequestError):
    """invoke.yaml or a flag has an unknown key or a value of the wrong kind."""


class LockFileError(RequestError):
    """A lock file is missing, is not valid, or is for another tree."""


class NoLockError(LockFileError):
    """There is no lock for the tree that is named: lock-deps makes it."""


class SourceError(RequestError):
    """The source named is missing, is not a TensorFlow Serving tree, or is not of the lock's version."""


class BuildFileError(RequestError):
    """A BUILD file does not have the shape that an edit needs; the file is as it was."""


class AdapterError(RequestError):
    """The adapter library is missing, unreadable, not an ELF file, or for another architecture."""


class ElfError(RequestError):
    """A file is not an ELF file that this project can read."""


class ElfClassError(ElfError):
    """An ELF file is for 32-bit programs; the dynamic loader passes over it."""


class KitError(RequestError):
    """A relink kit is cut short, damaged, for another architecture, or no kit at all."""


class ModelFileError(RequestError):
    """A file is not a model that a server could load, or is damaged; the message has the byte."""


class WorkspaceError(RequestError):
    """A WORKSPACE or .bzl file can't be evaluated."""


# ---- 3: a check found that something has to be done


class ActionNeeded(NpuServingError):
    """A check succeeded and found that action is needed."""

    exit_code = EXIT_ACTION_NEEDED


class VerificationError(ActionNeeded):
    """A built server would not start, or would start without its adapter."""


class MissingSymbolsError(VerificationError):
    """A server that was just linked has not all that its adapter needs of it; `symbols` are the names, mangled."""

    def __init__(self, what: str, *, symbols: tuple[str, ...], cause: str = "", cure: str = "") -> None:
        super().__init__(what, cause=cause, cure=cure)
        self.symbols = symbols


class NoSuchSymbolError(MissingSymbolsError):
    """The same, and nothing that the server is linked from has one of them: no other link would help."""


# ---- 4: a tool on this machine is missing or unsuitable


class MissingToolError(NpuServingError):
    """A program, library or service that the work needs is not here, or not in a suitable version."""

    exit_code = EXIT_UNFIT_TOOL


# ---- 5: what was fetched is not what was pinned


class PinMismatchError(NpuServingError):
    """Bytes have a different sha256 from the pinned one; they were not used."""

    exit_code = EXIT_PIN_MISMATCH


# ---- 1: it failed


class UnsafeArchiveError(NpuServingError):
    """An archive holds a member that would leave its directory, or of a kind that is never extracted."""


class FetchError(NpuServingError):
    """A file could not be fetched from any of its mirrors."""


class ProgramError(NpuServingError):
    """A program that was started ended with an error."""

    def __init__(self, what: str, *, cause: str = "", cure: str = "", returncode: int = 1, output: str = "") -> None:
        super().__init__(what, cause=cause, cure=cure)
        self.returncode = returncode
        self.output = output


class OutOfMemoryError(ProgramError):
    """A program was killed, or gave up, because memory ran out: the same work done in another way fares no better."""


class BuildFailedError(ProgramError):
    """Bazel ended with an error; the cause was recognised in its output if it is a known one."""


class StateLockedError(NpuServingError):
    """Another run holds the lock on the state directory."""


class SwitchedMeanwhileError(NpuServingError):
    """Another run has made another build the current one, while a new one was being proven: nothing was switched."""


class DiskFullError(NpuServingError):
    """A file could not be written because the disk is full; nothing half-written was left behind."""


class FileAccessError(NpuServingError):
    """A file or directory could not be read or written because permission is missing, or the disk is read-only."""


class NameTakenError(FileAccessError):
    """Something else got the name of what was being made."""


class NoSuchFileError(FileAccessError):
    """A file that is to be read is not there, or is something else: the path was mistyped."""

    exit_code = EXIT_BAD_REQUEST


class ServerError(NpuServingError):
    """A model server did not start, exited, or answered with an error."""


class UnreachableError(ServerError):
    """Nothing answers at the address of a model server, or the connection was lost before its answer."""


class GatewayError(ServerError):
    """A gateway or proxy before a model server answered in its place."""
