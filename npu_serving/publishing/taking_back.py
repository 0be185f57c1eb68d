"""publish-model --back: the version before the one that is served answers again, by its label, or to everybody."""

from __future__ import annotations

import contextlib
import itertools
import os
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.console import Reporter, duration_text
from npu_serving.errors import RequestError
from npu_serving.options.catalogue import presets
from npu_serving.publishing.deployed_policy import refuse_other_changes, write_policy
from npu_serving.publishing.destination import Destination
from npu_serving.publishing.publish import alone_at
from npu_serving.publishing.served_model import ModelOfServer
from npu_serving.publishing.version_policy import PolicyChange, served_among, versions_of, without_version
from npu_serving.settings import Settings
from npu_serving.writers.shell import shell_word


@dataclass(frozen=True)
class TakingBackPlan:
    """Which version takes the place of which. Without a policy the directory of `current` gets another name."""

    place: Destination
    current: int
    previous: int
    label: str = ""
    policy: PolicyChange | None = None
    away: Path = Path()
    """What the directory of the version is called that is taken back where no list of models names versions."""

    def steps(self) -> list[str]:
        """What is done, one after the other."""
        name = self.place.server.name if self.place.server is not None else ""
        waits = [f"wait until server {name} serves version {self.previous}"] if name else []
        if self.policy is None:
            return [f"rename {self.place.base / str(self.current)} to {self.away.name}", *waits]
        return [*waits, *(f"write into {self.place.file}: {line}" for line in self.policy.lines())]

    def to_json(self) -> dict[str, object]:
        """As `--json` shows it."""
        return {
            "base": str(self.place.base),
            "model": self.place.model or None,
            "label": self.label or None,
            "version": self.previous,
            "taken_back": self.current,
            "steps": self.steps(),
        }

    def text(self) -> str:
        """For a person."""
        return "\n".join([f"Would go back to version {self.previous}:", *(f"  {step}" for step in self.steps())])


@dataclass(frozen=True)
class TakenBack:
    """What was done; `loaded_s` is None where no server runs."""

    plan: TakingBackPlan
    loaded_s: float | None = None

    def to_json(self) -> dict[str, object]:
        """As `--json` shows it."""
        return {**self.plan.to_json(), "loaded_seconds": self.loaded_s}

    def text(self) -> str:
        """For a person."""
        plan = self.plan
        what = f"Label {plan.label} is" if plan.label else "Served is"
        lines = [f"{what} version {plan.previous} again, not {plan.current}."]
        if plan.policy is None:
            lines.append(f"Version {plan.current} is kept as {plan.away}.")
        elif plan.policy.is_written:
            lines.append(f"{plan.place.file}: {'; '.join(plan.policy.lines())}.")
        if self.loaded_s is None and plan.place.file is not None:
            lines.append("No server by that file runs here: the next one that is started serves it.")
        elif self.loaded_s is not None:
            lines.append(f"It was loaded after {duration_text(self.loaded_s)}.")
        return "\n".join(lines)


def plan_taking_back(place: Destination, label: str = "") -> TakingBackPlan:
    """What is to be done. RequestError where there is no version before the one that is served."""
    there = place.versions()
    deployed = place.deployed
    if label and deployed is None:
        raise RequestError(
            "--label needs a deployment, in which labels stand.",
            cause="a directory has versions alone",
            cure="give --deployment FILE, or leave out --label",
        )
    if label and deployed is not None and label not in deployed.labels:
        named = ", ".join(deployed.labels)
        raise RequestError(
            f"{place.model} has no label {label!r}.",
            cause="" if named else "it has no labels",
            cure=f"name one of its labels: {named}" if named else "leave out --label",
        )
    served = served_among(versions_of(deployed), there) if deployed is not None else tuple(sorted(there))
    current = deployed.labels[label] if label and deployed is not None else max(served, default=0)
    previous = max((each for each in there if each < current), default=None)
    if previous is None:
        listed = ", ".join(str(each) for each in sorted(there)) or "none"
        raise RequestError(
            f"There is no version before {current or 'the one that is served'} in {place.base}.",
            cause=f"the versions there are {listed}",
            cure=f"publish one: ./inv publish-model SOURCE --to {shell_word(place.base)}",
        )
    policy = None
    if deployed is not None and not (_has_to_find_versions(place) and current not in deployed.labels.values()):
        policy = without_version(deployed, current, previous, there, label=label)
    return TakingBackPlan(place, current, previous, label, policy, _name_away(place.base, current))


def _name_away(base: Path, version: int) -> Path:
    """A name that nothing has: the number may have been taken back before, and been given to another version since."""
    name = f"{version}.taken-back"
    names = (base / (f"{name}.{count}" if count > 1 else name) for count in itertools.count(1))
    return next(each for each in names if not os.path.lexists(each))


def _has_to_find_versions(place: Destination) -> bool:
    """Whether the deployment has a preset for new versions, with which they can't be fixed in its file."""
    deployment, deployed = place.deployment, place.deployed
    names = (*deployment.presets, *deployed.presets) if deployment is not None and deployed is not None else ()
    return any(presets()[name].new_versions for name in names)


def take_back(settings: Settings, plan: TakingBackPlan, reporter: Reporter, *, timeout_s: float) -> TakenBack:
    """Does it: what is served now is served until the former version is loaded. Raises what publish() does."""
    place = plan.place
    with alone_at(settings, place, "publish-model --back", reporter):
        server = place.server
        served = ModelOfServer(settings, server, place.model, reporter, timeout_s) if server is not None else None
        if plan.policy is None:
            return TakenBack(plan, _moved_away(plan, served))
        if served is None:
            write_policy(settings, place, plan.policy, reporter, timeout_s)
            return TakenBack(plan)
        refuse_other_changes(settings, place, reporter)
        with contextlib.ExitStack() as undo:
            undo.callback(served.as_before)
            served.send(versions=plan.policy.during, labels=plan.policy.labels_during)
            seconds = served.wait_until_loaded(plan.previous)
            write_policy(settings, place, plan.policy, reporter, timeout_s)
            undo.pop_all()
        return TakenBack(plan, seconds)


def _moved_away(plan: TakingBackPlan, served: ModelOfServer | None) -> float | None:
    """The version's directory gets a name that no server looks at, and its own again where the former does not load."""
    path = plan.place.versions().get(plan.current)
    if path is None:
        raise RequestError(
            f"Version {plan.current} is not in {plan.place.base} any more.",
            cause="somebody else has taken it back, or removed it, at the same time",
            cure="look what is there; the same command again would take the next one back",
        )
    fsutil.rename_directory(path, plan.away)
    if served is None:
        return None
    try:
        return served.wait_until_loaded(plan.previous)
    except BaseException:
        fsutil.rename_directory(plan.away, path)
        raise
