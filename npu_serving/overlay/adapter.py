"""The overlay on a serving tree: third_party/tf_adapter and some deps of the server. Planned, applied, undone.

A record beside the files, npu-serving.json, says which of them are ours and which deps we added, so that undoing it
removes exactly these.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving import fsutil
from npu_serving.errors import EXIT_ACTION_NEEDED, BuildFileError, SourceError
from npu_serving.lock.starlark_files import DirectoryTree
from npu_serving.overlay import buildfile
from npu_serving.overlay.content import OverlayEntry, OverlayInputs
from npu_serving.overlay.patch_plan import PatchPlan, apply_patches
from npu_serving.overlay.stubs import build_stubs
from npu_serving.settings import XLA_FULL, XLA_OF_ADAPTER

DIRECTORY = "third_party/tf_adapter"
RECORD = f"{DIRECTORY}/npu-serving.json"
RECORD_FORMAT = 1
_LIBRARIES = ("//third_party/tf_adapter:tf_adapter", "//third_party/tf_adapter:tf_python")
_XLA: Mapping[str, tuple[str, ...]] = {
    XLA_FULL: ("@org_tensorflow//tensorflow/compiler/jit:xla_cpu_jit",),  # guide 6.3, step 6
    # All of it that the adapter of every known release calls. They are for TensorFlow's own packages: Bazel gets
    # --nocheck_visibility for it. A changed BUILD file in TensorFlow's archive would fit the bytes of one archive only.
    XLA_OF_ADAPTER: (
        "@org_tensorflow//tensorflow/compiler/jit/graphcycles",
        "@org_tensorflow//tensorflow/compiler/tf2xla:functionalize_control_flow",
    ),
}
FULL_XLA = _XLA[XLA_FULL][0].rpartition(":")[2]
"""The name of the guide's target, by which a lock says what is needed only with it."""
ALL_DEPS = (*_LIBRARIES, *(label for labels in _XLA.values() for label in labels))
"""Every dep that the overlay adds with one setting or the other."""


@dataclass(frozen=True)
class Change:
    """One path that is made, changed or removed; `path` is relative to the tree, of a patch to the plan's root.

    `before` and `after` are texts, empty where there is none; `wanted` is what comes to be there, None for removals
    and for the server's BUILD file.
    """

    path: str
    action: str  # "write", "copy", "link", "build", "edit", "remove" or "patch"
    before: str = ""
    after: str = ""
    wanted: OverlayEntry | None = None

    def text(self) -> str:
        """What happens, in a few words."""
        what = {
            "write": "write",
            "copy": f"copy {self.wanted.copy_of} to" if self.wanted else "",
            "link": f"link to {self.wanted.link_to}:" if self.wanted else "",
            "build": "build with CMake:",
            "edit": "edit the deps in",
            "remove": "remove",
            "patch": "unpack and patch",
        }[self.action]
        return f"{what} {self.path}"

    def diff(self) -> str:
        """Texts as a unified diff, everything else as one line."""
        if not self.before and not self.after:
            return f"{self.text()}\n"
        return _unified_diff(self.path, self.before, self.after)


@dataclass(frozen=True)
class OverlayPlan:
    """What has to change in `tree`, in the order in which it is carried out. No changes: the tree is up to date."""

    tree: Path
    changes: tuple[Change, ...] = ()
    content: tuple[OverlayEntry, ...] = ()
    """All that belongs in the directory; nothing when the overlay is removed."""
    deps_added: tuple[str, ...] = ()
    recorded: Mapping[str, str] = field(default_factory=dict)
    """Our files by name: the sha256 of their bytes, or `-> target`; as the record in the tree has it."""
    patches: PatchPlan | None = None

    def diff(self) -> str:
        """All changes, for a person to read."""
        return "".join(change.diff() for change in self.changes)


@dataclass(frozen=True)
class OverlayResult:
    """What was done, or would be."""

    tree: Path
    mode: str  # "apply", "check", "diff" or "dry-run"
    removing: bool
    plan: OverlayPlan

    @property
    def exit_code(self) -> int:
        """3 when a check found changes to be made, else 0."""
        return EXIT_ACTION_NEEDED if self.mode == "check" and self.plan.changes else 0

    def to_json(self) -> dict[str, object]:
        """The result as `--json` shows it."""
        return {
            "tree": str(self.tree),
            "mode": self.mode,
            "removing": self.removing,
            "up_to_date": not self.plan.changes,
            "changes": [{"path": change.path, "action": change.action} for change in self.plan.changes],
            "diff": self.plan.diff() if self.mode == "diff" else None,
        }

    def text(self) -> str:
        """The result for a person."""
        if not self.plan.changes:
            return f"{self.tree}: {'it has no overlay' if self.removing else 'the overlay is up to date'}."
        if self.mode == "diff":
            return self.plan.diff().rstrip("\n")
        done = {"apply": "was changed", "check": "needs these changes", "dry-run": "would be changed"}[self.mode]
        return "\n".join([f"{self.tree} {done}:", *(f"  {change.text()}" for change in self.plan.changes)])


def render_overlay(
    tree: Path, inputs: OverlayInputs | None, *, mode: str = "apply", remove: bool = False
) -> OverlayResult:
    """The task `render-overlay`: plans, and with mode "apply" carries out. `inputs` is None only with `remove`."""
    if remove:
        plan = plan_removal(tree)
    else:
        assert inputs is not None
        plan = plan_overlay(tree, inputs)
    if mode == "apply":
        apply_overlay(plan)
    return OverlayResult(tree, mode, remove, plan)


def plan_overlay(tree: Path, inputs: OverlayInputs) -> OverlayPlan:
    """What has to change so that `tree` links the adapter in. Changes nothing.

    Raises SourceError when it is not a serving tree or third_party/tf_adapter holds files that aren't ours,
    BuildFileError when the server's BUILD file can't be edited, AdapterError when a library is unsuitable.
    """
    before = _server_build(tree)
    starlark = DirectoryTree(tree)
    record = _read_record(tree)
    wanted_deps = server_deps(inputs.xla)
    others = [label for label in _deps_of(record) if label not in wanted_deps]
    after = buildfile.remove_deps(before, labels=others, files=starlark) if others else before
    after = buildfile.add_deps(after, labels=wanted_deps, files=starlark)
    content = inputs.content
    files = _files_of(record)
    patched = inputs.patches.changes if inputs.patches is not None else ()
    changes = [Change(item.key, "patch") for item in patched]
    changes += [change for wanted in content for change in _change_for(tree, wanted, files)]
    names = {wanted.name for wanted in content}
    changes += [_removal(tree, name) for name in files if name not in names and _exists(tree, name)]
    if after != before:
        changes.append(Change(buildfile.FILE, "edit", before, after))
    spelled = set(buildfile.read_deps(before, files=starlark))
    added = tuple(label for label in wanted_deps if label in _deps_of(record) or label not in spelled)
    needed = set(buildfile.read_deps(after, files=starlark))
    deps_added = tuple(label for label in added if label in needed)
    return OverlayPlan(tree, tuple(changes), content, deps_added, files, inputs.patches)


def plan_removal(tree: Path) -> OverlayPlan:
    """What has to change so that `tree` is as it was before. Raises SourceError rather than touch a file not ours."""
    before = _server_build(tree)
    directory = tree / DIRECTORY
    if not directory.exists():
        return OverlayPlan(tree)
    record = _read_record(tree)
    files = _files_of(record)
    others = sorted(entry.name for entry in directory.iterdir() if entry.name not in {*files, Path(RECORD).name})
    changed = [name for name, content in files.items() if _exists(tree, name) and _held(directory / name) != content]
    if others or changed:
        kept = ", ".join(others + [f"{name} (changed since)" for name in changed])
        raise SourceError(
            f"{directory} contains files that this project did not write: {kept}.",
            cause="they were put there or changed by hand",
            cure="move them away, then run the same command again",
        )
    after = buildfile.remove_deps(before, labels=_deps_of(record), files=DirectoryTree(tree))
    changes = [Change(buildfile.FILE, "edit", before, after)] if after != before else []
    changes += [_removal(tree, name) for name in files if _exists(tree, name)]
    changes += [Change(RECORD, "remove")] if record else []
    changes.append(Change(DIRECTORY, "remove"))
    return OverlayPlan(tree, tuple(changes))


def apply_overlay(plan: OverlayPlan) -> None:
    """Applies the plan; a run that was killed resumes where it was when it is started again."""
    if plan.patches is not None:
        apply_patches(plan.patches)
    if plan.content and any(change.action != "patch" for change in plan.changes):
        stubs = _stubs_for(plan)
        # The record comes first: whatever a killed run leaves behind is known to be ours.
        files = {wanted.name: _intended(plan, wanted, stubs) for wanted in plan.content}
        fsutil.write_file(plan.tree / RECORD, _record_text(files, plan.deps_added))
    else:
        stubs = {}
    for change in plan.changes:
        if change.action == "patch":
            continue
        _carry_out(plan.tree / change.path, change, stubs)


def server_deps(xla: str) -> tuple[str, ...]:
    """The deps that the server gets, by how much of XLA is wanted: "adapter" or "full"."""
    return (*_LIBRARIES, *_XLA[xla])


def names_full_xla(tree: Path) -> bool:
    """Whether the tree's own BUILD file of the server names the guide's target, as after the guide's steps by hand."""
    try:
        labels = buildfile.read_deps(_server_build(tree), files=DirectoryTree(tree))
        ours = _deps_of(_read_record(tree))
    except (SourceError, BuildFileError):
        return False
    named = {buildfile.canonical(label, buildfile.PACKAGE) for label in labels} - set(ours)
    return not named.isdisjoint(_XLA[XLA_FULL])


def plain_server_build(tree: Path) -> dict[str, str]:
    """The server's BUILD file without the deps of the overlay, by its path in the tree, whether or not they are there;
    nothing where it can't be read, as it then is what it is.
    """
    with contextlib.suppress(SourceError, BuildFileError):
        build = _server_build(tree)
        return {buildfile.FILE: buildfile.remove_deps(build, labels=ALL_DEPS, files=DirectoryTree(tree))}
    return {}


def runtime_libraries(tree: Path) -> dict[str, Path]:
    """The libraries that an installed server needs beside it, by the name under which the loader asks for them.

    That is the SONAME; for a library without one, the file name that it was linked under.
    """
    from npu_serving.elf.symbols import read_elf

    directory = tree / DIRECTORY
    libraries = {}
    for name, content in sorted(_files_of(_read_record(tree)).items()):
        path = directory / name
        if ".so" in name and not content.startswith("-> "):
            libraries[read_elf(path).soname or name] = path
    return libraries


# ---- planning


def _server_build(tree: Path) -> str:
    path = tree / buildfile.FILE
    if not path.is_file() or not (tree / "WORKSPACE").is_file():
        raise SourceError(
            f"{tree} is not a TensorFlow Serving tree: it has no {'WORKSPACE' if path.is_file() else buildfile.FILE}.",
            cure="use --source with the directory that has TensorFlow Serving's WORKSPACE in it",
        )
    if (tree / DIRECTORY).is_symlink() or ((tree / DIRECTORY).exists() and not (tree / DIRECTORY).is_dir()):
        raise SourceError(
            f"{tree / DIRECTORY} is a link or a file, not a directory.",
            cause="it was put there by hand",
            cure="move them away, then run the same command again",
        )
    return fsutil.read_text(path)


def _change_for(tree: Path, wanted: OverlayEntry, files: Mapping[str, str]) -> tuple[Change, ...]:
    """The change that one entry needs, or none."""
    path = tree / DIRECTORY / wanted.name
    relative = f"{DIRECTORY}/{wanted.name}"
    held = _held(path)
    if held is not None and _is_as_wanted(tree, wanted, held, files):
        return ()
    if held is not None and wanted.name not in files:
        raise SourceError(
            f"{path} was not written by this project, so it was not overwritten.",
            cause="the guide's steps were done by hand in this tree",
            cure=f"move {path.parent} away, then run the same command again",
        )
    if wanted.text is not None:
        before = fsutil.read_text(path) if held is not None and not held.startswith("-> ") else ""
        return (Change(relative, "write", before, wanted.text, wanted),)
    action = "copy" if wanted.copy_of is not None else "link" if wanted.link_to is not None else "build"
    return (Change(relative, action, wanted=wanted),)


def _is_as_wanted(tree: Path, wanted: OverlayEntry, held: str, files: Mapping[str, str]) -> bool:
    if wanted.built_from is not None:
        # Stubs are what CMake made of the CMake file in the tree: while neither changes, there is nothing to build.
        cmake = next(iter(_read_texts(tree / DIRECTORY / "CMakeLists.txt")), None)
        return cmake == wanted.built_from and files.get(wanted.name) == held
    if wanted.copy_of is not None:
        return held == wanted.copy_sha256
    if wanted.link_to is not None:
        return held == f"-> {wanted.link_to}"
    return held == _digest(_encoded(wanted.text or ""))


def _read_texts(path: Path) -> tuple[str, ...]:
    return (fsutil.read_text(path),) if path.is_file() else ()


def _removal(tree: Path, name: str) -> Change:
    text = "" if ".so" in name else "".join(_read_texts(tree / DIRECTORY / name))
    return Change(f"{DIRECTORY}/{name}", "remove", before=text)


def _exists(tree: Path, name: str) -> bool:
    return os.path.lexists(tree / DIRECTORY / name)


def _held(path: Path) -> str | None:
    """What is at `path`, as the record writes it: a sha256, or `-> target`; None where there is nothing."""
    if path.is_symlink():
        return f"-> {os.readlink(path)}"
    if path.is_dir():
        return "a directory"
    return fsutil.sha256_of(path) if path.exists() else None


# ---- the record


def _read_record(tree: Path) -> Mapping[str, object]:
    path = tree / RECORD
    if not path.is_file():
        return {}
    with contextlib.suppress(ValueError):
        record = json.loads(fsutil.read_text(path))
        if _is_record(record):
            return dict(record)
    raise SourceError(
        f"{path} is not a record written by this project.",
        cause="it was changed by hand, or by another version of this project",
        cure=f"move {path.parent} away, then run the same command again",
    )


def _is_record(record: object) -> bool:
    """Whether it has our shape, and names nothing outside the directory: removal uses these names."""
    if not isinstance(record, dict) or record.get("format") != RECORD_FORMAT:
        return False
    files, labels = record.get("files"), record.get("deps_added")
    if not isinstance(files, dict) or not isinstance(labels, list):
        return False
    names_fit = all(name not in ("", ".", "..") and "/" not in name and "\0" not in name for name in files)
    return names_fit and all(isinstance(text, str) for text in [*files.values(), *labels])


def _files_of(record: Mapping[str, object]) -> Mapping[str, str]:
    files = record.get("files", {})
    assert isinstance(files, dict)
    return files


def _deps_of(record: Mapping[str, object]) -> tuple[str, ...]:
    labels = record.get("deps_added", [])
    assert isinstance(labels, list)
    return tuple(labels)


def _record_text(files: Mapping[str, str], deps_added: tuple[str, ...]) -> str:
    document = {"format": RECORD_FORMAT, "deps_added": list(deps_added), "files": dict(sorted(files.items()))}
    return json.dumps(document, indent=2) + "\n"


def _intended(plan: OverlayPlan, wanted: OverlayEntry, stubs: Mapping[str, bytes]) -> str:
    """What the record says of an entry once the plan is carried out."""
    if wanted.copy_of is not None:
        return fsutil.sha256_of(wanted.copy_of)
    if wanted.link_to is not None:
        return f"-> {wanted.link_to}"
    if wanted.text is not None:
        return _digest(_encoded(wanted.text))
    return _digest(stubs[wanted.name]) if wanted.name in stubs else plan.recorded[wanted.name]


# ---- applying


def _stubs_for(plan: OverlayPlan) -> dict[str, bytes]:
    wanted = [change.wanted for change in plan.changes if change.action == "build" and change.wanted is not None]
    if not wanted:
        return {}
    return build_stubs(wanted[0].built_from or "", tuple(item.name for item in wanted))


def _carry_out(path: Path, change: Change, stubs: Mapping[str, bytes]) -> None:
    if change.action == "remove":
        if path.is_dir() and not path.is_symlink():
            with fsutil.explained(path, doing="removed"):
                path.rmdir()
        else:
            fsutil.remove(path)
        return
    if change.action == "edit":
        fsutil.write_file(path, _encoded(change.after))
        return
    wanted = change.wanted
    assert wanted is not None
    if wanted.link_to is not None:
        fsutil.point_link(path, wanted.link_to)
    elif wanted.copy_of is not None:
        fsutil.copy_file(wanted.copy_of, path, mode=0o644)
    else:
        fsutil.write_file(path, stubs[wanted.name] if wanted.built_from is not None else _encoded(wanted.text or ""))


def _unified_diff(path: str, before: str, after: str) -> str:
    old = f"a/{path}" if before else "/dev/null"
    new = f"b/{path}" if after else "/dev/null"
    lines = difflib.unified_diff(before.splitlines(keepends=True), after.splitlines(keepends=True), old, new)
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
