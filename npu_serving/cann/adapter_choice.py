"""Which adapter is taken where there is more than one: that of CANN's installer, of a wheel, of a Python's packages.

Until CANN 8.0.0 the adapter came with an installer, since then it is a wheel, and an upgrade leaves the former in place
until its own script removes it. So the toolkit decides; and what is not taken is named.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from npu_serving.cann.layout import (
    Component,
    adapter_in,
    is_from_installer,
    is_from_release_wheel,
    is_there,
    packages,
)
from npu_serving.cann.places import ADAPTER, LooseAdapter
from npu_serving.findings import NOTE, Finding
from npu_serving.writers.shell import command_line, shell_word


@dataclass(frozen=True)
class AdapterChoice:
    """The adapter, None where there is none; the tfplugin that it belongs to, if any; what is said of the others."""

    path: Path | None
    plugin: Component | None
    findings: tuple[Finding, ...] = ()


def choose_adapter(plugin: Component | None, loose: Sequence[LooseAdapter], release: str) -> AdapterChoice:
    """The adapter for a toolkit or nnae of that release ("" where none is known), among that of the tfplugin found in
    CANN's directories and those outside.
    """
    own = adapter_in(plugin.path) if plugin is not None else None
    others = list(_others(plugin, own, loose))
    if own is None or plugin is None:
        first = others[0].path if others else None
        return AdapterChoice(first, plugin, tuple(_also_there(first, others[1:])) if first is not None else ())
    if not is_from_installer(own):
        named = next((item for item in others if item.is_named), None)
        if named is None:
            return AdapterChoice(own, plugin, tuple(_also_there(own, others)))
        rest = [LooseAdapter(own, plugin.name), *(item for item in others if item is not named)]
        return AdapterChoice(named.path, _wheel_at(named.path), tuple(_also_there(named.path, rest)))
    newer = next((item for item in others if item.is_named or is_from_release_wheel(item.path)), None)
    if newer is None or not packages()["tfplugin"].comes_as_wheel(release):
        return AdapterChoice(own, plugin, tuple(_also_there(own, others)))
    left = Finding(
        f"There are two adapters: {newer.path} ({newer.why}), which is used, and {own}, which the installer of "
        f"tfplugin {plugin.version or 'of another release'} has left.",
        removal(plugin),
    )
    rest = [item for item in others if item is not newer]
    return AdapterChoice(newer.path, _wheel_at(newer.path), (left, *_also_there(newer.path, rest)))


def removal(plugin: Component) -> str:
    """How a tfplugin that an installer has put there is removed: with its own script, where that is still there."""
    family = plugin.path.parent
    wheel = packages()["tfplugin"].wheel
    script = family / wheel.uninstaller if wheel is not None else family
    if is_there(script):
        return shell_word(script)
    left = [path for path in (family / "latest", *plugin.releases) if os.path.lexists(path)]
    return command_line(["rm", "-r", *(left or [plugin.path])])


def _others(plugin: Component | None, own: Path | None, loose: Sequence[LooseAdapter]) -> Iterator[LooseAdapter]:
    """The adapters beside the tfplugin's own: in its family's directory, where pip may have put one, and elsewhere."""
    seen = {os.path.realpath(own)} if own is not None else set()
    beside = []
    if plugin is not None and os.path.lexists(plugin.path.parent / ADAPTER):
        beside.append(LooseAdapter(plugin.path.parent / ADAPTER, "installed with pip", is_named=True))
    named = [item for item in loose if item.is_named]
    for item in (*named, *beside, *(item for item in loose if not item.is_named)):
        real = os.path.realpath(item.path)
        # What an installer has put there belongs to a release of a tfplugin, which was chosen among its own kind.
        if real not in seen and (own is None or not is_from_installer(item.path)):
            seen.add(real)
            yield item


def _also_there(used: Path, others: Sequence[LooseAdapter]) -> Iterator[Finding]:
    for item in others:
        yield Finding(
            f"{item.path} ({item.why}) is an adapter as well; {used} is used.",
            f"to link that one: --adapter {shell_word(item.path)}",
            severity=NOTE,
        )


def _wheel_at(adapter: Path) -> Component:
    return Component("tfplugin", adapter.parent.parent, "")
