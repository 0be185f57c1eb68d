"""What a recorded file holds, for a person: models, rates, and the shapes of the inputs, by which gears are chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving.asking.recorded_file import Recording, RecordingHeader, read_recording
from npu_serving.asking.recorded_requests import NotUnderstoodError, asked_by
from npu_serving.client.model_types import DEFAULT_SIGNATURE
from npu_serving.console import amount_text, duration_text, table
from npu_serving.shown_text import in_a_line

MOST_INTERVALS = 20
MOST_SHAPES = 50
"""Of an input, that are listed by themselves: the most frequent ones."""


@dataclass(frozen=True)
class SeenSignature:
    """The requests to one signature of a model, and how often each shape of each input came."""

    model: str
    signature: str
    method: str
    api: str
    requests: int
    shapes: Mapping[str, tuple[tuple[str, int], ...]]
    """By the input's name: the shapes, the most frequent one first."""

    def to_json(self) -> dict[str, object]:
        """For `--json`."""
        shapes = {
            name: [{"shape": shape, "requests": count} for shape, count in found] for name, found in self.shapes.items()
        }
        return {**vars(self), "shapes": shapes}


@dataclass(frozen=True)
class ShownRecording:
    """A recorded file as show-recording shows it. Times in seconds."""

    path: Path
    header: RecordingHeader
    requests: int
    size_bytes: int
    cut_bytes: int
    seconds: float
    models: tuple[SeenSignature, ...]
    interval_s: float
    counts: tuple[int, ...]
    """Of the requests, for each interval of time."""
    not_understood: int = 0
    versions: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """All of it."""
        return {
            "file": str(self.path),
            "begun": self.header.begun,
            "target": self.header.target,
            "share": self.header.share,
            "redacted": list(self.header.redacted),
            "requests": self.requests,
            "bytes": self.size_bytes,
            "cut_bytes": self.cut_bytes,
            "seconds": round(self.seconds, 6),
            "models": [model.to_json() for model in self.models],
            "interval_s": round(self.interval_s, 6),
            "counts": list(self.counts),
            "not_understood": self.not_understood,
            "versions": dict(self.versions),
        }

    def text(self) -> str:
        """What it was recorded from, how many requests when, and the shapes."""
        head = self.header
        many = f"{self.requests} request{'' if self.requests == 1 else 's'}"
        share = "" if head.share == 1 else f", {100 * head.share:g}% of those that came"
        lines = [
            f"{self.path}: {many} in {duration_text(self.seconds)} ({amount_text(self.size_bytes, 'bytes')}){share}",
            f"recorded {head.begun} from {head.target}"
            + (f", without the values of {', '.join(map(in_a_line, head.redacted))}" if head.redacted else ""),
        ]
        if self.cut_bytes:
            lines.append(
                f"{amount_text(self.cut_bytes, 'bytes')} at its end are of a request that was not written whole, and "
                "are passed over"
            )
        if self.not_understood:
            lines.append(f"{self.not_understood} of the requests are not what their path says; see their bytes")
        rows = [
            (in_a_line(of.model), of.signature, of.api, of.method, in_a_line(name), shape, str(count))
            for of in self.models
            for name, found in of.shapes.items()
            for shape, count in found
        ]
        if rows:
            header = ("MODEL", "SIGNATURE", "API", "METHOD", "INPUT", "SHAPE", "REQUESTS")
            lines += ["", table(rows, header=header)]
        if self.requests > 1 and self.seconds:
            rates = [count / self.interval_s for count in self.counts]
            lines += ["", f"{self.requests / self.seconds:.1f} requests a second; by time:"]
            most = max(self.counts)
            times: list[tuple[str, ...]] = [
                (f"{at * self.interval_s:.3g} s", f"{rate:.1f}/s", "#" * round(30 * count / most))
                for at, (rate, count) in enumerate(zip(rates, self.counts))
            ]
            lines.append(table(times))
        return "\n".join(lines)


def show_recording(path: Path) -> ShownRecording:
    """What the file holds. RequestError for a file of another kind, or damaged."""
    recording = read_recording(path)
    arrivals = recording.arrivals_s()
    seconds = arrivals[-1] if arrivals else 0.0
    intervals = min(MOST_INTERVALS, len(arrivals))
    interval_s = seconds / intervals if seconds else 0.0
    counts = Counter(min(int(at / interval_s), intervals - 1) if interval_s else 0 for at in arrivals)
    models, versions, strange = _by_model(recording)
    return ShownRecording(
        path=path,
        header=recording.header,
        requests=len(arrivals),
        size_bytes=sum(entry.size_bytes for entry in recording.entries),
        cut_bytes=recording.cut_bytes,
        seconds=seconds,
        models=models,
        interval_s=interval_s,
        counts=tuple(counts[at] for at in range(max(counts, default=-1) + 1)),
        not_understood=strange,
        versions=versions,
    )


def _by_model(recording: Recording) -> tuple[tuple[SeenSignature, ...], dict[str, int], int]:
    requests: Counter[tuple[str, str, str, str]] = Counter()
    shapes: dict[tuple[str, str, str, str], dict[str, Counter[str]]] = {}
    versions: Counter[str] = Counter()
    strange = 0
    for request in recording.requests():
        try:
            asked = asked_by(request)
        except NotUnderstoodError:
            strange += 1
            continue
        spec = asked.spec
        key = (spec.name, spec.signature_name or DEFAULT_SIGNATURE, asked.method, request.api)
        requests[key] += 1
        versions[spec.label or (str(spec.version) if spec.version is not None else "newest")] += 1
        for name, seen in asked.inputs.items():
            shapes.setdefault(key, {}).setdefault(name, Counter())[seen.text()] += 1
    found = tuple(
        SeenSignature(*key, requests[key], {name: _most(of) for name, of in sorted(shapes.get(key, {}).items())})
        for key in sorted(requests)
    )
    return found, dict(versions), strange


def _most(shapes: Counter[str]) -> tuple[tuple[str, int], ...]:
    listed = shapes.most_common(MOST_SHAPES)
    others = sum(shapes.values()) - sum(count for _, count in listed) if len(shapes) > MOST_SHAPES else 0
    return (*listed, *([(f"{len(shapes) - MOST_SHAPES} other shapes", others)] if others else []))
