"""A place of its own with a finished build whose server is a script, where ./inv is typed as a person does."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

from model_server import put_server

from npu_serving.builds.current import find_build, make_current
from npu_serving.builds.manifest import BuildManifest
from npu_serving.serving.server_record import KnownServer, ServerRecord, known_servers
from npu_serving.settings import PROJECT_ROOT
from npu_serving.trials.spare_server import spare_ports

BUILD = "serving-a"
MODEL = "m"


class ServingSite:
    """Its directory, ports that were free, and what is typed there; `close` leaves no process behind."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.build_root = root / "build of 'mine'"
        self.dist = root / "dist"
        self.artifact = self.put_build(BUILD)
        self.model = root / "models" / MODEL
        (self.model / "1").mkdir(parents=True)
        (self.model / "1" / "saved_model.pb").touch()
        self.port, self.rest_api_port = spare_ports(2)
        section = {"build_root": str(self.build_root), "dist_root": str(self.dist)}
        self.settings = root / "invoke.yaml"
        self.settings.write_text(json.dumps({"npu_serving": section}))

    @property
    def environment(self) -> dict[str, str]:
        """That of whoever types."""
        return {**os.environ, "NPU_SERVING_SETTINGS": str(self.settings), "PYTHONPATH": str(PROJECT_ROOT)}

    def put_build(self, name: str) -> Path:
        """A further build, which becomes the current one."""
        directory = self.dist / name
        (directory / "bin").mkdir(parents=True)
        (directory / "lib").mkdir()
        put_server(directory, {MODEL: {}})
        manifest = BuildManifest(
            name, "d", "1.15.0", {"name": "1.15.0"}, {"cann_version": ""}, "l", {}, (), {}, {}, {}, "2026-01-01"
        )
        (directory / "manifest.json").write_text(json.dumps(manifest.to_json()))
        make_current(find_build(self.dist, name))
        return directory

    def behaves(self, model: Mapping[str, object], *, before: str = "") -> None:
        """What the server of the first build does from its next start on."""
        put_server(self.artifact, {MODEL: model}, before=before)

    def argv(self, *words: str) -> list[str]:
        """The command that runs a task."""
        return [sys.executable, "-m", "npu_serving", "--search-root", str(PROJECT_ROOT), *words]

    def types(self, *words: str, wanted: int = 0, at: Path | None = None) -> str:
        """What a task prints, standard error first; its exit code has to be the wanted one."""
        done = subprocess.run(
            self.argv(*words),
            cwd=at or self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == wanted, f"{words} ended with {done.returncode}\n{done.stderr}\n{done.stdout}"
        return done.stdout if "--json" in words else done.stderr + done.stdout

    def answers(self, *words: str, wanted: int = 0) -> dict[str, Any]:
        """What a task prints with --json."""
        return json.loads(self.types(*words, "--json", wanted=wanted))  # type: ignore[no-any-return]

    def of_flags(self, *words: str) -> list[str]:
        """serve by flags."""
        ports = [f"--port={self.port}", f"--rest-api-port={self.rest_api_port}"]
        return ["serve", f"--model-base-path={self.model}", *ports, *words]

    def server(self) -> KnownServer:
        """The one that is known here."""
        (server,) = known_servers(self.build_root)
        return server

    def begins(self, *words: str) -> subprocess.Popen[str]:
        """A task that is typed and not waited for."""
        return subprocess.Popen(
            self.argv(*words),
            cwd=self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def until(self, fits: Callable[[ServerRecord], bool]) -> ServerRecord:
        """The record of the one server, once it fits; it fails where it does not for two minutes."""
        given_up = time.monotonic() + 120
        while time.monotonic() < given_up:
            found = [server.record for server in known_servers(self.build_root) if server.record is not None]
            if found and fits(found[0]):
                return found[0]
            time.sleep(0.02)
        raise AssertionError(f"it did not come to that: {self.known()}")

    def known(self) -> str:
        """All that is kept of servers here, to be shown where a test fails."""
        return "\n".join(path.read_text() for path in (self.build_root / "servers").glob("*.json"))

    def close(self) -> None:
        """Ends what still runs."""
        for server in known_servers(self.build_root):
            record = server.record
            for pid, runs in ((record.pid, record.is_running), (record.watcher, record.is_watched)) if record else ():
                with contextlib.suppress(ProcessLookupError):
                    if runs and pid != os.getpid():
                        os.kill(pid, signal.SIGKILL)
