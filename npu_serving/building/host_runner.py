"""Bazel on this machine, with this machine's compiler, in an environment that is the same in every run."""

from __future__ import annotations

import json
import os
import platform

from npu_serving import fsutil, process
from npu_serving.building.bazel_program import BazelProgram, fetch_bazel
from npu_serving.building.runner import Layout, RunRequest
from npu_serving.console import Reporter
from npu_serving.doctor.build_environment import STANDARD_PATH, build_python
from npu_serving.doctor.places import build_places, check_places
from npu_serving.errors import MissingToolError
from npu_serving.process import Finished
from npu_serving.settings import Settings

COMPILER_PARTS = ("cc1", "cc1plus", "collect2", "as", "ld")


class HostRunner:
    """Runs Bazel here."""

    name = "host"
    where = "on this machine"

    def __init__(self, settings: Settings, bazel: BazelProgram) -> None:
        self._settings = settings
        self._bazel = bazel
        self._cxx = process.require_program("g++", cure="install a C++ compiler: ./inv doctor --runner host --fix")
        self._cc = process.require_program("gcc", cure="install a C compiler: ./inv doctor --runner host --fix")
        self._python = build_python(settings)
        self._identity: dict[str, str] = {}

    def check(self, layout: Layout) -> None:
        """Refuses paths that Bazel 0.24.1, tried with each of these characters, can't work with, and file systems."""
        check_places(build_places(self._settings, self.name, layout.workspace))

    def what_is_missing(self) -> str:
        """The pinned bazel, where it isn't fetched yet."""
        return "" if self._bazel.path.is_file() else f"Bazel {self._bazel.version} has to be fetched"

    def prepare(self, reporter: Reporter) -> None:
        """Fetches the pinned bazel where it is missing."""
        fetch_bazel(self._bazel, self._settings, reporter)

    def identity(self) -> dict[str, str]:
        """Compiler, C library, Bazel, Python and machine."""
        if not self._identity:
            self._identity = self._examined()
        return dict(self._identity)

    def _examined(self) -> dict[str, str]:
        return {
            "runner": self.name,
            "machine": platform.machine(),
            "compiler": self._compiler_version(),
            "glibc": os.confstr("CS_GNU_LIBC_VERSION") or "unknown",
            "bazel": f"{self._bazel.version} sha256:{self._bazel.sha256}",
            "python": self._python_version(),
        }

    def toolchain_key(self) -> str:
        """The identity, and the bytes of what the compiler starts: two builds of gcc 12.2.0 are not the same gcc."""
        programs = [self._cc, self._cxx]
        for name in COMPILER_PARTS:
            answer = process.run([self._cxx, f"-print-prog-name={name}"], timeout_s=20).stdout.strip()
            found = process.find_program(answer)
            programs += [found] if found is not None else []
        return json.dumps([self.identity(), [fsutil.sha256_of(path) for path in programs]], sort_keys=True)

    def inside(self, layout: Layout) -> Layout:
        """The same: Bazel sees what we see."""
        return layout

    def bazel(self) -> str:
        """Bazel's path."""
        return str(self._bazel.path)

    def python(self) -> str:
        """The interpreter of the build scripts."""
        return str(self._python)

    def environment(self) -> dict[str, str]:
        """PATH, HOME and the library path of a shared Python; nothing else: all of it goes into every action.

        But for TMPDIR, which Bazel hands to actions without making it a part of them: /tmp may be mounted noexec.
        """
        environment = {
            "PATH": os.pathsep.join(self._search_path()),
            "HOME": str(fsutil.make_directory(self._settings.build_root / "home")),
            "LANG": "C.UTF-8",
        }
        if os.environ.get("TMPDIR"):
            environment["TMPDIR"] = os.environ["TMPDIR"]
        return {**environment, **self._library_path()}

    def _library_path(self) -> dict[str, str]:
        """What a Python that was built with --enable-shared needs to start: its own lib directory."""
        library = self._python.parent.parent / "lib"
        return {"LD_LIBRARY_PATH": str(library)} if any(library.glob("libpython3*.so.*")) else {}

    def run(self, request: RunRequest) -> Finished:
        """Runs it in its directory, the workspace where the request names none."""
        return process.run(
            request.argv,
            cwd=request.directory or request.layout.workspace,
            env=request.env,
            log_path=request.log_path,
            on_line=request.on_line,
            on_tick=request.on_tick,
            check=False,
        )

    def _search_path(self) -> list[str]:
        # The py_binary tools of the tree start `python` from PATH, whatever PYTHON_BIN_PATH says.
        tools = fsutil.make_directory(self._settings.build_root / "tools" / "bin")
        fsutil.point_link(tools / "python", self._python)
        compilers = [str(self._cxx.parent), str(self._cc.parent)]
        return list(
            dict.fromkeys([str(tools), *(path for path in compilers if path not in STANDARD_PATH), *STANDARD_PATH])
        )

    def _python_version(self) -> str:
        """Its version: the path may differ between two machines that build the same."""
        code = "import sys; print('%d.%d.%d' % sys.version_info[:3])"
        plain = {"PATH": os.pathsep.join(STANDARD_PATH), "LANG": "C.UTF-8", **self._library_path()}  # makes nothing
        finished = process.run([self._python, "-c", code], env=plain, timeout_s=30, check=False)
        if finished.returncode != 0:
            raise MissingToolError(
                f"The Python interpreter {self._python} does not start ({finished.output.strip()[-300:]}).",
                cure="set python_bin in invoke.yaml to an interpreter that starts",
            )
        return finished.stdout.strip()

    def _compiler_version(self) -> str:
        versions = [
            process.run([program, "-dumpfullversion", "-dumpversion"], timeout_s=20).stdout.strip()
            for program in (self._cc, self._cxx)
        ]
        return f"gcc {versions[0]}, g++ {versions[1]}"
