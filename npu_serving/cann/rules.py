"""What has to hold between the components of an installation; each rule gives the findings on what doesn't."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path

from npu_serving import file_access
from npu_serving.cann import operator_list
from npu_serving.cann.adapter_choice import removal
from npu_serving.cann.driver_fit import driver_misfits
from npu_serving.cann.info_files import matching
from npu_serving.cann.layout import (
    Component,
    closed_directory,
    has_essentials,
    is_before,
    is_from_release_wheel,
    is_there,
    newest,
    packages,
    root_above,
)
from npu_serving.findings import NOTE, Finding

NO_ADAPTER = "no-adapter"
"""The finding that only a named adapter makes void."""


def contradictions(components: Mapping[str, Component], adapter: Path | None) -> tuple[Finding, ...]:
    """All findings on these components together."""
    rules = (
        _missing,
        _incomplete,
        _mixed_releases,
        wheel_of_another_time,
        _two_runtimes,
        _driver,
        _other_machine,
        _unreadable,
        _closed_libraries,
        _operators,
    )
    return tuple(finding for rule in rules for finding in rule(components, adapter))


def runtime_of(components: Mapping[str, Component]) -> Component | None:
    """The component whose libraries the server loads: the toolkit, else nnae."""
    return next((item for item in components.values() if packages()[item.name].serves), None)


def _missing(components: Mapping[str, Component], adapter: Path | None) -> Iterator[Finding]:
    runtime = runtime_of(components)
    if adapter is None and "tfplugin" not in components:
        package, release = packages()["tfplugin"], runtime.version if runtime is not None else ""
        what = (
            "TF Adapter, a wheel since CANN 8.0.0,"
            if package.comes_as_wheel(release)
            else "tfplugin, with the adapter,"
        )
        yield Finding(f"{what} is not installed.", package.install_command(release, _root_of(runtime)), kind=NO_ADAPTER)
    if runtime is None:
        why = ": nnrt lacks the graph engine that the adapter needs" if "nnrt" in components else ""
        yield Finding(f"Neither the CANN toolkit nor nnae is installed{why}.", packages()["toolkit"].install_command())


def _incomplete(components: Mapping[str, Component], _adapter: Path | None) -> Iterator[Finding]:
    for item in components.values():
        package = packages()[item.name]
        if has_essentials(package, item.path):
            continue
        closed = closed_directory(package, item.path)
        if closed is not None:
            what = f"{closed} can't be entered by this user ({file_access.whose(closed)})."
            yield Finding(what, file_access.cure_for(closed))
        else:
            lacking = package.essential[0].rpartition("/")[2]
            yield Finding(
                f"{item.path} has no {lacking}: installing or removing {item.name} was interrupted.",
                package.install_command(_release_of(components), _root_of(item)),
            )


def _mixed_releases(components: Mapping[str, Component], _adapter: Path | None) -> Iterator[Finding]:
    """All of CANN has to be of one release; a driver's number is another series, and has a rule of its own."""
    told = {item.name: item.info.release or item.version for item in components.values() if item.name != "driver"}
    releases = {name: release for name, release in told.items() if release}
    if len(set(releases.values())) > 1:
        # Of what is used the newest, so that nothing is replaced by an older release; else that of the first component.
        runtime = runtime_of(components)
        used = [releases[item.name] for item in (runtime, components.get("tfplugin")) if item and item.name in releases]
        wanted = newest(used) if used else next(iter(releases.values()))
        other = next(name for name, release in releases.items() if release != wanted)
        command = packages()[other].install_command(wanted, _root_of(components[other]))
        if packages()[other].comes_as_wheel(wanted):
            command = f"{removal(components[other])} && {command}"
        yield Finding(" and ".join(f"{name} is of CANN {release}" for name, release in releases.items()) + ".", command)
    for item in components.values():
        of_parts = sorted(set(item.info.parts.values()))
        if len(of_parts) > 1:
            yield Finding(
                f"{item.path} mixes CANN {' and '.join(of_parts)} (version.cfg): an upgrade of "
                f"{item.name} was interrupted.",
                packages()[item.name].install_command(_release_of(components), _root_of(item)),
            )


def wheel_of_another_time(
    components: Mapping[str, Component], adapter: Path | None, named: Path | None = None
) -> Iterator[Finding]:
    """The adapter's wheels fit no CANN of the time when it had an installer. `named` is the wheel that it came in."""
    runtime, package = runtime_of(components), packages()["tfplugin"]
    if adapter is None or runtime is None or package.wheel is None or not is_from_release_wheel(adapter):
        return
    if runtime.version and is_before(runtime.version, package.wheel.since):
        yield Finding(
            f"{runtime.name} is of CANN {runtime.version}, and {named or adapter} is from a wheel: these fit "
            f"CANN {package.wheel.since} and later.",
            package.install_command(runtime.version),
        )


def _two_runtimes(components: Mapping[str, Component], _adapter: Path | None) -> Iterator[Finding]:
    """The guide's 6.4 has one of the two sourced; both in LD_LIBRARY_PATH shadow each other."""
    both = [item for item in components.values() if packages()[item.name].serves]
    if len(both) > 1:
        used, other = both[0], both[1]
        yield Finding(
            f"{used.name} and {other.name} are both installed; {used.name} is used ({used.path}).",
            f"when you start the server by hand, source only {used.name}'s set_env.sh",
            severity=NOTE,
        )


def _driver(components: Mapping[str, Component], _adapter: Path | None) -> Iterator[Finding]:
    """None, or one that does not fit: building does without, serving does not (doctor --for serving)."""
    driver = components.get("driver")
    if driver is None:
        what = "No NPU driver is installed: a server built here can run only on another machine."
        yield Finding(what, packages()["driver"].install_command(), severity=NOTE)
    else:
        yield from driver_misfits(driver, runtime_of(components))


def _other_machine(components: Mapping[str, Component], _adapter: Path | None) -> Iterator[Finding]:
    """A toolkit may hold the other processor's files as well, for cross-compiling."""
    for item in components.values():
        if item.architectures and platform.machine() not in item.architectures:
            yield Finding(
                f"{item.path} is for {' and '.join(item.architectures)}, but this machine is {platform.machine()}.",
                packages()[item.name].install_command(_release_of(components), _root_of(item)),
            )


def _unreadable(components: Mapping[str, Component], adapter: Path | None) -> Iterator[Finding]:
    for item in components.values():
        for file in item.info.unreadable:
            what = f"{file} can't be read ({file_access.whose(file)}), so its version is unknown."
            yield Finding(what, file_access.cure_for(file), severity=NOTE)
    if adapter is not None and is_there(adapter) and not os.access(adapter, os.R_OK):
        what = f"{adapter} can't be read by this user ({file_access.whose(adapter)})."
        yield Finding(what, file_access.cure_for(adapter))


def _closed_libraries(components: Mapping[str, Component], _adapter: Path | None) -> Iterator[Finding]:
    """A CANN or a driver that was installed for one user or group: the loader passes over what it may not read."""
    for item in components.values():
        package = packages()[item.name]
        if closed_directory(package, item.path) is not None:
            continue
        directories = [item.path / name.format(machine=platform.machine()) for name in package.libraries]
        libraries = [path for directory in directories for path in (directory, *matching(directory, "*.so*"))]
        closed = [place for path in libraries if (place := file_access.refused_at(path)) is not None]
        if closed:
            first = closed[0]
            others = len(set(closed)) - 1
            more = f", and {others} more" if others else ""
            yield Finding(
                f"{first} can't be read by this user ({file_access.whose(first)}){more}: a server of theirs would not "
                f"find the libraries of {item.name}.",
                file_access.cure_for(first),
            )


def _operators(components: Mapping[str, Component], _adapter: Path | None) -> Iterator[Finding]:
    runtime = runtime_of(components)
    if runtime is not None:
        yield from operator_list.findings_on(runtime)


def _release_of(components: Mapping[str, Component]) -> str:
    """The release of the toolkit or nnae; "" where none is known."""
    runtime = runtime_of(components)
    return runtime.version if runtime is not None else ""


def _root_of(item: Component | None) -> Path | None:
    """The directory that holds a component's family."""
    return root_above(item.path) if item is not None else None
