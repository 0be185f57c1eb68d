"""What the checks of examination.py share: the finding, the machine that is looked at, and the rule for programs."""

from __future__ import annotations

import functools
import os
import platform
import pwd
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from npu_serving import process
from npu_serving.doctor.device_nodes import Account
from npu_serving.doctor.requirements import Requirement, first_version_in
from npu_serving.errors import MissingToolError, NpuServingError, ProgramError
from npu_serving.facts import DEBIAN_MACHINES
from npu_serving.findings import NOT_NEEDED, OK, PROBLEM, WARNING, Finding
from npu_serving.settings import Settings
from npu_serving.version_numbers import version_of
from npu_serving.writers.shell import command_line, shell_word

if TYPE_CHECKING:
    from npu_serving.cann.install import Cann
    from npu_serving.cann.layout import Component

PACKAGE_MANAGERS = {"apt-get": "deb", "dnf": "rpm", "yum": "rpm"}
SECONDS_FOR_AN_ANSWER = 10.0
MOST_LINES = 2000  # a program that prints more than this when asked for its version is not the program it is called

INSTALL_PACKAGES = "install-packages"
REPAIR_DPKG = "repair-dpkg"

SAMPLE_CURE = "./inv build-serving --source sample --adapter sample"


@dataclass(frozen=True)
class RequirementFinding(Finding):
    """What one check found about a requirement. `fix` names what `--fix` may do, empty where a person has to decide."""

    section: str = ""
    why: str = ""
    fix: str = ""
    packages: tuple[str, ...] = ()

    @property
    def fix_is_safe(self) -> bool:
        """Whether `--fix` applies the cure."""
        return bool(self.fix)

    def to_json(self) -> dict[str, object]:
        """The finding as `--json` shows it."""
        return {
            "id": self.kind,
            "title": self.what,
            "section": self.section,
            "required": self.required,
            "why": self.why,
            "found": self.found,
            "verdict": self.severity,
            "cure": self.cure,
            "fix_is_safe": self.fix_is_safe,
        }


@dataclass(frozen=True)
class Machine:
    """The machine that is looked at.

    `root` is where its files are, for tests that have their own; `build_path` is the PATH that Bazel's actions get.
    """

    architecture: str
    path: str
    root: Path
    user_id: int
    libc: str
    venv_bin: Path
    build_path: str
    memory_mb: int
    processors: int
    java_home: str = ""
    group_ids: frozenset[int] = frozenset()
    open_files: tuple[int, int] = (-1, -1)
    """The soft and the hard limit of open files of a process; -1 for none."""

    @staticmethod
    def here() -> Machine:
        """The one that this runs on."""
        from npu_serving.doctor.build_environment import STANDARD_PATH
        from npu_serving.resources import available_memory_mb, usable_processors

        return Machine(
            architecture=platform.machine(),
            path=os.environ.get("PATH", process.DEFAULT_PATH),
            root=Path("/"),
            user_id=os.geteuid(),
            libc=_libc(),
            venv_bin=Path(sys.prefix) / "bin",
            build_path=os.pathsep.join(STANDARD_PATH),
            memory_mb=available_memory_mb(),
            processors=usable_processors(),
            java_home=os.environ.get("JAVA_HOME", ""),
            group_ids=frozenset({os.getegid(), *os.getgroups()}),
            open_files=resource.getrlimit(resource.RLIMIT_NOFILE),
        )

    @property
    def package_manager(self) -> str:
        """apt-get, dnf, yum, or "" where there is none of them."""
        return next((name for name in PACKAGE_MANAGERS if self.find(name)), "")

    @property
    def packaging(self) -> str:
        """deb, rpm or ""."""
        return PACKAGE_MANAGERS.get(self.package_manager, "")

    @property
    def user(self) -> str:
        """The user's name, or the number where it has none."""
        try:
            return pwd.getpwuid(self.user_id).pw_name
        except KeyError:
            return str(self.user_id)

    @property
    def account(self) -> Account:
        """The user, as a file's permissions count."""
        return Account(self.user, self.user_id, self.group_ids)

    def find(self, *names: str) -> Path | None:
        """The first of these programs that is on PATH."""
        return find_program_in(self.path, names)


PatchAnswers = Callable[[Settings, str, str], Sequence[Finding]]
"""What becomes of each patch that a source needs with that glibc and that gcc; the build knows."""


@dataclass
class Examination:
    """One examination of a machine: what is required, and what programs have answered so far."""

    settings: Settings
    use: str
    machine: Machine
    requirements: Mapping[str, Requirement]
    patches: PatchAnswers
    engine_info: dict[str, Any] | None = None
    _answers: dict[tuple[str, ...], process.Finished | str] = field(default_factory=dict)

    @property
    def is_sample(self) -> bool:
        """Whether the embedded sample is what is built."""
        return self.settings.source == "sample"

    @property
    def adapter_is_sample(self) -> bool:
        """Whether the adapter, and with it libpython, come from the sample; or libpython alone, without an adapter."""
        return self.settings.adapter == "sample" or (self.settings.without_adapter and self.is_sample)

    @functools.cached_property
    def cann(self) -> Cann:
        """The CANN that the settings lead to, which all checks look at."""
        from npu_serving.cann.install import cann_of

        return cann_of(self.settings)

    @functools.cached_property
    def driver(self) -> Component | None:
        """The NPU's driver, which needs no CANN beside it; None where none is found."""
        from npu_serving.cann.install import find_driver

        try:
            return find_driver(self.settings.cann_root)
        except NpuServingError:
            return None

    def ask(self, argv: Sequence[str | Path], *, library_path: Path | None = None) -> process.Finished | str:
        """What a program answers, or the reason why it doesn't; each is asked once."""
        words = tuple(str(arg) for arg in argv)
        key = (str(library_path), *words)
        if key not in self._answers:
            self._answers[key] = _answer(words, self.machine.path, library_path)
        return self._answers[key]

    def finding(self, requirement: Requirement, verdict: str, found: str, *, cure: str = "") -> RequirementFinding:
        """A finding about that requirement; without a problem there is nothing to cure."""
        return RequirementFinding(
            kind=requirement.id,
            what=requirement.title,
            section=requirement.section,
            required=requirement.required_text(self.machine.architecture),
            why=requirement.why,
            found=printable(found),
            severity=verdict,
            cure=cure if verdict not in (OK, NOT_NEEDED) else "",
        )

    def missing(self, requirement: Requirement, found: str, **values: object) -> RequirementFinding:
        """The finding for something that is not installed: install the packages, or the cure of the table."""
        verdict = requirement.missing.get(self.use, NOT_NEEDED)
        packages = requirement.packages.get(self.machine.packaging, ())
        if not packages:
            return self.finding(requirement, verdict, found, cure=self.cure_text(requirement.cure, requirement, values))
        plain = self.finding(requirement, verdict, found, cure=self._package_command("install -y", packages))
        return self.with_fix(plain, INSTALL_PACKAGES, packages)

    def no_adapter(self, requirement: Requirement, found: str, *, cure: str = "") -> RequirementFinding:
        """The finding for what only a real adapter needs: for the sample's tree there is the sample's own."""
        if self.is_sample:
            return self.finding(requirement, WARNING, found, cure=SAMPLE_CURE)
        missing = self.missing(requirement, found)
        return replace(missing, cure=cure) if cure else missing

    def unfit(self, requirement: Requirement, found: str, **values: object) -> RequirementFinding:
        """The finding for something that is installed but not suitable."""
        verdict = requirement.unfit.get(self.use, NOT_NEEDED)
        cures = requirement.cure_unfit or requirement.cure
        return self.finding(requirement, verdict, found, cure=self.cure_text(cures, requirement, values))

    def with_fix(self, finding: RequirementFinding, fix: str, packages: tuple[str, ...] = ()) -> RequirementFinding:
        """The finding with what --fix may do about it, if there is anything to cure."""
        return replace(finding, fix=fix, packages=packages) if finding.severity in (PROBLEM, WARNING) else finding

    def reinstall_command(self, packages: Sequence[str]) -> str:
        """The command that installs these packages of dpkg's once more."""
        return self._package_command("install -y --reinstall", packages)

    def _package_command(self, verb: str, packages: Sequence[str]) -> str:
        return f"{self._sudo}{self.machine.package_manager or 'apt-get'} {verb} {command_line(packages)}"

    def cure_text(self, cures: Mapping[str, str], requirement: Requirement, values: Mapping[str, object]) -> str:
        """The cure for this machine, with every value quoted for the shell that it will be typed into."""
        template = cures.get(self.machine.packaging, cures.get("any", ""))
        if not template:
            names = requirement.packages.get("deb", ())
            return f"install {' and '.join(names) or requirement.title} with this distribution's package manager"
        settings = self.settings
        known = {
            "at_least": requirement.minimum(self.machine.architecture),
            "exactly": requirement.exactly
            or (self.requirements["python"].exactly if "python" in self.requirements else ""),
            "prefix": settings.python_prefix,
            "python": settings.python_prefix / "bin" / "python3.7",
            "this_python": self.machine.venv_bin / "python",
            "arch": self.machine.architecture,
            "deb_arch": DEBIAN_MACHINES.get(self.machine.architecture, self.machine.architecture),
            "manager": self.machine.package_manager,
            "user": self.machine.user,
        }
        quoted = {name: shell_word(str(value)) for name, value in {**known, **values}.items()}
        return template.format(sudo=self._sudo, **quoted)

    @property
    def _sudo(self) -> str:
        return "" if self.machine.user_id == 0 else "sudo "


Check = Callable[[Requirement, Examination], RequirementFinding]


def check_program(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """A program on PATH and, where the table has a rule for it, its version."""
    program = examination.machine.find(*requirement.program)
    if program is None:
        return examination.missing(requirement, f"no {requirement.program[0]} on PATH")
    if requirement.for_actions:
        inside = find_program_in(examination.machine.build_path, requirement.program)
        if inside is None:
            found = f"only {program}, but the build's PATH is {examination.machine.build_path}"
            return examination.missing(requirement, found)
        program = inside
    if not requirement.arguments:
        return examination.finding(requirement, OK, str(program))
    version = program_version(requirement, program, examination)
    if not version:
        return examination.unfit(requirement, silent_program(requirement, program, examination))
    found = f"{version} ({program})"
    if requirement.accepts(version, examination.machine.architecture):
        return examination.finding(requirement, OK, found)
    return examination.unfit(requirement, found)


def find_program_in(path: str, names: Sequence[str]) -> Path | None:
    """The first of these programs that is on such a PATH."""
    return next((found for name in names if (found := process.find_program(name, path=path))), None)


def check_same_compilers(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """Both compilers have to be of one version (guide 6.2), to the last number."""
    versions = {}
    for name in ("gcc", "g++"):
        row = examination.requirements[name]
        program = examination.machine.find(*row.program)
        versions[name] = program_version(row, program, examination) if program else ""
    if not all(versions.values()):
        unknown = " and ".join(name for name, version in versions.items() if not version)
        return examination.finding(requirement, NOT_NEEDED, f"nothing to compare: the version of {unknown} is unknown")
    found = f"gcc {versions['gcc']}, g++ {versions['g++']}"
    if versions["gcc"] == versions["g++"]:
        return examination.finding(requirement, OK, found)
    newer = max(versions.values(), key=version_of)
    return examination.unfit(requirement, found, major=newer.split(".", maxsplit=1)[0])


def check_cmake(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """CMake on PATH or, where that is missing or too old, the one that pip put into this project's environment."""
    on_path = check_program(requirement, examination)
    own = examination.machine.venv_bin / "cmake"
    if on_path.severity == OK or not os.access(own, os.X_OK):
        return on_path
    version = program_version(requirement, own, examination)
    if version and requirement.accepts(version, examination.machine.architecture):
        return examination.finding(requirement, OK, f"{version} ({own}); on PATH: {on_path.found}")
    return on_path


def check_architecture(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """The processor's architecture."""
    architecture = examination.machine.architecture
    if architecture in DEBIAN_MACHINES:
        return examination.finding(requirement, OK, architecture)
    return examination.missing(requirement, architecture)


def program_version(requirement: Requirement, program: Path, examination: Examination) -> str:
    """The version that a program prints, or "" if it prints none, fails to start or does not end."""
    answer = examination.ask([program, *requirement.arguments])
    if isinstance(answer, str):
        return ""
    # gcc 8 prints "8.4.0" and nothing else, a gcc whose version is one number only would print "13".
    alone = answer.stdout.strip()
    return alone if alone.isdigit() and alone.isascii() else first_version_in(answer.output)


def silent_program(requirement: Requirement, program: Path, examination: Examination) -> str:
    """Why a program's version isn't known, for a person."""
    answer = examination.ask([program, *requirement.arguments])
    reason = answer if isinstance(answer, str) else "it prints no version"
    return f"{program}: {reason}"


def printable(text: str) -> str:
    """A text on one line that any terminal can show, whatever a program or a path put into it."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode() for char in text
    )


def _answer(words: tuple[str, ...], path: str, library_path: Path | None) -> process.Finished | str:
    environment = process.base_environment(path)
    if library_path is not None:
        environment["LD_LIBRARY_PATH"] = str(library_path)
    lines = 0

    def count(_line: str) -> None:
        nonlocal lines
        lines += 1
        if lines > MOST_LINES:
            raise ProgramError("it prints more than a version", cure="use another program of that name")

    try:
        return process.run(words, env=environment, check=False, timeout_s=SECONDS_FOR_AN_ANSWER, on_line=count)
    except MissingToolError:
        return "it can't be started"
    except ProgramError:
        return (
            "it never stops printing"
            if lines > MOST_LINES
            else f"it did not finish within {SECONDS_FOR_AN_ANSWER:.0f} s"
        )


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):  # the C library isn't GNU's
        return ""
