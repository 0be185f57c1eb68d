"""Finds the CANN that is installed here, and the adapter to build with."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from npu_serving.cann.adapter import Adapter, adapter_at, no_adapter_installed
from npu_serving.cann.adapter_choice import choose_adapter
from npu_serving.cann.adapter_needs import lacking_in
from npu_serving.cann.layout import (
    Component,
    FoundComponent,
    examine,
    is_directory,
    packages,
    root_above,
    table,
)
from npu_serving.cann.places import (
    CannPlace,
    LooseAdapter,
    adapter_places,
    loose_adapters,
    places,
    places_of_others,
    stale_variables,
)
from npu_serving.cann.rules import NO_ADAPTER, contradictions, runtime_of, wheel_of_another_time
from npu_serving.errors import AdapterError, MissingToolError, RequestError
from npu_serving.file_access import refused_at
from npu_serving.findings import NOTE, Finding
from npu_serving.settings import WITHOUT_ADAPTER, Settings

WHEELS = "adapters"
"""The directory below the build root in which named wheels are unpacked."""
_CURE_FOR_ROOT = "set cann_root to the directory that contains cann/ (before CANN 8.5 ascend-toolkit/), or tfplugin/"


@dataclass(frozen=True)
class CannInstallation:
    """What of CANN is installed: the directory that holds it, its version ("" if unknown), its components.

    `library_directories` are those that the set_env.sh scripts, and the guide's 6.4 for the adapter, put into
    LD_LIBRARY_PATH, as far as they exist, in that order.
    """

    root: Path
    version: str
    components: tuple[Component, ...]
    adapter: Path | None
    library_directories: tuple[Path, ...]
    findings: tuple[Finding, ...]

    @property
    def runtime(self) -> Component | None:
        """The toolkit, or nnae: what the server loads its libraries from."""
        return runtime_of({item.name: item for item in self.components})

    def component(self, name: str) -> Component | None:
        """The component of that name, if it is there."""
        return next((item for item in self.components if item.name == name), None)

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The findings that call for something to be done."""
        return tuple(finding for finding in self.findings if finding.needs_action)

    def to_json(self) -> dict[str, object]:
        """The installation as `--json` shows it."""
        return {
            "root": str(self.root),
            "version": self.version,
            "components": [component.to_json() for component in self.components],
            "adapter": str(self.adapter) if self.adapter is not None else None,
            "library_directories": [str(path) for path in self.library_directories],
        }

    def text(self) -> str:
        """A line for each component, with its other releases, and one for the adapter."""
        lines = [f"CANN {self.version or 'of unknown version'} in {self.root}"]
        for item in self.components:
            others = [path.name for path in item.releases if not path.samefile(item.path) and path.name != item.version]
            beside = f" (also there: {', '.join(others)})" if others else ""
            lines.append(f"  {item.name} {item.version or '(version unknown)'}: {item.path}{beside}")
        return "\n".join([*lines, f"  adapter: {self.adapter if self.adapter is not None else 'none'}"])


def find_installation(root: str = "", environ: Mapping[str, str] | None = None) -> CannInstallation | None:
    """The CANN below `root`, or, where that is empty, the one that the environment or the usual places lead to.

    Each component is taken from the first of the caller's own places that has it (see places.py); where they have
    nothing of CANN but a driver, from the home of another user. None where no place has any. Raises RequestError for a
    `root` that does not exist or has no CANN in it.
    """
    environment = os.environ if environ is None else environ
    if root:
        return _explicit(Path(_expanded(root, environment)), environment)
    own = [(place, examine(place.root, place.named)) for place in places(environment)]
    loose = loose_adapters(environment)
    if not loose and not any(set(look.components) - {"driver"} for _, look in own):
        own += _first_with_components(places_of_others(environment))
    return _installation(own, loose, _stale(environment))


def find_driver(root: str = "", environ: Mapping[str, str] | None = None) -> Component | None:
    """The driver that the same places have, with or without any CANN; None where none has one."""
    environment = os.environ if environ is None else environ
    own = [place.root for place in places(environment)]
    named = Path(_expanded(root, environment)) if root else None
    above = root_above(named) if named is not None else None
    looked = [path for path in (named, above) if path is not None]
    found = (examine(path).components.get("driver") for path in (*looked, *own))
    return next((driver for driver in found if driver is not None), None)


@dataclass(frozen=True)
class Cann:
    """The CANN that two settings lead to: looked for when it is first asked for, and then kept.

    `setting` is the path of a _tf_adapter.so or of its wheel, "auto" for that of the CANN installed here, or "none";
    wheels are unpacked below `wheels`.
    """

    setting: str
    cann_root: str
    wheels: Path

    @cached_property
    def installation(self) -> CannInstallation | None:
        """What is installed; as find_installation()."""
        return find_installation(self.cann_root)

    @cached_property
    def adapter(self) -> Adapter:
        """The adapter.

        Raises AdapterError when it is missing, unreadable, no shared library, or for another machine, and for "none";
        MissingToolError when "auto" finds none.
        """
        if self.setting == WITHOUT_ADAPTER:
            raise AdapterError(
                "This needs an adapter, and `adapter: none` is set.",
                cause="invoke.yaml or the command line has it, for builds that another machine links",
                cure="use --adapter auto, or take `adapter: none` out of invoke.yaml",
            )
        if self.is_named:
            return self.named_adapter()
        installation = self.installation
        if installation is None or installation.adapter is None:
            problems = installation.problems if installation is not None else ()
            raise no_adapter_installed(
                [finding.what for finding in problems],
                looked_at=[*looked_at(self.cann_root, os.environ), *adapter_places(os.environ)],
                command=adapter_command(installation),
            )
        return adapter_of(installation)

    @property
    def is_named(self) -> bool:
        """Whether the setting names a file."""
        return self.setting not in ("auto", WITHOUT_ADAPTER)

    def named_adapter(self, *, digest: bool = True) -> Adapter:
        """The adapter that the setting names; as adapter_at()."""
        return adapter_at(Path(_expanded(self.setting, os.environ)), "", self.wheels, digest=digest)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Those on the installation; that it has no adapter does not count where one is named."""
        found = self.installation.findings if self.installation is not None else ()
        return tuple(item for item in found if self.setting == "auto" or item.kind != NO_ADAPTER)

    def misfit(self) -> Finding | None:
        """What keeps the adapter from working with this CANN, beside what the installation's own findings say."""
        installation = self.installation
        if installation is None or installation.runtime is None:
            return None
        if self.is_named:
            components = {item.name: item for item in installation.components}
            other_time = next(wheel_of_another_time(components, self.adapter.path, self.adapter.wheel), None)
            if other_time is not None:
                return other_time
        return lacking_in(installation.runtime, self.adapter, installation.library_directories)

    @property
    def adapter_if_installed(self) -> Adapter | None:
        """The same; None where none was named and none is installed, or none is wanted."""
        if self.setting == WITHOUT_ADAPTER:
            return None
        try:
            return self.adapter
        except MissingToolError:
            if self.setting == "auto":
                return None
            raise

    @property
    def library_path(self) -> tuple[Path, ...]:
        """CANN's own directories, where a server looks for its libraries; empty on a machine without CANN."""
        return self.installation.library_directories if self.installation is not None else ()


def cann_of(settings: Settings) -> Cann:
    """The one that these settings lead to."""
    return Cann(settings.adapter, settings.cann_root, settings.build_root / WHEELS)


def adapter_of(installation: CannInstallation) -> Adapter:
    """The installation's own adapter, which has to be there. AdapterError where it can't be one."""
    assert installation.adapter is not None
    plugin = installation.component("tfplugin")
    try:
        return adapter_at(installation.adapter, plugin.version if plugin else "")
    except AdapterError as error:
        is_closed = refused_at(installation.adapter) is not None  # which no other installation of the same opens
        cure = error.cure if is_closed else adapter_command(installation)
        raise AdapterError(error.what, cause=error.cause, cure=cure) from error


def adapter_command(installation: CannInstallation | None) -> str:
    """How the adapter of that installation's release is installed; of a recent one where there is none."""
    runtime = installation.runtime if installation is not None else None
    root = installation.root if installation is not None else None
    return packages()["tfplugin"].install_command(runtime.version if runtime is not None else "", root)


def looked_at(root: str, environ: Mapping[str, str]) -> list[str]:
    """The directories that find_installation looks into."""
    return [root] if root else [str(place.root) for place in places(environ)]


def _explicit(root: Path, environ: Mapping[str, str]) -> CannInstallation:
    if not is_directory(root):
        raise RequestError(f"cann_root {root} is not a readable directory.", cure=_CURE_FOR_ROOT)
    # The path of a component is understood as well: …/Ascend/ascend-toolkit/latest.
    looks = [
        (CannPlace(place, "named"), examine(place, root)) for place in (root_above(root), root) if place is not None
    ]
    found = max(looks, key=lambda look: len(look[1].components))
    # An adapter from a wheel is in no CANN directory: what that directory holds comes first.
    loose = loose_adapters(environ) if found[1].components and "tfplugin" not in found[1].components else ()
    installation = _installation([found], loose, ())
    if installation is None:
        raise RequestError(
            f"There is no CANN in {root}.",
            cause=" ".join(finding.what for finding in looks[-1][1].findings)
            or f"none of {', '.join(name for package in packages().values() for name in package.directories)} is in it",
            cure=_CURE_FOR_ROOT,
        )
    return installation


def _first_with_components(others: Iterable[CannPlace]) -> list[tuple[CannPlace, FoundComponent]]:
    for place in others:
        look = examine(place.root)
        if look.components:
            note = Finding(f"{place.root} is {place.why}: only they can upgrade or remove it.", severity=NOTE)
            return [(place, FoundComponent(look.components, (*look.findings, note)))]
    return []


def _stale(environ: Mapping[str, str]) -> tuple[Finding, ...]:
    return tuple(
        Finding(f"{name} points to {path}, which does not exist.", _cure_for_stale(name), NOTE)
        for name, path in stale_variables(environ).items()
    )


def _cure_for_stale(name: str) -> str:
    if name == table().wheel_directory:  # which no set_env.sh sets
        return f"unset {name}, or export it as the directory that pip3 install -t has filled"
    return "source set_env.sh again, in a new shell"


def _installation(
    looks: Iterable[tuple[CannPlace, FoundComponent]], loose: Sequence[LooseAdapter], remarks: Iterable[Finding]
) -> CannInstallation | None:
    found: dict[str, Component] = {}
    roots: dict[str, Path] = {}
    findings: list[Finding] = [*remarks]
    for place, look in looks:
        findings += look.findings
        for name, component in look.components.items():
            found.setdefault(name, component)
            roots.setdefault(name, place.root)
    components = {name: found[name] for name in packages() if name in found}
    runtime = runtime_of(components)
    choice = choose_adapter(components.get("tfplugin"), loose, runtime.version if runtime is not None else "")
    adapter, plugin = choice.path, choice.plugin
    findings += choice.findings
    if plugin is not None:
        components["tfplugin"] = plugin
    if not set(components) - {"driver"} and adapter is None:
        return None
    leading = plugin or runtime or components.get("nnrt")
    root = roots[leading.name] if leading is not None else adapter.parent if adapter is not None else Path("/")
    return CannInstallation(
        root=root,
        version=next((item.version for item in (plugin, runtime) if item is not None and item.version), ""),
        components=tuple(components.values()),
        adapter=adapter,
        library_directories=_library_directories(adapter, runtime, components.get("driver")),
        findings=(*findings, *contradictions(components, adapter)),
    )


def _library_directories(adapter: Path | None, *components: Component | None) -> tuple[Path, ...]:
    machine = platform.machine()
    candidates = [adapter.parent] if adapter is not None else []
    for item in components:
        if item is not None:
            candidates += [item.path / name.format(machine=machine) for name in packages()[item.name].libraries]
    # Newer releases link lib64 to the one below the machine's name: one of the two is enough.
    directories: dict[str, Path] = {}
    for path in candidates:
        if is_directory(path):
            directories.setdefault(os.path.realpath(path), path)
    return tuple(directories.values())


def _expanded(text: str, environ: Mapping[str, str]) -> str:
    """The path, with ~ as the user's home (`environ` may be another's) and made absolute."""
    home = environ.get("HOME")
    if home and (text == "~" or text.startswith("~/")):
        text = home + text[1:]
    return os.path.abspath(text)
