"""Whether the toolkit that is installed has all that an adapter calls: an adapter of a later release calls more.

A wheel doesn't name its release, so its symbols have to. What is missing altogether is found elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from npu_serving.cann.adapter import Adapter
from npu_serving.cann.layout import Component
from npu_serving.elf.binding import Binding
from npu_serving.elf.loader import plan_loading
from npu_serving.elf.owners import CANN, is_of_driver, owner_by_name
from npu_serving.elf.subject import NOT_OF_CANN
from npu_serving.findings import Finding

_SHOWN = 3


def lacking_in(runtime: Component, adapter: Adapter, library_path: Sequence[Path]) -> Finding | None:
    """The finding where the libraries of that toolkit or nnae lack what the adapter calls of CANN.

    None where they don't, and where it can't be known because one of CANN's libraries isn't there at all.
    """
    plan = plan_loading(adapter.elf, library_path=library_path)
    if any(not NOT_OF_CANN.match(item.name) and not is_of_driver(item.name) for item in plan.missing):
        return None
    unresolved = [item.symbol for item in Binding(plan).unresolved(plan.program)]
    lacking = [(item, owner) for item in unresolved if (owner := owner_by_name(item.name)).kind == CANN]
    if not lacking or any(plan.named(owner.library) is None for _, owner in lacking):
        return None
    shown = [f"{item.name} of {owner.library}" for item, owner in lacking[:_SHOWN]]
    more = f" and {len(lacking) - len(shown)} more" if len(lacking) > len(shown) else ""
    return Finding(
        f"The adapter {adapter.wheel or adapter.path} calls what the {runtime.name} in {runtime.path} "
        f"{f'(CANN {runtime.version}) ' if runtime.version else ''}lacks: {', '.join(shown)}{more}.",
        "install the CANN toolkit of the adapter's release, or the adapter of this one; "
        "the adapter's release ends the tag that it was downloaded from",
    )
