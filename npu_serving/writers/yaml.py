"""Values in YAML."""

from __future__ import annotations

import json


def yaml_string(value: str) -> str:
    """A double-quoted scalar; JSON's strings, all in ASCII, are such (YAML 1.2, section 5.7)."""
    return json.dumps(value)
