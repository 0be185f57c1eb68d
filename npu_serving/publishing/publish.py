"""publish-model: a version examined, copied to where a server looks for it, and served before a label moves to it."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving import fsutil
from npu_serving.console import Reporter, amount_text, duration_text
from npu_serving.errors import ActionNeeded, NpuServingError, RequestError, StateLockedError
from npu_serving.findings import PROBLEM, WARNING, Finding
from npu_serving.model_checks.version_check import check_version
from npu_serving.models.layout import LARGEST_VERSION
from npu_serving.publishing.signature_changes import signature_changes
from npu_serving.publishing.version_files import VersionFiles, copy_files, differing_file, version_files
from npu_serving.state_lock import state_lock
from npu_serving.writers.shell import command_line

if TYPE_CHECKING:  # where no server takes part, little of the package is needed
    from npu_serving.models.saved_model import MetaGraph
    from npu_serving.publishing.destination import Destination
    from npu_serving.publishing.new_weights import NewWeights
    from npu_serving.publishing.version_policy import PolicyChange
    from npu_serving.settings import Settings

TEMPORARY = "publishing"
"""What a version is called until all of it is there, behind a dot: no name that a server takes for a number."""
MEMORY = "memory"
_TAGS = ("serve",)


@dataclass(frozen=True)
class PublicationWish:
    """What is asked for, besides what is published and where to."""

    version: int | None = None
    label: str = ""
    wait: bool = False
    unload_first: bool = False
    timeout_s: float = 600.0

    @property
    def needs_server(self) -> bool:
        """Whether a server that runs has to take part."""
        return bool(self.wait or self.label or self.unload_first)


@dataclass(frozen=True)
class PublicationPlan:
    """What would be done: nothing, where the version that is there `has_it` already."""

    place: Destination
    version: int
    source: str
    files: VersionFiles
    wanted: PublicationWish
    policy: PolicyChange | None = None
    findings: tuple[Finding, ...] = ()
    has_it: bool = False
    weights: NewWeights | None = None

    @property
    def path(self) -> Path:
        """The directory of the version."""
        return self.place.base / str(self.version)

    @property
    def does_nothing(self) -> bool:
        """Whether all is as it is to be."""
        return self.has_it and not self.waits

    @property
    def waits(self) -> bool:
        """Whether the server is looked at until it has loaded the version."""
        written = self.policy is not None and self.policy.is_written
        return self.place.server is not None and (self.wanted.needs_server or written)

    def steps(self) -> list[str]:
        """What is done, one after the other."""
        count = len(self.files.sizes)
        size = f"{count} {'file' if count == 1 else 'files'}, {amount_text(self.files.total_bytes, 'bytes')}"
        found = [] if self.has_it else [f"copy {self.source} ({size}) to {self.path}"]
        found += [self.weights.text()] if self.weights is not None else []
        if self.waits and self.place.server is not None:
            name = self.place.server.name
            if self.wanted.unload_first:
                found.append(f"have server {name} unload what it has of {self.place.model} before that name is given")
            found.append(f"wait until server {name} has loaded it, and ask it the golden requests")
        if self.policy is not None and self.policy.is_written:
            found += [f"write into {self.place.file}: {line}" for line in self.policy.lines()]
        return found

    def to_json(self) -> dict[str, object]:
        """As `--json` shows it."""
        return {
            "base": str(self.place.base),
            "model": self.place.model or None,
            "version": self.version,
            "path": str(self.path),
            "source": self.source,
            "size_bytes": self.files.total_bytes,
            "has_it": self.has_it,
            "weights": self.weights.to_json() if self.weights is not None else None,
            "findings": [_finding_json(each) for each in self.findings],
            "steps": [] if self.does_nothing else self.steps(),
        }

    def text(self) -> str:
        """For a person."""
        if self.does_nothing:
            return _nothing_to_do(self)
        head = f"Would {'serve' if self.has_it else 'publish'} version {self.version}:"
        return "\n".join([head, *(f"  {step}" for step in self.steps()), *_said(self)])


@dataclass(frozen=True)
class Published:
    """What was done. `loaded_s` is None where no server was waited for; `silent_s` is how long nothing answered."""

    plan: PublicationPlan
    copied_s: float = 0.0
    loaded_s: float | None = None
    silent_s: float | None = None
    answered: str = ""

    def to_json(self) -> dict[str, object]:
        """As `--json` shows it."""
        return {
            **self.plan.to_json(),
            "changed": not self.plan.does_nothing,
            "copied_seconds": self.copied_s,
            "loaded_seconds": self.loaded_s,
            "silent_seconds": self.silent_s,
            "answered": self.answered or None,
            "label": self.plan.wanted.label or None,
        }

    def text(self) -> str:
        """For a person, with what to type next."""
        plan = self.plan
        if plan.does_nothing:
            return _nothing_to_do(plan)
        size = amount_text(plan.files.total_bytes, "bytes")
        how = "it was there already" if plan.has_it else f"{size} in {duration_text(self.copied_s)}"
        lines = [*_said(plan), f"Version {plan.version} is in {plan.path} ({how})."]
        if plan.weights is not None:
            lines.append(f"{plan.weights.text()}.")
        place = plan.place
        if self.loaded_s is not None and place.server is not None:
            lines.append(
                f"Server {place.server.name} has loaded it after {duration_text(self.loaded_s)}. {self.answered}"
            )
        if self.silent_s is not None:
            lines.append(f"For {duration_text(self.silent_s)} nothing answered for {place.model}.")
        if plan.policy is not None and plan.policy.is_written:
            lines.append(f"{place.file}: {'; '.join(plan.policy.lines())}.")
        lines.append(f"Next: {self._next()}")
        return "\n".join(lines)

    def _next(self) -> str:
        place, wanted = self.plan.place, self.plan.wanted
        back = command_line([*back_words(place), *(["--label", wanted.label] if wanted.label else [])])
        if self.loaded_s is not None:
            return f"{back} has the version before it served again"
        if place.server is not None:
            return f"./inv status shows when it is loaded; {back} takes it back"
        if place.file is not None:
            return command_line(["./inv", "serve", "--deployment", place.file])
        if len(place.versions()) == 1:
            return command_line(["./inv", "serve", "--model-base-path", place.base])
        return f"{back} takes it back; a server that looks into {place.base} loads it by itself"


def back_words(place: Destination) -> list[str]:
    """The command that takes the last version back."""
    if place.file is not None:
        return ["./inv", "publish-model", "--back", "--deployment", str(place.file), "--model", place.model]
    if place.server is not None:
        return ["./inv", "publish-model", "--back", "--server", place.server.name, "--model", place.model]
    return ["./inv", "publish-model", "--back", "--to", str(place.base)]


def plan_publication(
    directory: Path, source: str, place: Destination, wanted: PublicationWish, weights: NewWeights | None = None
) -> PublicationPlan:
    """What is to be done to publish that directory, with `weights` in place of its own; `source` is what it is called.

    RequestError for a version that no server would load, with every problem; for a number that has other contents; for
    a label where no server runs that could show that it is right.
    """
    fsutil.refuse_unwritable(place.base)
    files = version_files(directory)
    if directory in (place.base, *place.base.parents):
        raise RequestError(
            f"{place.base} is within {directory}, which is to be published.",
            cause="a version can't contain its own copy",
            cure="give another directory with --to",
        )
    there = place.versions()
    version = wanted.version if wanted.version is not None else place.next_version()
    if version > LARGEST_VERSION:
        raise RequestError(
            f"No version can be {version}.",
            cause="a server reads numbers of 64 bits",
            cure=f"give --version a number up to {LARGEST_VERSION} that is free",
        )
    same = wanted.version if wanted.version is not None else max(there, default=None)
    if weights is None and same in there and not differing_file(files, version_files(there[same])):
        refuse_without_server(place, wanted)
        policy = policy_of(place, same, wanted, there) if wanted.needs_server else None
        return PublicationPlan(place, same, source, files, wanted, policy, has_it=True)
    if version in there:
        free = place.next_version()
        raise RequestError(
            f"{there[version]} has other contents, and a server does not load a version again that it has.",
            cause="a new model needs a new number",
            cure=f"leave out --version, which makes it {free}, or give --version {free}",
        )
    refuse_without_server(place, wanted)
    fsutil.check_space(place.base, files.total_bytes, what="The files of the version", instead="give another --to")
    checked = check_version(directory, _tags(place))
    problems = [each for each in checked.findings if each.severity == PROBLEM]
    if problems:
        raise unfit(source, problems)
    findings = [each for each in checked.findings if each.severity == WARNING]
    findings += _changes(checked.graph, there, place, wanted)
    findings += _memory(files.total_bytes, place, wanted)
    policy = policy_of(place, version, wanted, there)
    return PublicationPlan(place, version, source, files, wanted, policy, tuple(findings), weights=weights)


def policy_of(
    place: Destination, version: int, wanted: PublicationWish, there: Mapping[int, Path]
) -> PolicyChange | None:
    """What the deployment has to say for the version; None where there is no deployment."""
    deployed = place.deployed
    if deployed is None:
        return None
    from npu_serving.publishing.version_policy import with_new_version

    return with_new_version(deployed, version, there, label=wanted.label, unload_first=wanted.unload_first)


def refuse_without_server(place: Destination, wanted: PublicationWish) -> None:
    """ActionNeeded where what is wanted needs a server and none runs, RequestError where that server can't do it."""
    if not wanted.needs_server:
        return
    flag = "--label" if wanted.label else "--unload-first" if wanted.unload_first else "--wait"
    if place.server is None and place.file is None:
        raise RequestError(
            f"{flag} needs to know which server loads the model.",
            cause="a directory alone does not say who looks into it",
            cure="give --deployment FILE or --server PORT in place of --to",
        )
    if place.server is None:
        raise ActionNeeded(
            f"No server by {place.file} runs here, so {flag} can't be done.",
            cause="whether a version loads only a server shows",
            cure=command_line(["./inv", "serve", "--deployment", place.file or "", "--detach"]),
        )
    if place.file is None and (wanted.label or wanted.unload_first):
        raise RequestError(
            f"{flag} needs a server of a deployment, and {place.server.name} was started by flags.",
            cause="labels and single versions stand in a list of models, which its deployment has",
            cure=f"./inv init-deployment --from-server {place.server.name}, then ./inv serve --deployment FILE",
        )


def publish(settings: Settings, plan: PublicationPlan, reporter: Reporter) -> Published:
    """Does it. Whatever fails after the version has got its name has it taken back, and the former one served.

    Raises what the steps raise: DiskFullError, ServerError with the cause where the server can't load it.
    """
    if plan.does_nothing:
        return Published(plan)
    place = plan.place
    with alone_at(settings, place, "publish-model", reporter):
        if place.server is None or not plan.waits:
            return _placed(plan, settings, reporter)
        from npu_serving.publishing.beside_server import publish_beside_server

        return publish_beside_server(settings, plan, reporter)


@contextlib.contextmanager
def alone_at(settings: Settings, place: Destination, task: str, reporter: Reporter) -> Iterator[None]:
    """Keeps others from publishing there, and from changing the list of its server.

    StateLockedError names who publishes the same model; who changes the list for another one is waited for.
    """
    name = hashlib.sha256(str(place.base).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    doing = f"{task}, {place.base}"
    with contextlib.ExitStack() as held:
        held.enter_context(state_lock(settings.build_root / "publishing" / name, doing=doing))
        if place.server is not None:
            from npu_serving.status.reloading import list_held

            try:
                held.enter_context(list_held(settings, place.server, doing=doing))
            except StateLockedError as error:
                reporter.note(f"Waiting: {error.what}")
                held.enter_context(list_held(settings, place.server, doing=doing, wait=True))
        yield


def _placed(plan: PublicationPlan, settings: Settings, reporter: Reporter) -> Published:
    """The files put there, where no server is waited for."""
    begun = time.monotonic()
    with put(plan, reporter):
        pass
    seconds = time.monotonic() - begun
    if plan.policy is not None and plan.policy.is_written:
        from npu_serving.publishing.deployed_policy import write_policy

        with taken_back_on_failure(plan.path):
            write_policy(settings, plan.place, plan.policy, reporter, plan.wanted.timeout_s)
    return Published(plan, seconds)


@contextlib.contextmanager
def put(plan: PublicationPlan, reporter: Reporter) -> Iterator[None]:
    """Has the version's files there, without their name while the block runs, and with it afterwards."""
    with fsutil.added_directory(plan.path, temporary_name=TEMPORARY) as target:
        if plan.weights is not None:
            plan.weights.fill(plan.files, target, reporter)
        else:
            copy_files(plan.files, target, reporter)
        yield


@contextlib.contextmanager
def taken_back_on_failure(path: Path) -> Iterator[None]:
    """Removes the version that has just been put there, whatever ends the block early: its source is still there."""
    try:
        yield
    except BaseException as error:
        away = path.with_name(f".{TEMPORARY}.failed.{path.name}")
        with contextlib.suppress(OSError):
            path.rename(away)  # at once: a server may look at any moment
        fsutil.remove(away)
        if isinstance(error, NpuServingError):
            error.what += f"\nVersion {path.name} was taken away again; what was served before goes on to be served."
        raise


def unfit(source: str, problems: list[Finding]) -> RequestError:
    """The error for a version that no server would load, or whose requests would fail."""
    lines = "\n".join(f"  {each.what}" + (f"\n    {each.cure}" if each.cure else "") for each in problems)
    return RequestError(
        f"{source} is not fit to be published:\n{lines}",
        cause="a server would not load it, or its requests would fail",
        cure=problems[0].cure or "export the model again",
    )


def _tags(place: Destination) -> tuple[str, ...]:
    return place.deployment.server.saved_model_tags if place.deployment is not None else _TAGS


def _changes(
    graph: MetaGraph | None, there: Mapping[int, Path], place: Destination, wanted: PublicationWish
) -> Iterator[Finding]:
    """What clients of the version that is served now would notice."""
    deployed = place.deployed
    labelled = deployed.labels.get(wanted.label) if deployed is not None and wanted.label else None
    former = labelled if labelled in there else max(there, default=None)
    if graph is None or former is None:
        return
    served = check_version(there[former], _tags(place), warm_up=False).graph
    if served is not None:
        yield from signature_changes(served, graph, former)


def _memory(size_bytes: int, place: Destination, wanted: PublicationWish) -> Iterator[Finding]:
    """Whether the version would fit beside the one that is served until it is loaded."""
    if place.server is None or wanted.unload_first:
        return
    from npu_serving.checking.memory_forecast import available_bytes

    available = available_bytes()
    if available is None or size_bytes <= available:
        return
    sizes = amount_text(size_bytes, "bytes"), amount_text(available, "bytes")
    yield Finding(
        f"The version has {sizes[0]} of files, and {sizes[1]} of memory are available beside the former one.",
        "give --unload-first, or stop the server before and start it afterwards",
        WARNING,
        MEMORY,
    )


def _finding_json(finding: Finding) -> dict[str, object]:
    return {
        "kind": finding.kind,
        "severity": finding.severity,
        "what": finding.what,
        "cure": finding.cure,
        "where": finding.where,
    }


def _said(plan: PublicationPlan) -> list[str]:
    return [f"Warning: {each.what}" + (f"\n  Next: {each.cure}" if each.cure else "") for each in plan.findings]


def _nothing_to_do(plan: PublicationPlan) -> str:
    text = f"{plan.path} has these very contents already: nothing to do."
    if plan.wanted.version is None:
        text += f" --version {plan.place.next_version()} publishes them once more."
    return text
