"""Reading a file of 10,000 models into typed dataclasses, beside plain loads of the same text, which check nothing.

The last row is a file with a mistake in every tenth model, all of them reported with line and column.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import yaml
from _in_turn import medians

from npu_serving.documents import JSON, Rule, parse_document
from npu_serving.errors import DocumentError

MODELS = 10_000
ROUNDS = 3


@dataclass(frozen=True)
class Batching:
    """How requests are put together."""

    max_batch_size: Annotated[int, Rule(minimum=1)]
    timeout_us: int = 0


@dataclass(frozen=True)
class Model:
    """One of the models."""

    name: Annotated[str, Rule(pattern=r"[\w.-]+")]
    base_path: str
    device: Annotated[int, Rule(minimum=0, maximum=7)] = 0
    versions: tuple[int, ...] = ()
    batching: Batching | None = None
    precision: Literal["origin", "mixed"] = "origin"
    warm_up: bool = False
    labels: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Deployment:
    """The whole file."""

    models: tuple[Model, ...]


def document() -> dict[str, object]:
    return {
        "models": [
            {
                "name": f"model-{number}",
                "base_path": f"/srv/models/model-{number}",
                "device": number % 8,
                "versions": [number, number + 1],
                "batching": {"max_batch_size": 32, "timeout_us": 1000},
                "precision": "mixed",
                "warm_up": True,
                "labels": {"stable": number, "canary": number + 1},
            }
            for number in range(MODELS)
        ]
    }


def read(text: str, syntax: str = "yaml") -> None:
    assert len(parse_document(text, Deployment, where="bench", syntax=syntax).models) == MODELS


def refuse(text: str) -> None:
    try:
        read(text)
    except DocumentError as error:
        told = str(error.details["mistakes"]).count("must be one of")
        assert told == MODELS // 10, told


def main() -> None:
    text = yaml.dump(document(), Dumper=yaml.CSafeDumper)
    wrong = re.sub(r"(name: model-[0-9]*0\n  precision:) mixed", r"\1 mixt", text)
    as_json = json.dumps(document())
    found = medians(
        {
            "read_document, YAML": lambda: read(text),
            "read_document, JSON": lambda: read(as_json, JSON),
            "yaml.safe_load": lambda: yaml.safe_load(text),
            "yaml.CSafeLoader": lambda: yaml.load(text, Loader=yaml.CSafeLoader),
            "json.loads": lambda: json.loads(as_json),
        },
        ROUNDS,
    )
    rows = [("YAML", "read_document, YAML", rival) for rival in ("yaml.safe_load", "yaml.CSafeLoader")]
    for what, ours, rival in [*rows, ("JSON", "read_document, JSON", "json.loads")]:
        ratio = found[ours] / found[rival]
        print(f"| {what} | {found[ours]:.2f} s | {rival} | {found[rival]:.2f} s | {ratio:.2f} |")
    told = medians({"told": lambda: refuse(wrong)}, ROUNDS)["told"]
    plain = found["yaml.safe_load"]
    print(f"| YAML with {MODELS // 10} mistakes | {told:.2f} s | yaml.safe_load | {plain:.2f} s | {told / plain:.2f} |")


if __name__ == "__main__":
    main()
