"""The checks of examination.py that look at Pythons: 3.7.5 with library and packages, and those that run scripts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from npu_serving.doctor.checks import Examination, RequirementFinding
from npu_serving.doctor.requirements import Requirement
from npu_serving.errors import MissingToolError
from npu_serving.facts import LIBPYTHON
from npu_serving.findings import NOT_NEEDED, OK, WARNING
from npu_serving.version_numbers import version_of

INTERPRETERS = ("python3.7", "python3")
EMBEDDED_SERIES = (3, 7)  # the Pythons whose libpython has the name and the interface that the adapter needs

# Runs in Python 2.6 and everything after it. Packages are found by their metadata, because importing TensorFlow takes
# seconds; pkg_resources isn't everywhere and importlib.metadata is younger than Python 3.7.
PROBE = r"""
import json, os, re, sys
builtins_error = ""
try:
    from builtins import bytes
except Exception:
    builtins_error = "%s: %s" % (sys.exc_info()[0].__name__, sys.exc_info()[1])
packages = {}
for entry in sys.path:
    if os.path.isdir(entry or "."):
        for name in os.listdir(entry or "."):
            match = re.match(r"(.+?)-([^-]+)(-py[0-9.]+)?\.(dist|egg)-info$", name)
            if match:
                packages.setdefault(re.sub("[-_.]+", "-", match.group(1)).lower(), match.group(2))
print(json.dumps({"version": "%d.%d.%d" % sys.version_info[:3], "builtins": builtins_error, "packages": packages}))
"""


@dataclass(frozen=True)
class Interpreter:
    """What an interpreter reports about itself. `builtins_error` is empty where `from builtins import bytes` works."""

    program: Path
    version: str
    builtins_error: str
    packages: dict[str, str]


def interpreter_at(program: Path, examination: Examination) -> Interpreter | str:
    """An interpreter's report on itself, or the reason why there is none.

    A python3.7 built with --enable-shared starts only with its library's directory in LD_LIBRARY_PATH.
    """
    answer = examination.ask([program, "-c", PROBE], library_path=program.parent.parent / "lib")
    if isinstance(answer, str):
        return answer
    try:
        told = json.loads(answer.stdout.splitlines()[-1])
        return Interpreter(program, str(told["version"]), str(told["builtins"]), dict(told["packages"]))
    except (ValueError, IndexError, KeyError, TypeError):
        last = answer.output.strip().splitlines()[-1:] or ["it prints nothing"]
        return last[0][:200]


def own_python(examination: Examination) -> Path | None:
    """The interpreter in settings.python_prefix, which the adapter's library belongs to."""
    candidates = [examination.settings.python_prefix / "bin" / name for name in INTERPRETERS]
    return next((path for path in candidates if path.is_file()), None)


def check_python(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """Python 3.7.5 in settings.python_prefix."""
    if examination.adapter_is_sample:
        return examination.finding(requirement, NOT_NEEDED, "the sample's adapter includes a stand-in")
    program = own_python(examination)
    if program is None:
        return examination.missing(requirement, f"no interpreter in {examination.settings.python_prefix / 'bin'}")
    interpreter = interpreter_at(program, examination)
    if isinstance(interpreter, str):
        return examination.unfit(requirement, f"{program}: {interpreter}")
    found = f"{interpreter.version} ({program})"
    if requirement.accepts(interpreter.version, examination.machine.architecture):
        return examination.finding(requirement, OK, found)
    unfit = examination.unfit(requirement, found)
    if version_of(interpreter.version).release[:2] == EMBEDDED_SERIES and unfit.severity != NOT_NEEDED:
        return examination.finding(
            requirement, WARNING, f"{found}, whose library has the same interface", cure=unfit.cure
        )
    return unfit


def check_libpython(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """The shared library of that Python, under the name that the adapter asks for."""
    if examination.adapter_is_sample:
        return examination.finding(requirement, NOT_NEEDED, "the sample's adapter includes a stand-in")
    library = examination.settings.python_prefix / "lib" / LIBPYTHON
    if library.is_file():
        return examination.finding(requirement, OK, str(library))
    return examination.no_adapter(requirement, f"no {library}")


def check_package(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """A Python package that the guide asks for, seen by the interpreter in settings.python_prefix."""
    if examination.adapter_is_sample:
        return examination.finding(requirement, NOT_NEEDED, "not used by the sample")
    program = own_python(examination)
    interpreter = interpreter_at(program, examination) if program else "no such interpreter"
    if isinstance(interpreter, str):
        where = program or examination.settings.python_prefix / "bin" / INTERPRETERS[0]
        return examination.missing(requirement, f"{where}: {interpreter}")
    version = interpreter.packages.get(requirement.id, "")
    if version and requirement.accepts(version, examination.machine.architecture):
        return examination.finding(requirement, OK, version)
    if version:
        return examination.unfit(requirement, version, python=interpreter.program)
    return examination.missing(requirement, "not installed", python=interpreter.program)


def check_future(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """future, which only Python 2 has a use for."""
    program = own_python(examination)
    interpreter = interpreter_at(program, examination) if program else "no interpreter"
    if examination.adapter_is_sample or isinstance(interpreter, str):
        return examination.finding(
            requirement, NOT_NEEDED, "no Python to install it for" if program is None else "not checked"
        )
    version = interpreter.packages.get(requirement.id, "")
    if version:
        return examination.finding(requirement, OK, version)
    if version_of(interpreter.version).major >= 3:
        found = f"not installed; Python {interpreter.version} has its own builtins"
        return examination.finding(requirement, NOT_NEEDED, found)
    return examination.missing(requirement, "not installed", python=interpreter.program)


def check_builtins(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """What gen_git_source.py does first, done by the interpreter that will run it."""
    from npu_serving.doctor.build_environment import build_python

    try:
        program = build_python(examination.settings)
    except MissingToolError as error:
        return examination.missing(requirement, error.what, python="python3")
    interpreter = interpreter_at(program, examination)
    if isinstance(interpreter, str):
        return examination.missing(requirement, f"{program} doesn't start: {interpreter}", python=program)
    if interpreter.builtins_error:
        return examination.missing(requirement, f"{program}: {interpreter.builtins_error}", python=program)
    return examination.finding(requirement, OK, f"works in Python {interpreter.version} ({program})")


def check_python_link(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """Which Python the word `python` means on PATH, and whether /usr/bin/python is there."""
    on_path = examination.machine.find("python")
    usual = examination.machine.root / "usr/bin/python"
    absent = "" if usual.exists() else f"; there is no {usual}"
    target = own_python(examination) or "/usr/bin/python3"
    if on_path is None:
        return examination.missing(requirement, f"no python on PATH{absent}", python=target)
    interpreter = interpreter_at(on_path, examination)
    if isinstance(interpreter, str):
        return examination.unfit(requirement, f"{on_path}: {interpreter}", python=on_path)
    found = f"Python {interpreter.version} ({on_path}){absent}"
    if interpreter.builtins_error:
        return examination.unfit(requirement, f"{found}: {interpreter.builtins_error}", python=on_path)
    if absent:
        return examination.missing(requirement, found, python=target)
    return examination.finding(requirement, OK, found)
