"""A page of metrics in Prometheus' text format: fetched within bounds, and read."""

from __future__ import annotations

import http.client
import math
import re
import ssl
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass

TIMEOUT_S = 2.0
_LONGEST = 4 << 20  # bytes
_LINE = re.compile(r"(?P<name>[A-Za-z_:][\w:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)(?:\s+-?\d+)?\s*")
_LABEL = re.compile(r'\s*([A-Za-z_]\w*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*,?')
_ESCAPED = re.compile(r"\\(.)")
_NOT_NUMBERS = {"+Inf": math.inf, "-Inf": -math.inf, "Inf": math.inf, "NaN": math.nan}


@dataclass(frozen=True)
class MetricValue:
    """One value of a page."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float

    @property
    def series(self) -> str:
        """Its name and labels, as the page has them."""
        labels = ",".join(f'{name}="{value}"' for name, value in self.labels)
        return f"{self.name}{{{labels}}}" if labels else self.name

    def label(self, name: str) -> str:
        """The value of a label; "" without it."""
        return dict(self.labels).get(name, "")


def read_metrics(text: str) -> Iterator[MetricValue]:
    """The values of a page that are numbers. What is not a line of the format is passed over, as Prometheus' own
    exporters differ in what they print besides.
    """
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        value = _number(found["value"]) if found is not None else math.nan
        if found is None or not math.isfinite(value):
            continue
        labels = tuple((name, _unescaped(text)) for name, text in _LABEL.findall(found["labels"] or ""))
        yield MetricValue(found["name"], labels, value)


def fetch_metrics(url: str) -> tuple[MetricValue, ...]:
    """The values of the page at that URL. Raises OSError or ValueError, with a text, where there is no such page."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it is not the URL of a page")
    connection = (
        http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)
        if parts.scheme == "http"
        else http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=TIMEOUT_S, context=ssl.create_default_context()
        )
    )
    try:
        path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        connection.request("GET", path, headers={"Accept": "text/plain"})
        answer = connection.getresponse()
        body = answer.read(_LONGEST)
    except http.client.HTTPException as error:
        raise ValueError(f"what answers does not speak HTTP ({type(error).__name__})") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise ValueError(f"HTTP status {answer.status}")
    values = tuple(read_metrics(body.decode(errors="replace")))
    if not values and b"# " not in body:
        raise ValueError("it is not a page of metrics")
    return values


def _number(text: str) -> float:
    try:
        return _NOT_NUMBERS[text] if text in _NOT_NUMBERS else float(text)
    except ValueError:
        return math.nan


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: "\n" if found[1] == "n" else found[1], text)
