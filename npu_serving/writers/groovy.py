"""Values in Groovy: Jenkinsfiles."""

from __future__ import annotations


def groovy_string(value: str) -> str:
    """A literal in single quotes, in which nothing is filled in."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
