"""How a lock differs from what its tree declares, in sentences for a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from npu_serving.lock.lockfile import Archive, Lock, OtherRepository

UNDECLARED = " is in the lock, but the tree does not declare it"
_NOT_THE_TREES_TO_TELL = ("size_bytes", "needed_by", "only_with")


def differences(lock: Lock, tree_lock: Lock) -> tuple[str, ...]:
    """How the lock differs from what the tree declares, a sentence each, sorted by name."""
    found = [
        f"{field}: the lock has {_shown(getattr(lock, field))}, the tree {_shown(getattr(tree_lock, field))}"
        for field in ("serving_version", "tensorflow_commit")
        if getattr(lock, field) != getattr(tree_lock, field)
    ]
    found += _differing(_by_name(lock.archives), _by_name(tree_lock.archives))
    found += _differing(_by_name(lock.others), _by_name(tree_lock.others))
    return tuple(found)


def need_differences(lock: Lock, measured: Lock) -> tuple[str, ...]:
    """How the needs that the lock records differ from those that were measured, a sentence each, sorted by name."""
    needs = [
        {(item.name, platform) for item in one.archives for platform in item.needed_by} for one in (lock, measured)
    ]
    recorded = [{item.name: item.only_with for item in one.archives if item.only_with} for one in (lock, measured)]
    found = [f"{name} is not needed on {platform}, but the lock says it is" for name, platform in needs[0] - needs[1]]
    found += [f"{name} is needed on {platform}, but the lock does not say so" for name, platform in needs[1] - needs[0]]
    found += [
        f"{name}: only_with: the lock has {_shown(recorded[0].get(name, ''))}, Bazel says "
        f"{_shown(recorded[1].get(name, ''))}"
        for name in {*recorded[0], *recorded[1]}
        if recorded[0].get(name) != recorded[1].get(name)
    ]
    return tuple(sorted(found))


def _by_name(items: Iterable[Archive | OtherRepository]) -> dict[str, dict[str, object]]:
    """What the tree decides about each item, under a name for messages that no other item has."""
    found: dict[str, dict[str, object]] = {}
    for item in items:
        name = f"{item.name} ({item.file_name})" if isinstance(item, Archive) else item.name
        if name in found:
            name = f"{name}, declared again"
        fields = {key: value for key, value in vars(item).items() if key not in _NOT_THE_TREES_TO_TELL}
        found[name] = fields
    return found


def _differing(locked: Mapping[str, dict[str, object]], declared: Mapping[str, dict[str, object]]) -> Iterable[str]:
    for name in sorted({*locked, *declared}):
        if name not in declared:
            yield f"{name}{UNDECLARED}"
        elif name not in locked:
            yield f"{name} is declared by the tree, but is not in the lock"
        else:
            for field, value in locked[name].items():
                if value != declared[name][field]:
                    yield f"{name}: {field}: the lock has {_shown(value)}, the tree {_shown(declared[name][field])}"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return str(value) if value not in (None, "") else "none"
