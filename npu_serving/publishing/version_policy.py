"""Which versions of a model a server has to serve, and which labels they have, while a version is put there and after.

No version that a label names is left without its directory, nor a label moved to one that is not loaded: in between,
the server gets the versions one by one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, Union

from npu_serving.deploy.deployment_sections import DeployedModel, LatestVersions
from npu_serving.documents.yaml_edit import Steps
from npu_serving.errors import RequestError

Versions = Union[int, "tuple[int, ...]", Literal["all"]]
"""All of them, some by their numbers, or how many of the highest."""


@dataclass(frozen=True)
class PolicyChange:
    """What a server serves of a model before, during and after; `during` is None where its list stays as it is."""

    before: Versions
    after: Versions
    labels: Mapping[str, int]
    labels_after: Mapping[str, int]
    during: tuple[int, ...] | None = None
    labels_during: Mapping[str, int] | None = None

    @property
    def is_written(self) -> bool:
        """Whether the deployment has it otherwise afterwards."""
        return self.before != self.after or dict(self.labels) != dict(self.labels_after)

    def edits(self, index: int) -> dict[Steps, object]:
        """What of the deployment's model of that place is written."""
        found: dict[Steps, object] = {}
        if self.before != self.after:
            after = self.after
            found["models", index, "versions"] = {"latest": after} if isinstance(after, int) else _listed(after)
        for label, version in self.labels_after.items():
            if self.labels.get(label) != version:
                found["models", index, "labels", label] = version
        return found

    def lines(self) -> list[str]:
        """What is written, in words."""
        found = [f"versions: {versions_text(self.after)}, not {versions_text(self.before)}"] * (
            self.before != self.after
        )
        for label, version in self.labels_after.items():
            if self.labels.get(label) != version:
                former = f", not {self.labels[label]}" if label in self.labels else ""
                found.append(f"label {label}: {version}{former}")
        return found


def versions_of(model: DeployedModel) -> Versions:
    """Which versions the deployment has served."""
    return model.versions.latest if isinstance(model.versions, LatestVersions) else model.versions


def versions_text(versions: Versions) -> str:
    """As a deployment file has it."""
    return f"latest: {versions}" if isinstance(versions, int) else str(_listed(versions))


def served_among(versions: Versions, there: Collection[int]) -> tuple[int, ...]:
    """Those of the versions that are there which are served."""
    ordered = sorted(there)
    if isinstance(versions, tuple):
        return tuple(each for each in ordered if each in versions)
    return tuple(ordered if versions == "all" else ordered[-versions:])


def with_new_version(
    model: DeployedModel, version: int, there: Collection[int], *, label: str = "", unload_first: bool = False
) -> PolicyChange:
    """What has to be served so that the new version is, and with it every version that a label names.

    RequestError where it would not be served, and where nothing could be unloaded for it.
    """
    before, labels = versions_of(model), dict(model.labels)
    labels_after = {**labels, **({label: version} if label else {})}
    now = served_among(before, there)
    if unload_first:
        if before == "all" or len(now) > 1 or (isinstance(before, int) and before > 1):
            raise RequestError(
                f"--unload-first is for a model of which one version is served, and {model.name} has versions: "
                f"{versions_text(before)}.",
                cause="the other versions would go on taking memory, or be unloaded with it",
                cure="write versions: {latest: 1}, or publish it without --unload-first",
            )
        labels_after = {name: version if number in now else number for name, number in labels_after.items()}
    after = _after(model, before, version, there, labels_after)
    if unload_first:
        return PolicyChange(before, after, labels, labels_after, (version,), {})
    during = None
    if labels_after != labels or after != before:
        during = tuple(sorted({*now, *labels.values(), version}))
    return PolicyChange(before, after, labels, labels_after, during if before != "all" else None, labels)


def _after(
    model: DeployedModel, before: Versions, version: int, there: Collection[int], labels: Mapping[str, int]
) -> Versions:
    if before == "all":
        return before
    if isinstance(before, int):
        served = served_among(before, {*there, version})
        if version not in served:
            raise RequestError(
                f"Version {version} of {model.name} would not be served: the deployment has the latest {before}, "
                f"{', '.join(str(each) for each in served)}.",
                cause="a lower number is taken for an older version",
                cure="leave out --version, which takes the next free number",
            )
        named = set(labels.values())
        return before if named <= set(served) else tuple(sorted({*named, version}))
    if version in before:
        return before
    kept = before if len(before) > 1 or set(before) & set(labels.values()) else ()
    return tuple(sorted({*kept, version}))


def without_version(
    model: DeployedModel, current: int, previous: int, there: Collection[int], *, label: str = ""
) -> PolicyChange:
    """What has to be served so that the previous version answers again: by its label, or to who names no version."""
    before, labels = versions_of(model), dict(model.labels)
    now = served_among(before, there)
    if label:
        labels_after = {**labels, label: previous}
        served = previous in now
        after: Versions = before if served else tuple(sorted({*labels_after.values(), previous, *now}))
    else:
        labels_after = {name: previous if number == current else number for name, number in labels.items()}
        after = tuple(sorted({*(each for each in now if each < current), previous, *labels_after.values()}))
    during = tuple(sorted({*now, previous}))
    return PolicyChange(before, after, labels, labels_after, during, labels)


def _listed(versions: tuple[int, ...] | Literal["all"]) -> list[int] | str:
    return versions if isinstance(versions, str) else list(versions)
