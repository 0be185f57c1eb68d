"""Which release of TF Adapter a CANN has, among those whose source was read (session_options.yaml)."""

from __future__ import annotations

from npu_serving.options.catalogue import NOT_READ, SessionOption, adapter_releases
from npu_serving.version_numbers import cann_age

LOOKED_INTO = ("6.3.RC2.alpha003", "6.3.RC2", "9.0.0")
"""Those in which it was looked up what is refused."""

Candidate = tuple[str, str]
"""A release whose kinds may count, and the one of LOOKED_INTO whose rules then do."""


def candidates(cann_version: str) -> tuple[Candidate, ...]:
    """What the adapter of that CANN may be; only what holds for all of them is certain. All, where it is not known.

    A release between two that were looked into may already be as the newer one.
    """
    if not cann_version:
        return tuple((name, name) for name in LOOKED_INTO)
    names = [release.name for release in adapter_releases()]
    exact = cann_version if cann_version in names else _newest_not_newer(cann_version, names)
    at = names.index(exact)
    before = [name for name in LOOKED_INTO if names.index(name) <= at]
    after = [name for name in LOOKED_INTO if names.index(name) > at]
    if not before or not after or (exact in LOOKED_INTO and exact == cann_version):
        return ((exact, before[-1] if before else after[0]),)
    newer = exact if exact == cann_version else names[at + 1]
    return (exact, before[-1]), (newer, after[0])


def _newest_not_newer(cann_version: str, names: list[str]) -> str:
    numbered = [name for name in names if name[0].isdigit()]
    older = [name for name in numbered if cann_age(name) <= cann_age(cann_version)]
    return max(older, key=names.index, default=names[names.index(numbered[0]) - 1])


def is_within(release: str, since: str = "", until: str = "") -> bool:
    """Whether a release is within these bounds, both included; either may be left out."""
    order = [each.name for each in adapter_releases()]
    return (not since or order.index(release) >= order.index(since)) and (
        not until or order.index(release) <= order.index(until)
    )


def kind_in(option: SessionOption, release: str) -> str:
    """As which kind that release reads it (b, i, s), or NOT_READ."""
    kind: str = NOT_READ
    for each in adapter_releases():
        kind = option.kinds.get(each.name, kind)
        if each.name == release:
            break
    return kind
