"""Values in CMake's language: CMakeLists.txt."""

from __future__ import annotations

import re


def cmake_string(value: str) -> str:
    r"""A quoted CMake argument; nothing in it is expanded.

    A semicolon stays as it is: within quotes `\;` would stand for both characters (cmake-language(7)).
    """
    return '"' + re.sub(r'([\\"$])', r"\\\1", value) + '"'
