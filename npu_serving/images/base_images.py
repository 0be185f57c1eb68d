"""Base images by digest: the pins of docker/base-images.json, what they refuse, and renewing them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from npu_serving import fsutil
from npu_serving.console import Reporter
from npu_serving.documents import DocumentRefusal, Rule, read_document
from npu_serving.errors import FetchError, LockFileError, PinMismatchError, RequestError
from npu_serving.images.build_steps import local_image, pull
from npu_serving.images.docker_engine import connected
from npu_serving.settings import PROJECT_ROOT
from npu_serving.writers.dockerfile import checked_image_name, is_image_name

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image

PINS = PROJECT_ROOT / "docker" / "base-images.json"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ImageName = Annotated[str, Rule(check=lambda name: "" if is_image_name(name) else "is not the name of an image")]
_ImageDigest = Annotated[str, Rule(pattern=_DIGEST.pattern, expected="a digest, sha256: and 64 hexadecimal digits")]
_Pins = dict[_ImageName, _ImageDigest]


@dataclass(frozen=True)
class PinsResult:
    """The digests that registries have now, beside the pinned ones."""

    pins: Mapping[str, str]
    former: Mapping[str, str]
    dry_run: bool

    def to_json(self) -> dict[str, object]:
        """For `--json`."""
        return {"pins": dict(self.pins), "former": dict(self.former), "dry_run": self.dry_run}

    def text(self) -> str:
        """A line for each image."""
        verb = "would become" if self.dry_run else "is now"
        return "\n".join(
            f"{name} stays {digest}" if self.former.get(name) == digest else f"{name} {verb} {digest}"
            for name, digest in self.pins.items()
        )


def read_pins() -> dict[str, str]:
    """The digest for each name that is pinned; LockFileError for a file that isn't valid."""
    return read_document(
        PINS, _Pins, refusal=DocumentRefusal(error=LockFileError, cure="take it from version control again")
    )


def pinned_reference(name: str) -> str:
    """The name with the digest that is pinned for it; the name itself where none is."""
    digest = read_pins().get(name)
    return f"{name}@{digest}" if digest else name


def check_pin(name: str, image: Image) -> None:
    """PinMismatchError where this machine has another image under the name than the pinned one.

    An image that does not come from a registry (docker load, docker import) has no digest to compare; its id is part of
    the name of all that is made from it.
    """
    digest = read_pins().get(name)
    here = [str(reference).rpartition("@")[2] for reference in image.attrs.get("RepoDigests") or ()]
    if not digest or not here or digest in here:
        return
    raise PinMismatchError(
        f"{name} is {here[0]} on this machine, but {digest} is pinned.",
        cause="the tag was moved to a newer or older image in its registry",
        cure=f"docker rmi {name}, so that the pinned one is pulled; or use this one: --base-image {name}@{here[0]}; "
        "or pin what the registry has now: ./inv renew-base-images",
    )


def base_here(client: DockerClient, name: str) -> Image | None:
    """The base image, if this machine has it; PinMismatchError where it has another one under the name."""
    base = local_image(client, name)
    if base is not None:
        check_pin(name, base)
    return base


def pull_base(client: DockerClient, name: str, reporter: Reporter) -> None:
    """Pulls the base image by the digest that is pinned for it, and tags it with its name. Raises FetchError."""
    reference = pinned_reference(name)
    pull(client, reference, reporter)
    if reference != name:
        client.images.get(reference).tag(name)


def renew_base_images(name: str | None = None, *, dry_run: bool = False) -> PinsResult:
    """Asks the registries for the digests of the pinned names (and of `name`) and writes them down.

    Raises FetchError where a registry doesn't answer, RequestError for a name that can't be pinned; the file is then as
    it was.
    """
    if name is not None and "@" in name:
        raise RequestError(
            f"{name!r} already contains a digest, so there is nothing to pin.",
            cause="only a name without a digest can be pinned to the one that its registry has now",
            cure="leave out the part from the @ on; or use the name as it is with the other tasks: --base-image "
            "NAME@sha256:…",
        )
    former = read_pins()
    names = [*former, *([checked_image_name(name)] if name is not None and name not in former else [])]
    pins = {item: _digest_in_registry(item) for item in names}
    if not dry_run and pins != former:
        fsutil.write_file(PINS, json.dumps(pins, indent=2, sort_keys=True) + "\n")
    return PinsResult(pins, former, dry_run)


def _digest_in_registry(name: str) -> str:
    import docker

    with connected() as client:
        try:
            digest = str(client.images.get_registry_data(name).id)
        except docker.errors.APIError as error:
            raise _no_answer(name, str(error.explanation)) from error
    if not _DIGEST.fullmatch(digest):
        raise _no_answer(name, f"it sent {digest!r}")
    return digest


def _no_answer(name: str, reason: str) -> FetchError:
    return FetchError(
        f"Could not get the digest of {name} from its registry ({reason}).",
        cause="there is no network here, a login is needed, or the name is wrong",
        cure=f"try `docker pull {name}`, and run the same command again when that works; the pins are unchanged",
    )
