"""The commands of docs/models.md, one after the other, in one directory with files that TensorFlow 1.15.0 made.

The server runs them in TensorFlow 1.15.0 (tests/support/tensorflow_model_server.py); ATC and AOE are stand-ins.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cann_trees import OPERATOR_LIST, put
from om_compilers import make_cann_with_compilers
from recordings import of_rest, recorded
from serving_site import ServingSite
from tensorflow_server import PYTHON, SUPPORT, made_by_tensorflow

from npu_serving.load.kept_runs import list_kept_runs
from npu_serving.settings import PROJECT_ROOT

PAGE = PROJECT_ROOT / "docs/models.md"
SHORTER = ("--window", "0.3s", "--warm-up", "0.1s", "--max-windows", "3")
ON_THE_NPU = ("MatMul", "Softmax", "Identity")  # what the operators' list of the stand-in for CANN has
pytestmark = pytest.mark.skipif(not PYTHON, reason="NPU_SERVING_TENSORFLOW_PYTHON names no Python with TensorFlow 1.15")


def commands() -> list[str]:
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert all(line.startswith("$ ./inv ") for line in lines)
    return [line.removeprefix("$ ./inv ") for line in lines]


class Engineer(ServingSite):
    """Types the page's commands in a directory of their own."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        program = self.artifact / "bin" / "tensorflow_model_server"
        words = f'env -u PYTHONPATH TF_CPP_MIN_LOG_LEVEL=3 {PYTHON} {SUPPORT / "tensorflow_model_server.py"} "$@"'
        program.write_text(f"#!/bin/sh\nexec {words}\n")
        self.cann = make_cann_with_compilers(root / "cann")
        section = json.loads(self.settings.read_text())
        section["npu_serving"]["cann_root"] = str(self.cann)
        self.settings.write_text(json.dumps(section))
        self.place = root / "work"
        shutil.copytree(made_by_tensorflow("page_models.py"), self.place)
        supported = json.dumps({name: {"isGray": False, "isHeavy": False} for name in ON_THE_NPU})
        put(self.cann / "ascend-toolkit/latest" / OPERATOR_LIST, supported)
        put(self.place / "npu_supported_ops.json", supported)
        put(self.place / "check_result.tf.json", '{"op": []}')
        asked = [json.dumps({"instances": [[0.5] * 4] * rows}).encode() for rows in (1, 3, 8, 9, 30)]
        recorded(self.place / "requests.rec", *(of_rest(body, "classifier") for body in asked))
        with tarfile.open(self.place / "classifier.tar.gz", "w:gz") as archive:
            archive.add(self.place / "another", "classifier")
        self.digest = hashlib.sha256((self.place / "classifier.tar.gz").read_bytes()).hexdigest()

    def meant(self, line: str) -> list[str]:
        """What a person types here: other ports, which chip, a file in place of what has to be fetched, less time."""
        words = shlex.split(line)
        if words[0] in ("predict", "load-test"):
            words += ["--url", f"grpc://localhost:{self.port}"]
        if words[0] == "load-test":
            words += SHORTER
        if words[0] == "convert-om" and not {"--soc-version", "--profiling"} & set(words):
            words += ["--soc-version", "Ascend910B4"]  # npu-smi would say it
        if words[0] == "publish-model" and "://" in words[1]:
            words[1], words[words.index("--sha256") + 1] = f"file://{self.place}/classifier.tar.gz", self.digest
        return words

    def runs(self, line: str) -> str:
        words = self.meant(line)
        if words[0] == "serve":
            self.has_no_npu()
        done = subprocess.run(
            self.argv(*words),
            cwd=self.place,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        printed = done.stderr + done.stdout
        assert done.returncode in wanted(words, printed), f"{line} ended with {done.returncode}\n{printed}"
        return printed

    def has_no_npu(self) -> None:
        """The file that was written says to use one, and its ports may be taken here."""
        text = (self.place / "deployment.yaml").read_text()
        text = re.sub(r"^npu:\n(?:[ #].*\n|\n)*", "", text, flags=re.MULTILINE)
        text = text.replace("port: 8500", f"port: {self.port}").replace("port: 8501", f"port: {self.rest_api_port}")
        (self.place / "deployment.yaml").write_text(text)


def wanted(words: list[str], printed: str) -> tuple[int, ...]:
    """Checks find that the build's server is a script, and no NPU; a busy machine may measure unsteadily, with 3."""
    if words[0] == "check-deployment" or (words[0] == "check-model" and only_of_the_server(printed)):
        return (0, 3)
    if words[0] == "load-test" and "Report: " in printed:
        return (0, 3)
    return (0,)


def only_of_the_server(printed: str) -> bool:
    """Or that a frozen graph is not a SavedModel: the page has one checked."""
    problems = printed.split("Problem: ")[1:]
    return all("is not an ELF file" in problem or "is a graph alone" in problem for problem in problems)


@pytest.fixture(scope="module")
def engineer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engineer]:
    made = Engineer(tmp_path_factory.mktemp("models") / "site")
    yield made
    made.close()


@pytest.fixture(scope="module")
def outputs(engineer: Engineer) -> dict[str, str]:
    """What each command of the page prints; that from an image's registry needs one, and is tried elsewhere."""
    return {line: engineer.runs(line) for line in commands() if " oci://" not in line}


def output_of(outputs: dict[str, str], part: str) -> str:
    return next(output for line, output in outputs.items() if part in line)


def test_every_command_of_the_page_works_one_after_the_other(outputs: dict[str, str], engineer: Engineer) -> None:
    assert "images" in output_of(outputs, "graph-nodes frozen.pb")
    assert (engineer.place / "models/classifier/2/saved_model.pb").is_file()
    predicted = output_of(outputs, "predict ")
    assert "(classifier version 2," in predicted  # what convert-pb has made
    logits = np.array([0.1, 0.2, 0.3, 0.4]) @ np.linspace(-1, 1, 12).reshape(4, 3)
    expected = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(
        json.loads(predicted[predicted.index("[") : predicted.index("]") + 1]), expected, rtol=1e-5
    )
    assert "MatMul" in output_of(outputs, "graph-nodes frozen.pb --nodes")
    assert "Label stable is version 2 again, not 3" in output_of(outputs, "--back")
    assert f"./inv convert-pb {engineer.place}/frozen.pb" in output_of(outputs, "check-model frozen.pb")
    assert list_kept_runs(engineer.build_root).runs


def test_the_page_goes_through_every_tool_for_models() -> None:
    typed = {line.split()[0] for line in commands()}
    tools = {"graph-nodes", "check-model", "convert-pb", "convert-om", "partition-graph", "suggest-gears"}
    assert tools | {"publish-model", "new-script", "init-deployment", "serve", "predict", "load-test"} <= typed
