"""What is installed below one directory such as /usr/local/Ascend: components, their releases, and their links.

components.yaml describes how the packages are laid out. Nothing here looks at the environment or at other places.
"""

from __future__ import annotations

import errno
import functools
import os
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving import file_access
from npu_serving.cann.info_files import ARCHITECTURES, PackageInfo, matching, read_info, text_of
from npu_serving.documents import read_document
from npu_serving.findings import NOTE, Finding
from npu_serving.version_numbers import cann_age
from npu_serving.writers.shell import shell_word

TABLE = Path(__file__).with_name("components.yaml")

_RELEASE = re.compile(r"\d+\.\d+[\w.+-]*", re.ASCII)
ADAPTER_RECORDS = ("ascend_tfplugin_install.info", "version.info")
_LEVELS_OF_A_RELEASE = 6  # from _tf_adapter.so up to the directory that has the info file, at most


@dataclass(frozen=True)
class WheelFacts:
    """The wheel in which a package comes in place of an installer; components.yaml says what each key means."""

    since: str
    file: str
    mark: str
    published: str
    uninstaller: str

    @property
    def name(self) -> str:
        """The wheel for this machine."""
        return self.file.format(machine=platform.machine())


@dataclass(frozen=True)
class Package:
    """A row of components.yaml, whose head says what the columns mean."""

    name: str
    package: str
    directories: tuple[str, ...]
    essential: tuple[str, ...]
    libraries: tuple[str, ...] = ()
    serves: bool = False
    wheel: WheelFacts | None = None
    option: str = "--install"

    def comes_as_wheel(self, release: str) -> bool:
        """Whether it has no installer in that release of CANN; one that isn't known is taken for a recent one."""
        return self.wheel is not None and not (release and is_before(release, self.wheel.since))

    def install_command(self, release: str = "", root: Path | None = None) -> str:
        """How it is installed into `root`; a release that isn't known is the reader's to choose.

        pip leaves what is there already under -t, whatever --force-reinstall says: that takes --upgrade.
        """
        if self.wheel is None or not self.comes_as_wheel(release):
            return f"./{self.package}_{release or 'VERSION'}_linux-{platform.machine()}.run {self.option}"
        place = shell_word(root / self.directories[0]) if root is not None else f"~/{table().home_root}/tfplugin"
        return (
            f"pip3 install {self.wheel.name} --no-deps --force-reinstall --upgrade -t {place} "
            f"(a wheel of CANN {release or 'VERSION'}'s tag of {self.wheel.published})"
        )


@dataclass(frozen=True)
class _PackageRow:
    """A package as it stands in the table."""

    package: str
    directories: tuple[str, ...]
    essential: tuple[str, ...]
    libraries: tuple[str, ...] = ()
    serves: bool = False
    wheel: WheelFacts | None = None
    option: str = "--install"


@dataclass(frozen=True)
class CannLayout:
    """components.yaml, whose comments say what each key means."""

    components: Mapping[str, _PackageRow]
    adapters: tuple[str, ...]
    link_only_directories: tuple[str, ...]
    variables: tuple[str, ...]
    search_paths: tuple[str, ...]
    wheel_directory: str
    environments: tuple[str, ...]
    records: tuple[str, ...]
    records_at_home: tuple[str, ...]
    system_root: str
    home_root: str
    usual_user: str
    site_packages: tuple[str, ...]


@dataclass(frozen=True)
class Component:
    """An installed package: its directory (through `latest` where that is good), and what its files say.

    `version` is "" if unknown; `architectures` are those that it has files for, () if unknown;
    `releases` are the directories of all releases that are there, the newest last.
    """

    name: str
    path: Path
    version: str
    info: PackageInfo = field(default_factory=PackageInfo)
    architectures: tuple[str, ...] = ()
    releases: tuple[Path, ...] = ()

    def to_json(self) -> dict[str, object]:
        """The component as `--json` shows it."""
        return {
            "name": self.name,
            "path": str(self.path),
            "real_path": os.path.realpath(self.path),
            "version": self.version,
            "inner_version": self.info.family,
            "architectures": list(self.architectures),
            "releases": [str(path) for path in self.releases],
        }


@dataclass(frozen=True)
class FoundComponent:
    """What one look at a place gave."""

    components: Mapping[str, Component]
    findings: tuple[Finding, ...]


@functools.cache
def table() -> CannLayout:
    """components.yaml."""
    return read_document(TABLE, CannLayout)


@functools.cache
def packages() -> dict[str, Package]:
    """The rows of the table, by name."""
    return {
        name: Package(
            name, row.package, row.directories, row.essential, row.libraries, row.serves, row.wheel, row.option
        )
        for name, row in table().components.items()
    }


def examine(root: Path, named: Path | None = None) -> FoundComponent:
    """The components that are installed below `root`, and what is wrong with their directories and links.

    Where one is there in two layouts, the one that holds `named` is taken, else the newest layout.
    """
    components: dict[str, Component] = {}
    findings: list[Finding] = []
    for package in packages().values():
        release = next((item.version for item in components.values() if packages()[item.name].serves), "")
        for name in sorted(package.directories, key=lambda name: not _leads_into(named, root / name)):
            remarks: list[Finding] = []
            component = _component(package, root / name, release, remarks)
            if package.name not in components:
                findings += remarks
                if component is not None:
                    components[package.name] = component
            elif component is not None and not _are_the_same(component.path, components[package.name].path):
                used, other = components[package.name], f"{package.name} {component.version}".strip()
                what = f"{other} is installed in {component.path} as well; {used.path} is used."
                findings.append(Finding(what, severity=NOTE))
    return FoundComponent(components, tuple(findings))


def _are_the_same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _leads_into(path: Path | None, family: Path) -> bool:
    """Whether `path` is in that directory, or in one of its releases beside it."""
    if path is None or family.parent not in path.parents:
        return False
    name = path.parts[len(family.parent.parts)]
    return name == family.name or name.startswith(f"{family.name}-")


def root_above(path: Path) -> Path | None:
    """The directory that holds the component which `path` leads into; None where no part of it is called like one.

    /usr/local/Ascend for /usr/local/Ascend/nnae/latest/lib64, and for /usr/local/Ascend/cann-8.5.0/opp.
    """
    parts = path.parts
    for index in range(len(parts) - 1, 0, -1):
        if _is_component(parts[index]):
            root = Path(*parts[:index])
            # The older tfplugin has a directory tfplugin within its release.
            is_within = _is_release(root.name) and _is_component(root.parent.name)
            return root.parent.parent if is_within else root
    return None


def is_from_installer(adapter: Path) -> bool:
    """Whether CANN's installer has put that adapter there, which leaves a record in its release; pip and cp don't."""
    directories = list(Path(os.path.realpath(adapter)).parents)[:_LEVELS_OF_A_RELEASE]
    return any(
        _release_named_by(directory) or is_there(directory / record)
        for directory in directories
        for record in ADAPTER_RECORDS
    )


def is_from_release_wheel(adapter: Path) -> bool:
    """Whether the wheel of a CANN release that has no installer for it was installed there, by what pip noted of it."""
    wheel = packages()["tfplugin"].wheel
    if wheel is None or is_from_installer(adapter):
        return False
    for note in matching(adapter.parent.parent, f"{adapter.parent.name}-*.dist-info/WHEEL"):
        try:
            lines = text_of(note).splitlines()
        except OSError:
            continue
        if any(line.startswith("Tag:") and wheel.mark in line for line in lines):
            return True
    return False


def adapter_in(plugin: Path) -> Path | None:
    """The adapter of the tfplugin at `plugin`."""
    return next((plugin / name for name in table().adapters if os.path.lexists(plugin / name)), None)


def version_around(file: Path) -> str:
    """The version that the directories around a file name, the nearest first; "" where none does.

    Around a wheel's adapter they say nothing of it: what else is in the directory is of any release.
    """
    if not is_from_installer(file):
        return ""
    for directory in list(Path(os.path.realpath(file)).parents)[:_LEVELS_OF_A_RELEASE]:
        version = version_of(directory)
        if version:
            return version
    return ""


def version_of(directory: Path) -> str:
    """The version that a component's files name, or its directory's name; "" where neither does."""
    return _version(read_info(directory), directory)


def is_directory(path: Path) -> bool:
    """Whether `path` leads to a directory that can be seen; False for loops of links and directories that can't be
    entered.
    """
    try:
        return path.is_dir()
    except OSError:
        return False


def is_there(path: Path) -> bool:
    """Whether `path` leads to anything that can be seen."""
    try:
        return path.exists()
    except OSError:
        return False


def has_essentials(package: Package, directory: Path) -> bool:
    """Whether what makes the component is in `directory`."""
    return any(is_there(directory / name) for name in _essentials(package))


def closed_directory(package: Package, directory: Path) -> Path | None:
    """The directory on the way to what makes the component that this user may not enter."""
    ways = [directory / parent for name in _essentials(package) for parent in reversed(Path(name).parents)]
    return next((way for way in ways if is_directory(way) and not os.access(way, os.R_OK | os.X_OK)), None)


def _essentials(package: Package) -> list[str]:
    machines = sorted({platform.machine(), *ARCHITECTURES})
    return list(dict.fromkeys(name.format(machine=machine) for name in package.essential for machine in machines))


def _component(package: Package, family: Path, release: str, findings: list[Finding]) -> Component | None:
    """The component in that directory, in the release that is in use; without one, findings say what is left of it.

    `release` is that of the toolkit or nnae, where one was found.
    """
    trouble = _trouble_with(family)
    if trouble:
        findings.append(Finding(trouble, _cure(package, family, release)))
        return None
    releases = _releases(family)
    path = _in_use(package, family, releases, release, findings)
    if path is None:
        return None
    adapter = adapter_in(path) if package.wheel is not None else None
    # A wheel's directory has no record of its release; what an installer has left beside it is of another one.
    is_wheel = adapter is not None and not is_from_installer(adapter)
    info = PackageInfo() if is_wheel else read_info(path, package.name)
    architectures = tuple(
        sorted({ARCHITECTURES[name] for name in ARCHITECTURES if is_directory(path / f"{name}-linux")})
        or ([info.architecture] if info.architecture else [])
    )
    return Component(package.name, path, "" if is_wheel else _version(info, path), info, architectures, releases)


def _releases(family: Path) -> tuple[Path, ...]:
    """The directories of releases: family/6.3.RC2, and family-8.5.0 beside it; links are other names of these."""
    found = [path for path in matching(family, "*") if _RELEASE.fullmatch(path.name)]
    found += [
        path
        for path in matching(family.parent, f"{family.name}-*")
        if _RELEASE.fullmatch(path.name[len(family.name) + 1 :])
    ]
    return tuple(
        sorted(
            (path for path in found if is_directory(path) and not path.is_symlink()),
            key=lambda path: cann_age(path.name),
        )
    )


def is_before(release: str, other: str) -> bool:
    """Whether a release of CANN is older than another one."""
    return cann_age(release) < cann_age(other)


def newest(releases: Iterable[str]) -> str:
    """The newest of these releases of CANN."""
    return max(releases, key=cann_age)


def _in_use(
    package: Package, family: Path, releases: tuple[Path, ...], release: str, findings: list[Finding]
) -> Path | None:
    """The directory of the release in use: where `latest` leads, else the newest; the family's own without releases."""
    latest, youngest = family / "latest", releases[-1] if releases else None
    trouble = _trouble_with(latest)
    if not trouble and is_directory(latest):
        findings += _remarks_on(package, family, latest, release)
        return latest
    if not trouble and (has_essentials(package, family) or (family.is_symlink() and is_directory(family))):
        return family
    if youngest is not None:
        # Since CANN 8.5 a release lies beside the family's name, which is itself the link.
        link = latest if youngest.parent == family else family
        trouble = trouble or f"{link} is missing, so the set_env.sh scripts in {family.parent} point nowhere."
        findings.append(
            Finding(f"{trouble} The newest installed release is {youngest.name}.", f"ln -sfn {youngest} {link}")
        )
        return youngest
    if trouble:
        findings.append(Finding(trouble, _cure(package, family, release)))
    elif is_there(family / "set_env.sh") or (is_directory(family) and not any(matching(family, "*"))):
        left = f"{package.name} in {family} is incomplete: installing or removing it was interrupted."
        findings.append(Finding(left, _cure(package, family, release), severity=NOTE))
    return None


def _remarks_on(package: Package, family: Path, latest: Path, release: str) -> list[Finding]:
    """A `latest` that points elsewhere, or that is a directory of links some of which are dead."""
    findings = []
    real = Path(os.path.realpath(latest))
    if not real.is_relative_to(os.path.realpath(family.parent)):
        what = f"{latest} points outside {family.parent}, to {real}."
        findings.append(
            Finding(
                what,
                f"ls -l {latest} (keep it if that is intended, or point it to a release there with ln -sfn)",
                severity=NOTE,
            )
        )
    dead = [path.name for path in matching(latest, "*") if path.is_symlink() and not is_there(path)]
    if dead:
        some = ", ".join(dead[:3]) + (", …" if len(dead) > 3 else "")
        what = f"{len(dead)} of the links in {latest} are broken ({some}): removing its release was interrupted."
        findings.append(Finding(what, _cure(package, family, release)))
    return findings


def _cure(package: Package, family: Path, release: str) -> str:
    closed = file_access.refused_at(family / "latest")
    if closed is not None:
        return file_access.cure_for(closed)
    left = family / "latest"  # by name, where there is no other sign of what was there
    target = os.readlink(left) if os.path.islink(left) else ""  # noqa: PTH114 - is_symlink() raises for a closed directory
    known = release or (Path(target).name if _RELEASE.fullmatch(Path(target).name) else "")
    return f"{package.install_command(known, family.parent)} (or remove what is left: {family})"


def _trouble_with(path: Path) -> str:
    """What is wrong with a directory, or a link to one; "" where nothing is, or nothing is there."""
    try:
        path.stat()
        if path.is_dir():
            with os.scandir(path):
                return ""
        return f"{path} is not a directory."
    except FileNotFoundError:
        return f"{path} points to {os.readlink(path)}, which does not exist." if path.is_symlink() else ""
    except OSError as error:
        if error.errno == errno.ELOOP:
            return f"{path} is a link that points back to itself."
        closed = file_access.refused_at(path)
        why = error.strerror if closed is None else file_access.whose(closed)
        return f"{path} can't be read ({why})."


def _version(info: PackageInfo, directory: Path) -> str:
    return info.release or _release_named_by(Path(os.path.realpath(directory))) or info.build


def _release_named_by(real: Path) -> str:
    """The release that a directory's name says, where it is in the place of one: any may be called like a version."""
    name, _, suffix = real.name.partition("-")
    if _is_component(name) and _is_release(suffix):
        return suffix
    return real.name if _is_release(real.name) and _is_component(real.parent.name) else ""


def _is_release(name: str) -> bool:
    return name == "latest" or bool(_RELEASE.fullmatch(name))


def _is_component(name: str) -> bool:
    known = {directory for package in packages().values() for directory in package.directories}
    return name in known or any(
        name.startswith(f"{directory}-") and _RELEASE.fullmatch(name[len(directory) + 1 :]) for directory in known
    )
