"""clean --images: removes the engine's containers, volumes and images that carry this project's labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from npu_serving.images.container import OWNER_LABEL, living_owner
from npu_serving.images.docker_engine import ROLE, connected

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container
    from docker.models.images import Image

OWN_NAMES = ("npu-serving-", "npu-serving:")
FINISHED = "runtime"
"""The role of an image of a finished server: like the builds in dist/, making it again takes long."""


@dataclass(frozen=True)
class Doomed:
    """Something that will be removed: what it is, and how."""

    what: str
    remove: Callable[[], object]


@dataclass(frozen=True)
class CleanImagesResult:
    """What was, or would be, removed, and what was kept, each with the reason."""

    removed: tuple[str, ...]
    kept: tuple[str, ...]
    dry_run: bool

    def to_json(self) -> dict[str, object]:
        """For `--json`."""
        return {"removed": list(self.removed), "kept": list(self.kept), "dry_run": self.dry_run}

    def text(self) -> str:
        """A line for each."""
        verb = "would be removed" if self.dry_run else "removed"
        lines = [f"{verb}: {what}" for what in self.removed] or ["Nothing to remove."]
        return "\n".join([*lines, *(f"kept: {what}" for what in self.kept)])


def clean_images(*, dry_run: bool, everything: bool = False, label: str = ROLE) -> CleanImagesResult:
    """Removes what carries the label: first containers, then volumes, then images; those of servers with `everything`.

    Labels are inherited, so one more thing has to hold: a container that runs is removed only where its owner, a run of
    this project, is dead; an image only loses the names that are ours. Raises MissingToolError.
    """
    import docker

    removed, kept = list[str](), list[str]()
    with connected() as client:
        for item in _doomed(client, label, everything, kept):
            try:
                if not dry_run:
                    item.remove()
                removed.append(item.what)
            except docker.errors.NotFound:
                continue  # went with something else
            except docker.errors.APIError as error:
                kept.append(f"{item.what}: {error.explanation}")
    return CleanImagesResult(tuple(removed), tuple(kept), dry_run)


def _doomed(client: DockerClient, label: str, everything: bool, kept: list[str]) -> Iterator[Doomed]:
    carrying: dict[str, Any] = {"label": label}
    for container in client.containers.list(all=True, filters=carrying, ignore_removed=True):
        what = f"container {container.name}"
        reason = _reason_to_keep(container)
        if reason:
            kept.append(f"{what}: {reason}")
        else:
            yield Doomed(what, partial(container.remove, force=True, v=True))
    for volume in client.volumes.list(filters=carrying):
        yield Doomed(f"volume {volume.name}", volume.remove)
    newest_first = sorted(client.images.list(filters=carrying), key=_created, reverse=True)
    for image in newest_first:
        if image.labels.get(label) == FINISHED and not everything:
            kept.append(f"image {[*image.tags, str(image.id)][0]}: it holds a finished server (--all removes it too)")
            continue
        strangers = [tag for tag in image.tags if not tag.startswith(OWN_NAMES)]
        if strangers:
            kept.append(f"image {strangers[0]}: it has a name that is not this project's")
        names = [tag for tag in image.tags if tag.startswith(OWN_NAMES)] if image.tags else [str(image.id)]
        for name in names:
            yield Doomed(f"image {name}", partial(client.images.remove, name))


def _created(image: Image) -> str:
    return str(image.attrs.get("Created", ""))


def _reason_to_keep(container: Container) -> str:
    if living_owner(container):  # one that is made and not yet started, or whose files are taken out, is in use as well
        return "it belongs to a run of this project that is still alive"
    if container.status not in ("running", "paused", "restarting"):
        return ""
    return (
        ""
        if OWNER_LABEL in container.labels
        else "it is running, and was not started by this project (docker stop it first)"
    )
