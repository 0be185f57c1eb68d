"""Values in Dockerfiles, which have no quoting: each is checked against a grammar, or refused."""

from __future__ import annotations

import re

from npu_serving.errors import RequestError

# The grammar of an image's name: https://pkg.go.dev/github.com/distribution/reference. A Dockerfile has no quoting.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_DOMAIN = r"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]+)?/)?"
_IMAGE_NAME = re.compile(
    rf"{_DOMAIN}{_COMPONENT}(?:/{_COMPONENT})*(?::\w[\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?", re.A
)
_LONGEST_NAME = 512


def is_image_name(name: str) -> bool:
    """Whether an image can have that name."""
    return len(name) <= _LONGEST_NAME and _IMAGE_NAME.fullmatch(name) is not None


def checked_image_name(name: str) -> str:
    """The name, if it is an image's; RequestError otherwise."""
    if not is_image_name(name):
        raise RequestError(
            f"{name!r} is not a valid image name.",
            cause="an image name is lower case, with / between its parts and the tag after a colon",
            cure="use a name such as ubuntu:18.04",
        )
    return name
