"""Variables made constants by the user's TensorFlow 1.15, in its own process: for what our reading can't freeze."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from npu_serving import process
from npu_serving.console import Reporter
from npu_serving.errors import MissingToolError, ModelFileError
from npu_serving.settings import PROJECT_ROOT

SCRIPT = PROJECT_ROOT / "templates" / "freeze_in_tensorflow.py"
RELEASE = "1.15"


def freeze_in_tensorflow(
    python: Path, version_directory: Path, tags: Sequence[str], nodes: Sequence[str], output: Path, reporter: Reporter
) -> str:
    """Writes the frozen graph that these nodes need to `output`, and returns the release of TensorFlow.

    MissingToolError for a Python without TensorFlow 1.15, ModelFileError for what TensorFlow can't freeze.
    """
    request = json.dumps({"tags": list(tags), "nodes": list(nodes)})
    with reporter.progress(f"TensorFlow of {python} freezes the variables"):
        finished = process.run(
            [python, SCRIPT, version_directory, output, request], env=process.own_environment(), check=False
        )
    answer = _answer(finished.stdout)
    if finished.returncode != 0 or answer is None:
        last = next((line for line in reversed(finished.output.splitlines()) if line.strip()), "it prints nothing")
        raise MissingToolError(
            f"{python} did not run TensorFlow: {last.strip()[:300]}",
            cause="it is not a Python 3, or its TensorFlow does not start here",
            cure=f"--tensorflow-python PYTHON, a Python 3.7 with: pip install tensorflow=={RELEASE}.0",
        )
    version, error = answer
    if not version.startswith(f"{RELEASE}."):
        raise MissingToolError(
            f"{python} has {f'TensorFlow {version}' if version else 'no TensorFlow'}, and {RELEASE} is needed.",
            cause=error or "the server's graphs are those of TensorFlow 1.15, with which the adapter is built",
            cure=f"--tensorflow-python PYTHON, a Python 3.7 with: pip install tensorflow=={RELEASE}.0",
        )
    if error:
        raise ModelFileError(
            f"TensorFlow {version} could not freeze {version_directory}: {error[:500]}",
            cause="the model is not one that it can load, or has tables or resources that can't be constants",
            cure="./inv check-model shows what is wrong with it; choose a part without them by --new-input-nodes",
        )
    return version


def _answer(stdout: str) -> tuple[str, str] | None:
    lines = [line for line in stdout.splitlines() if line.startswith("{")]
    try:
        found = json.loads(lines[-1])
        return str(found["version"]), str(found["error"])
    except (IndexError, ValueError, KeyError, TypeError):
        return None
