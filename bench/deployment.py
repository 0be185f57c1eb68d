"""Reading a deployment of 10,000 models and writing its configurations, beside PyYAML's events and protobuf's printer.

What is read is checked throughout; the rivals check nothing, and print the same messages.
Half of the models share their options with the deployment; the others have one of ten sets of their own.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from _in_turn import medians
from google.protobuf import text_format

from npu_serving.deploy.deployment_file import read_deployment
from npu_serving.deploy.rendering import rendered_files
from npu_serving.documents.syntax import YAML, parse
from npu_serving.settings import PROJECT_ROOT

sys.path.insert(0, str(PROJECT_ROOT / "tests" / "support"))
from serving_messages import read_message, session_bundles

MODELS = 10_000
ROUNDS = 5


def document() -> dict[str, Any]:
    models = []
    for number in range(MODELS):
        own = {"npu": {"graph_memory_max_size": str(number % 10)}} if number % 2 else {}
        labels = {"stable": 1, "canary": 2}
        models.append(
            {"name": f"m{number}", "base_path": f"/models/m{number}", "versions": [1, 2], "labels": labels, **own}
        )
    return {"version": 1, "models": models, "npu": {"mix_compile_mode": True}}


def main() -> None:
    place = Path("/etc/npu-serving")
    text = yaml.dump(document(), Dumper=yaml.CSafeDumper, sort_keys=False)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "deployment.yaml"
        file.write_text(text)
        deployment = read_deployment(file)
        files = rendered_files(deployment, place)
        messages = [
            read_message(files["models.config"].text, "ModelServerConfig"),
            *session_bundles(files["config.cfg"].text).values(),
        ]
        found = medians(
            {
                "read": lambda: parse(text, YAML),
                "checked": lambda: read_deployment(file),
                "written": lambda: rendered_files(deployment, place),
                "events": lambda: sum(1 for _ in yaml.parse(text, Loader=yaml.CSafeLoader)),
                "printed": lambda: [text_format.MessageToString(message) for message in messages],
            },
            ROUNDS,
        )
    rows = [
        ("the YAML as plain values", found["read"], "PyYAML's C events", found["events"]),
        ("the YAML read and checked", found["checked"], "PyYAML's C events", found["events"]),
        ("all files of a deployment", found["written"], "text_format", found["printed"]),
        (
            "from the YAML to all files",
            found["checked"] + found["written"],
            "events and text_format",
            found["events"] + found["printed"],
        ),
    ]
    for what, ours, rival, theirs in rows:
        print(f"| {what} | {ours:.2f} s | {rival} | {theirs:.2f} s | {ours / theirs:.2f} |")


if __name__ == "__main__":
    main()
