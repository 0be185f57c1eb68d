"""Writing the configurations of 10,000 models, beside protobuf's own text format of the same messages.

Half of the models share their options with the deployment; the others have one of ten sets of their own.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from npu_serving.deploy.deployment_file import read_deployment
from npu_serving.deploy.rendering import rendered_files
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
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "deployment.json"
        file.write_text(json.dumps(document()))
        deployment = read_deployment(file)
    files = rendered_files(deployment, Path("/etc/npu-serving"))
    messages = [
        read_message(files["models.config"].text, "ModelServerConfig"),
        *session_bundles(files["config.cfg"].text).values(),
    ]
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(ROUNDS):
        began = time.perf_counter()
        rendered_files(deployment, Path("/etc/npu-serving"))
        times["ours"].append(time.perf_counter() - began)
        began = time.perf_counter()
        for message in messages:
            text_format.MessageToString(message)
        times["theirs"].append(time.perf_counter() - began)
    ours, theirs = (statistics.median(found) for found in times.values())
    print(f"| all files of a deployment | {ours:.2f} s | text_format | {theirs:.2f} s | {ours / theirs:.2f} |")


if __name__ == "__main__":
    main()
