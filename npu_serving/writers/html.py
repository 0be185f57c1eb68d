"""Values in a page of HTML: its text and attributes, and the data that its script reads."""

from __future__ import annotations

import html
import json
import re

_BEYOND = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def html_text(value: object) -> str:
    """The value as text, or within the quotes of an attribute; what HTML has no place for is shown as U+FFFD."""
    return html.escape(_BEYOND.sub("\ufffd", str(value)))


def chart_text(value: object) -> str:
    """The value as a text of a chart: Plotly reads <b>, <a> and entities in it, and nothing of them is to be meant."""
    return html.escape(_BEYOND.sub("\ufffd", str(value)), quote=False)


def script_json(value: object) -> str:
    """JSON for `<script type="application/json">`: in ASCII, and nothing in it ends the element or begins a comment."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
