"""A server that runs here is taken over: a real process, with its command line, environment, directory and files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from npu_serving.deploy.deployment_file import read_deployment
from npu_serving.deploy.init_deployment import FirstDeployment, take_over_deployment
from npu_serving.deploy.pinning import usable_processors
from npu_serving.errors import RequestError
from npu_serving.serving.running_set_up import running_set_up

# Named like the server, and as an interpreter's script with a word before it, as under the loader.
PROGRAM = """
import socket, sys
first = socket.socket()
first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
first.bind(("127.0.0.1", int(sys.argv[-1]) if sys.argv[-1].isdigit() else 0))
first.listen()
print(first.getsockname()[1], flush=True)
sys.stdin.read()
"""
CONFIG = """
platform_configs { key: "tensorflow" value { source_adapter_config {
  [type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig] { legacy_config { session_config {
    graph_options { rewrite_options { custom_optimizers { name: "NpuOptimizer"
      parameter_map { key: "use_off_line" value { b: true } }
      parameter_map { key: "graph_run_mode" value { i: 0 } }
      parameter_map { key: "precision_mode" value { s: "allow_mix_precision" } }
    } } } } } } } } }
"""
MODELS = 'model_config_list { config { name: "a" base_path: "models/a" model_platform: "tensorflow" } }\n'


class Started:
    """Servers that were started by hand, in a directory of theirs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "run"
        self.directory.mkdir()
        self.output = directory / "taken.yaml"
        self.processes: list[subprocess.Popen[str]] = []
        self.program = self.directory / "tensorflow_model_server"
        self.program.write_text(PROGRAM)
        (self.directory / "config.cfg").write_text(CONFIG)
        (self.directory / "models.config").write_text(MODELS)
        for name in ("config.cfg", "models.config"):
            os.utime(self.directory / name, (1, 1))

    def server(self, *flags: str, **environment: str) -> int:
        """The port of one that was started with these."""
        process = subprocess.Popen(
            [sys.executable, str(self.program), *flags],
            cwd=self.directory,
            env={"PATH": os.defpath, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        assert process.stdout is not None
        return int(process.stdout.readline())

    def taken(self, port: int, *, dry_run: bool = False) -> FirstDeployment:
        return take_over_deployment(running_set_up(port), self.output, dry_run=dry_run)

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    servers = Started(tmp_path)
    yield servers
    servers.end()


GUIDES = ("--port=9000", "--rest_api_port=9001", "--model_config_file=models.config", "--max_num_load_retries=0")


def test_the_guides_command_is_taken_over_with_the_files_it_names(started: Started) -> None:
    port = started.server(*GUIDES, "--platform_config_file=config.cfg", JOB_ID="10087", HOME="/root", RANK_ID="1")
    made = started.taken(port)
    read = read_deployment(started.output)
    assert (read.server.port, read.server.rest_api_port) == (9000, 9001)
    assert [(model.name, model.base_path) for model in read.models] == [("a", f"{started.directory}/models/a")]
    assert read.npu == {"precision_mode": "allow_mix_precision"}
    assert read.environment == {"JOB_ID": "10087"}  # what nobody within a server reads is left
    assert str(started.processes[0].pid) in started.output.read_text()
    said = "\n".join(made.left_out)
    assert "RANK_ID is not passed on" in said
    assert "models/a' was relative to the server's directory" in said
    assert "changed" not in said


def test_what_is_changed_since_the_start_or_unknown_to_the_server_is_said(started: Started) -> None:
    port = started.server(*GUIDES, "--prot=1", "stray")
    os.utime(started.directory / "models.config", (2**33, 2**33))
    said = "\n".join(started.taken(port).left_out)
    assert f"{started.directory}/models.config was changed after the server had started" in said
    assert "the server has no flag --prot" in said
    assert "the server has no flag stray" in said


def test_cann_is_named_by_its_directory_and_its_variables_are_not_copied(started: Started) -> None:
    home = "/opt/x/Ascend/ascend-toolkit/latest"
    variables = {
        "ASCEND_HOME_PATH": home,
        "ASCEND_OPP_PATH": f"{home}/opp",
        "ASCEND_DEVICE_ID": "3",
        "LD_LIBRARY_PATH": f"{home}/lib64:/opt/own",
        "PYTHONPATH": f"{home}/python/site-packages",
        "AWS_SECRET_ACCESS_KEY": "hunter2",
    }
    made = started.taken(started.server(*GUIDES, **variables))
    read = read_deployment(started.output)
    assert read.cann == "/opt/x/Ascend"
    assert read.environment == {"ASCEND_DEVICE_ID": "3", "AWS_SECRET_ACCESS_KEY": "hunter2"}
    assert "hunter2" not in f"{made.text()}{made.to_json()}"
    assert started.output.stat().st_mode & 0o777 == 0o600
    said = [line for line in made.left_out if "_PATH" in line or "PYTHONPATH" in line]
    assert [line.partition(": ")[2] for line in said] == [
        "LD_LIBRARY_PATH had /opt/own; a server gets it from the caller's environment"
    ]


def test_of_a_server_that_a_port_is_shared_with_none_is_taken_and_all_are_named(started: Started) -> None:
    port = started.server(*GUIDES)
    started.server(*GUIDES, str(port))
    with pytest.raises(RequestError, match="2 processes listen") as caught:
        started.taken(port)
    assert all(str(process.pid) in caught.value.what for process in started.processes)
    assert "REST port" in caught.value.cure


def test_nobody_or_another_program_at_the_port_is_said(started: Started) -> None:
    port = started.server()
    started.processes[0].kill()
    started.processes[0].wait()
    with pytest.raises(RequestError, match="Nothing listens"):
        started.taken(port)
    with pytest.raises(RequestError, match="0"):
        running_set_up(0)
    started.program = started.directory / "other"
    started.program.write_text(PROGRAM)
    with pytest.raises(RequestError, match="is not tensorflow_model_server but"):
        started.taken(started.server())


def test_a_server_of_another_name_is_known_by_its_flags(started: Started) -> None:
    started.program = started.directory / "tfs"
    started.program.write_text(PROGRAM)
    assert [model.name for model in started.taken(started.server(*GUIDES)).models] == ["a"]


def test_a_file_that_is_gone_is_named_and_only_where_all_hangs_on_it_refused(started: Started) -> None:
    port = started.server(*GUIDES, "--monitoring_config_file=gone.config")
    assert any("gone.config" in line for line in started.taken(port).left_out)
    started.output.unlink()
    (started.directory / "models.config").unlink()
    with pytest.raises(RequestError, match=r"models\.config") as caught:
        started.taken(port)
    assert "put" in caught.value.cure
    assert not started.output.exists()


def test_the_files_of_tls_are_taken_from_a_running_server_too(started: Started) -> None:
    (started.directory / "ssl.config").write_text('server_key: "KEY"\nserver_cert: "CERT"\n')
    started.taken(started.server(*GUIDES, "--ssl_config_file=ssl.config"))
    tls = read_deployment(started.output).server.tls
    assert tls is not None
    assert Path(tls.server_key).read_text() == "KEY"


def test_a_dry_run_of_a_server_without_a_configuration_shows_its_one_model(started: Started) -> None:
    port = started.server("--port=9000", "--model_name=m", "--model_base_path=models/m", "--enable_batching")
    made = started.taken(port, dry_run=True)
    assert f'base_path: "{started.directory}/models/m"' in made.text()
    assert "batching" in made.text()
    assert not started.output.exists()


def test_the_processors_that_it_is_pinned_to_are_taken_and_all_of_them_are_not(started: Started) -> None:
    port = started.server(*GUIDES)
    usable = set(usable_processors())
    os.sched_setaffinity(started.processes[0].pid, usable)
    started.taken(port)
    assert read_deployment(started.output).cpu.cpus is None
    if len(usable) > 1:
        os.sched_setaffinity(started.processes[0].pid, {min(usable)})
        started.output.unlink()
        started.taken(port)
        assert read_deployment(started.output).cpu.processors == (min(usable),)
