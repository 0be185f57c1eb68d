"""A server for tests that runs real SavedModels in the real TensorFlow 1.15.0 (tensorflow_peer.py).

NPU_SERVING_TENSORFLOW_PYTHON names the Python that has tensorflow 1.15.0 and tensorflow-serving-api 1.15.0; where it is
not set, a test that asks for `tensorflow_server` is skipped. Each worker starts one server, at the first such test.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SUPPORT = Path(__file__).parent
KEPT = SUPPORT.parents[1] / "build" / "tests"
PYTHON = os.environ.get("NPU_SERVING_TENSORFLOW_PYTHON", "")


@dataclasses.dataclass(frozen=True)
class TensorFlowServer:
    """Where it is, what was asked of it, and how it is to misbehave; tensorflow_peer.py says which models there are."""

    grpc_port: int
    rest_port: int
    control_port: int
    socket: str
    models: Path
    """The directory with the SavedModels, as MODEL/VERSION."""

    @property
    def grpc_url(self) -> str:
        return f"grpc://127.0.0.1:{self.grpc_port}"

    @property
    def rest_url(self) -> str:
        return f"http://127.0.0.1:{self.rest_port}"

    @property
    def target(self) -> str:
        """As grpc itself wants it."""
        return f"127.0.0.1:{self.grpc_port}"

    def counters(self) -> dict[str, Any]:
        """What was asked since the test began.

        Keys: requests, statuses (gRPC's numbers, or HTTP's), cancelled, peers, microseconds, digests, each by method
        ("Predict", "REST predict"), and most_at_a_time.
        """
        found = self._ask("/counters")
        assert isinstance(found, dict)
        return found

    def requests(self, method: str = "Predict") -> int:
        return int(self.counters()["requests"].get(method, 0))

    def last(self, method: str = "Predict") -> bytes:
        """The last request of that method as it came."""
        return base64.b64decode(self._ask(f"/last?method={method.replace(' ', '%20')}"))

    def misbehave(self, **faults: object) -> None:
        """Sets attributes of Faults in tensorflow_peer_faults.py; they hold until the test ends."""
        self._ask("/faults", json.dumps(faults).encode())

    def reset(self) -> None:
        """All is well again, and nothing was asked."""
        self._ask("/reset", b"{}")

    def _ask(self, path: str, body: bytes | None = None) -> Any:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self.control_port}{path}", body, timeout=60) as answer:
            return json.load(answer)


def models_made() -> Path:
    """The SavedModels that the server has."""
    return made_by_tensorflow("tensorflow_models.py")


def made_by_tensorflow(script_name: str) -> Path:
    """The directory that a script beside this one makes, once for each wording of it. Skips where TensorFlow is not."""
    if not PYTHON:
        pytest.skip("TensorFlow 1.15.0 is for Python 3.7, and NPU_SERVING_TENSORFLOW_PYTHON names none")
    script = SUPPORT / script_name
    label = script.stem.replace("_", "-")
    made = KEPT / f"{label}-{hashlib.sha256(script.read_bytes()).hexdigest()[:16]}"
    if not made.is_dir():
        KEPT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=KEPT) as place:
            _run([PYTHON, str(script), f"{place}/models"])
            with contextlib.suppress(OSError):  # another worker was first
                Path(place, "models").rename(made)
        for old in KEPT.glob(f"{label}-*"):
            if old != made:
                shutil.rmtree(old, ignore_errors=True)
    return made


def _run(words: list[str]) -> None:
    ran = subprocess.run(words, env=_environment(), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def _environment() -> dict[str, str]:
    """Without what is meant for our own Python."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
    return {**kept, "TF_CPP_MIN_LOG_LEVEL": "3", "GRPC_VERBOSITY": "NONE", "PYTHONWARNINGS": "ignore"}


@contextlib.contextmanager
def started() -> Iterator[TensorFlowServer]:
    """A server of its own; it ends with this."""
    # Not as a child of ours: tests of `serve` end all of these.
    words = ["setsid", "--fork", PYTHON, str(SUPPORT / "tensorflow_peer.py"), str(models_made())]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            words, env=_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                log.seek(0)
                raise AssertionError(log.read())
            ports = json.loads(line)
            yield TensorFlowServer(ports["grpc"], ports["rest"], ports["control"], ports["socket"], models_made())
        finally:
            process.communicate()  # the end of its input ends it


@pytest.fixture(scope="session")
def tensorflow_process() -> Iterator[TensorFlowServer]:
    """The server of this worker."""
    if not PYTHON:
        pytest.skip("TensorFlow 1.15.0 is for Python 3.7, and NPU_SERVING_TENSORFLOW_PYTHON names none")
    with started() as server:
        yield server


@pytest.fixture
def tensorflow_server(tensorflow_process: TensorFlowServer) -> TensorFlowServer:
    """The same, behaving well and asked nothing yet."""
    tensorflow_process.reset()
    return tensorflow_process
