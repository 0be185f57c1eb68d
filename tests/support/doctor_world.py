"""A machine made of a few files and scripts, for the tests of doctor."""

from __future__ import annotations

import _ctypes
import io
import json
import os
import shlex
import shutil
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

from npu_serving.building.patching import patch_findings
from npu_serving.console import Silent
from npu_serving.doctor.checks import Machine, RequirementFinding
from npu_serving.doctor.examination import DoctorReport, begin, check, examine
from npu_serving.settings import Settings

VERSIONED = {"gcc": "8.4.0", "g++": "8.4.0", "cmake": "cmake version 3.14.0", "swig": "\nSWIG Version 4.0.1\n"}
PLAIN = ("zip", "unzip", "libtoolize", "automake", "autoconf", "make", "patch")


@dataclass
class World:
    """Everything that doctor looks at, below one directory; it begins as a machine on which all is well."""

    root: Path
    machine: Machine
    settings: Settings

    @property
    def bin(self) -> Path:
        return self.root / "bin"

    @property
    def prefix(self) -> Path:
        return self.settings.python_prefix

    def script(self, path: Path, body: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8", errors="surrogateescape")
        path.chmod(0o755)
        return path

    def tool(self, name: str, output: str = "", status: int = 0) -> Path:
        return self.script(self.bin / name, f"printf '%s\\n' {shlex.quote(output)}; exit {status}")

    def without(self, name: str) -> None:
        (self.bin / name).unlink()

    def python(self, path: Path, version: str = "3.7.5", error: str = "", **packages: str) -> Path:
        told = {
            "version": version,
            "builtins": error,
            "packages": {k.replace("_", "-"): v for k, v in packages.items()},
        }
        return self.script(path, f"printf '%s\\n' {shlex.quote(json.dumps(told))}")

    def on(self, **changes: object) -> None:
        self.machine = replace(self.machine, **changes)  # type: ignore[arg-type]

    def bazel(self, label: str, program: Path | None = None) -> Path:
        """A binary with an archive behind it, as Bazel's is: with the label in it, and unable to start."""
        path = program if program is not None else self.bin / "bazel"
        jar = io.BytesIO()
        with zipfile.ZipFile(jar, "w") as opened:
            opened.writestr("build-data.properties", f"build.target=x\nbuild.label={label}\n")
        path.unlink(missing_ok=True)
        with path.open("wb") as file:
            file.write(b"\x7fELF and so on")
            with zipfile.ZipFile(file, "a") as archive:
                archive.writestr("A-server.jar", jar.getvalue())
        path.chmod(0o755)
        return path

    def set(self, **changes: object) -> None:
        self.settings = replace(self.settings, **changes)  # type: ignore[arg-type]

    def examine(self, runner: str = "host") -> DoctorReport:
        return examine(self.settings, runner, Silent(), patches=patch_findings, machine=self.machine)

    def finding(self, name: str, runner: str = "host") -> RequirementFinding:
        examination = begin(self.settings, runner, self.machine, patch_findings)
        return check(examination.requirements[name], examination)


def healthy_world(root: Path) -> World:
    """A machine with everything that the guide asks for, in its lowest version."""
    machine = Machine(
        architecture="x86_64",
        path=str(root / "bin"),
        root=root,
        user_id=0,
        libc="glibc 2.27",
        venv_bin=root / "venv/bin",
        build_path=str(root / "bin"),
        memory_mb=32000,
        processors=4,
    )
    adapter = root / "ascend" / "_tf_adapter.so"
    state = root.parent / "state"  # a path in which Bazel works
    settings = Settings(
        build_root=state, dist_root=state / "dist", python_prefix=root / "python3.7.5", adapter=str(adapter)
    )
    world = World(root, machine, settings)
    for name, output in VERSIONED.items():
        world.tool(name, output)
    for name in PLAIN:
        world.tool(name)
    world.bazel("0.24.1")
    python = world.python(
        world.prefix / "bin/python3.7", tensorflow="1.15.0", tensorflow_serving_api="1.15.0", future="0.18.2"
    )
    library = world.prefix / "lib/libpython3.7m.so.1.0"
    library.parent.mkdir()
    library.touch()
    for link in (world.bin / "python", root / "usr/bin/python"):
        link.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(python, link)
    adapter.parent.mkdir()
    shutil.copyfile(_ctypes.__file__, adapter)  # any shared library for this machine will do
    status = root / "var/lib/dpkg/status"
    status.parent.mkdir(parents=True)
    status.write_text("Package: zip\nStatus: install ok installed\n\n")
    return world
