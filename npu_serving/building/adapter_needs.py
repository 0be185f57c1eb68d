"""adapter-needs: what an adapter needs of the server, of CANN and of Python, and which known releases need the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from npu_serving.building.inputs import known_for, serving_of
from npu_serving.building.sources import resolve_source
from npu_serving.cann.adapter import Adapter
from npu_serving.cann.install import cann_of
from npu_serving.cann.known_adapters import (
    KNOWN,
    NONE,
    KnownAdapter,
    is_release,
    needed_by,
    needed_of_server,
    own_adapters,
    write_known,
)
from npu_serving.elf.compat import undefined_needs
from npu_serving.elf.demangle import demangled
from npu_serving.elf.owners import CANN, DRIVER, PYTHON, SERVER, UNKNOWN, owner_by_name
from npu_serving.errors import RequestError
from npu_serving.sample.sample_settings import with_sample
from npu_serving.settings import Settings, user_path
from npu_serving.state_lock import state_lock
from npu_serving.writers.shell import command_line

_OF = {SERVER: "the server", CANN: "CANN", DRIVER: "the NPU driver", PYTHON: "Python", UNKNOWN: "others"}
RESERVED = (KNOWN, NONE, "auto", "sample")
_SHOWN = 5


@dataclass(frozen=True)
class AdapterNeeds:
    """The symbols that an adapter needs, by whose they are, and how they compare with those of known releases."""

    adapter: Adapter
    serving: str
    by_owner: Mapping[str, tuple[str, ...]]
    known: tuple[KnownAdapter, ...]
    release: str = ""
    """Under which its needs are kept."""
    kept_in: Path | None = None
    is_kept_already: bool = False
    only_planned: bool = False

    @property
    def same_as(self) -> tuple[str, ...]:
        """The known releases that need exactly the same of the server."""
        return tuple(item.release for item in self.known if set(item.symbols) == set(self.by_owner[SERVER]))

    @property
    def contained_in(self) -> tuple[str, ...]:
        """The known releases that need all of it, and more."""
        return tuple(item.release for item in self.known if set(item.symbols) > set(self.by_owner[SERVER]))

    def more_than(self, item: KnownAdapter) -> tuple[str, ...]:
        """What it needs of the server that the adapter of that release doesn't."""
        return tuple(name for name in self.by_owner[SERVER] if name not in set(item.symbols))

    def to_json(self) -> dict[str, object]:
        """All names, as the loader and as C++ writes them."""
        readable = demangled(name for names in self.by_owner.values() for name in names)
        needs = {
            owner: [{"symbol": name, "name": readable[name]} for name in names]
            for owner, names in self.by_owner.items()
        }
        return {
            "adapter": self.adapter.describe(),
            "serving": self.serving,
            "needs": needs,
            "same_as": list(self.same_as),
            "contained_in": list(self.contained_in),
            "more_than": {item.release: list(self.more_than(item)) for item in self.known},
            "release": self.release,
            "kept_in": str(self.kept_in) if self.kept_in is not None else None,
        }

    def text(self) -> str:
        """The counts, how it compares with each known release, and what to type next."""
        lines = [f"{self.adapter.wheel or self.adapter.path} needs"]
        lines += [f"  {_symbols(len(names))} of {_OF[owner]}" for owner, names in self.by_owner.items() if names]
        lines += [self._compared(item) for item in self.known]
        if not self.known:
            lines.append("No release of the adapter is known for this version of TensorFlow Serving.")
        return "\n".join([*lines, self._next()])

    def _compared(self, item: KnownAdapter) -> str:
        more = self.more_than(item)
        if not more:
            less = len(item.symbols) - len(self.by_owner[SERVER])
            if less:
                too = f"the adapter of {item.release} needs too, and {_symbols(less)} more"
                return f"all that it needs of the server, {too}"
            return f"it needs the same of the server as the adapter of {item.release}"
        names = demangled(more[:_SHOWN])
        rest = f"\n    and {len(more) - _SHOWN} more (--json lists them all)" if len(more) > _SHOWN else ""
        listed = "".join(f"\n    {names[name]}" for name in more[:_SHOWN])
        return f"beyond the adapter of {item.release} it needs {_symbols(len(more))} of the server{listed}{rest}"

    def _next(self) -> str:
        if self.kept_in is not None:
            if self.is_kept_already:
                return f"{self.kept_in} has exactly that already."
            done = "would be written" if self.only_planned else "was written"
            return f"{self.kept_in} {done}.\nNext: ./inv build-serving makes a server that fits {self.release} as well"
        if self.same_as or self.contained_in:
            fits = " and ".join((*self.same_as, *self.contained_in))
            return f"A server that fits {fits} fits it."
        command = ["./inv", "adapter-needs", str(self.adapter.wheel or self.adapter.path), "--add"]
        return f"Next: {command_line(command)} {self._name()}, so that builds fit it from then on"

    def _name(self) -> str:
        """What to call it: by its release, where what lies around it says so; if that one is known, it differs."""
        release = self.adapter.cann_version
        if not _is_name(release):
            return "RELEASE"
        return f"{release}-own" if release in {item.release for item in self.known} else release


def _symbols(count: int) -> str:
    return "1 symbol" if count == 1 else f"{count} symbols"


def _is_name(text: str) -> bool:
    """Whether what an adapter needs can be kept under that name."""
    return is_release(text) and text not in RESERVED


def adapter_needs(settings: Settings, file: str = "", *, add: str | None = None, dry_run: bool = False) -> AdapterNeeds:
    """What the adapter in that file or wheel needs, or the one that the settings name; with `add` it is kept.

    Raises AdapterError for a file that is not an adapter, or needs nothing of a server; RequestError for a name that
    no release can have, or that this project knows already.
    """
    if add is not None and not _is_name(add):
        cause = "it becomes the name of a file: letters, digits and . _ + - in it, the first and last none of these"
        raise RequestError(
            f"{add!r} can't be the name of a release.",
            cause="it is a word of the settings `adapter` and `also_fits`" if add in RESERVED else cause,
            cure="name it like CANN does, such as 8.0.0",
        )
    source = resolve_source(settings)
    settings = with_sample(settings)
    if file:
        settings = replace(settings, adapter=str(user_path(file, "FILE")))
    adapter = cann_of(settings).adapter
    needed_by(adapter)
    by_owner = _by_owner(undefined_needs(adapter.elf))
    known = known_for(settings, source)
    needs = AdapterNeeds(adapter, serving_of(source), by_owner, known)
    return _kept(settings, needs, add, dry_run=dry_run) if add else needs


def _kept(settings: Settings, needs: AdapterNeeds, release: str, *, dry_run: bool) -> AdapterNeeds:
    adapter = needs.adapter
    own = own_adapters(settings.adapters, needs.serving).get(release)
    kept_in = own[0] if own is not None else settings.adapters / f"{release}.json"
    same = next((item for item in needs.known if item.release == release), None)
    if same is not None and own is None:
        raise RequestError(
            f"The adapter of {release} is known already ({same.source}).",
            cause="this one needs the same of the server: a build fits it without --add"
            if release in needs.same_as
            else "this one needs something else: it was built in another way, or is that of another release",
            cure=command_line(["./inv", "adapter-needs", str(adapter.wheel or adapter.path), "--add", f"{release}-own"])
            if release not in needs.same_as
            else "leave --add out",
        )
    source = f"read from a file with the sha256 {adapter.sha256}"
    wanted = KnownAdapter(release, needs.serving, source, needed_of_server(adapter.elf), adapter.sha256)
    if same != wanted and not dry_run:
        with state_lock(settings.build_root, doing="adapter-needs --add"):
            write_known(kept_in, wanted)
    return replace(needs, release=release, kept_in=kept_in, is_kept_already=same == wanted, only_planned=dry_run)


def _by_owner(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {owner: [] for owner in _OF}
    for name in names:
        found[owner_by_name(name).kind if owner_by_name(name).kind in found else UNKNOWN].append(name)
    return {owner: tuple(group) for owner, group in found.items()}
