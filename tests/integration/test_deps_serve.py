"""fetch-deps --serve as a person types it: one machine hands its store out, another one is fed from it alone."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import queue
import re
import signal
import subprocess
import sys
import threading
import urllib.request
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from npu_serving.doctor.requirements import load_requirements
from npu_serving.lock.lockfile import read_lock
from npu_serving.overlay.adapter import FULL_XLA
from npu_serving.settings import PROJECT_ROOT

TASKS = [sys.executable, "-m", "npu_serving"]
SAMPLE_LOCK = read_lock(PROJECT_ROOT / "locks" / "sample.json")


class Machine:
    """A state directory of its own, with an invoke.yaml that names it. `start()` and `run()` type a task there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        (root / "tasks.py").symlink_to(PROJECT_ROOT / "tasks.py")
        bazel = fitting_bazel(root / "bazel")
        values = {"source": "sample", "bazel": str(bazel), "build_root": str(root / "build")}
        (root / "invoke.yaml").write_text(yaml.safe_dump({"npu_serving": values}))

    @property
    def store(self) -> Path:
        return self.root / "build" / "store"

    def start(self, *words: str) -> subprocess.Popen[str]:
        proxies = {name for name in os.environ if "proxy" in name.lower()}
        environment = {name: value for name, value in os.environ.items() if name not in proxies}
        environment |= {"PYTHONPATH": str(PROJECT_ROOT), "NPU_SERVING_SETTINGS": str(self.root / "invoke.yaml")}
        return subprocess.Popen(
            [*TASKS, "--search-root", str(self.root), *words],
            cwd=self.root, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *words: str) -> Any:
        started = self.start(*words, "--json")
        out, err = started.communicate(timeout=120)
        assert started.returncode == 0, err
        return json.loads(out)


def fitting_bazel(path: Path) -> Path:
    """What passes for a Bazel that fits as long as nobody runs it, so that none is fetched."""
    jar, outer = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(jar, "w") as packed:
        packed.writestr("build-data.properties", f"build.label={load_requirements()['bazel'].minimum('x86_64')}\n")
    with zipfile.ZipFile(outer, "w") as packed:
        packed.writestr("A-server.jar", jar.getvalue())
    path.write_bytes(b"\x7fELF" + bytes(60) + outer.getvalue())
    path.chmod(0o755)
    return path


def _put_all(stream: Iterable[str], lines: queue.SimpleQueue[str]) -> None:
    for line in stream:
        lines.put(line)


@pytest.fixture
def feeding(tmp_path):
    """A machine hands the sample's archives out: its process, the command it prints, and what it says next."""
    machine = Machine(tmp_path / "feeding")
    machine.run("fetch-deps", "--all")
    process = machine.start("fetch-deps", "--serve", "--listen", "127.0.0.1:0", "--json")
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    assert process.stdout is not None
    assert process.stderr is not None
    reader = threading.Thread(target=_put_all, args=(process.stderr, lines))
    reader.start()
    command = ""
    while "--mirror" not in command:
        command = lines.get(timeout=60).strip()
    yield process, command, lines
    if process.poll() is None:
        process.kill()
    reader.join()
    process.stdout.close()
    process.stderr.close()
    process.wait()


def test_another_machine_fetches_all_of_the_sample_with_the_command_that_is_printed(feeding, tmp_path):
    process, command, _ = feeding
    found = re.fullmatch(r"\./inv (fetch-deps --source sample --mirror http://127\.0\.0\.1:\d+/)", command)
    assert found
    words = found[1].split()
    report = Machine(tmp_path / "fed").run(*words, "--all")
    assert {file["mirror"] for file in report["fetched"]} == {words[-1]}
    assert {file["sha256"] for file in report["fetched"]} == {item.sha256 for item in SAMPLE_LOCK.archives}
    assert {file["retries"] for file in report["fetched"]} == {0}
    for archive in SAMPLE_LOCK.archives:
        place = tmp_path / "fed/build/store/content_addressable/sha256" / archive.sha256 / "file"
        assert hashlib.sha256(place.read_bytes()).hexdigest() == archive.sha256
    process.send_signal(signal.SIGINT)
    out = process.stdout.read()
    assert process.wait(timeout=30) == 0
    served = json.loads(out)
    assert served["sent_bytes"] == report["fetched_bytes"]
    assert served["requests"] == len(report["fetched"])
    assert served["clients"] == ["127.0.0.1"]


def test_a_plain_program_finds_the_list_and_a_file_by_its_name(feeding):
    process, command, lines = feeding
    url = command.split()[-1]
    with urllib.request.urlopen(url, timeout=20) as answer:
        digest, name = answer.read().decode().splitlines()[0].split("  ")
    with urllib.request.urlopen(url + name, timeout=20) as answer:
        assert hashlib.sha256(answer.read()).hexdigest() == digest
    told = [re.sub(r" \d+$", "", lines.get(timeout=20).strip()) for _ in range(2)]
    assert sorted(told) == ["127.0.0.1 GET / 200", f"127.0.0.1 GET /{name} 200"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0


def test_a_dry_run_tells_what_would_be_handed_out_and_what_is_missing_and_listens_nowhere(tmp_path):
    plan = Machine(tmp_path / "empty").run("fetch-deps", "--serve", "--listen", "127.0.0.1:9", "--dry-run")
    needed = {item.name for item in SAMPLE_LOCK.needed(f"linux-{platform.machine()}-cpu", without=FULL_XLA)}
    assert (plan["held"], set(plan["missing"])) == (0, needed)
    assert "llvm" not in needed
    assert plan["command"].endswith("--mirror http://127.0.0.1:9/")
    assert not (tmp_path / "empty/build").exists()
