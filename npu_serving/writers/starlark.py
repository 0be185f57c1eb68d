"""Values in Starlark: BUILD and .bzl files."""

from __future__ import annotations

import json

from npu_serving.errors import UnwritableValueError


def starlark_string(value: str) -> str:
    """A Starlark string literal; refuses characters that Bazel 0.24.1 would not read back as they are."""
    if not value.isascii() or not value.isprintable():
        raise UnwritableValueError(
            f"{value!r} can't be written into a BUILD file.", cure="use a name of ASCII characters"
        )
    return json.dumps(value)
