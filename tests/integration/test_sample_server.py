"""The sample server, run for real: its REST API, its configuration files, and what an adapter does to it.

Compiled straight with g++ from the sample's sources; that Bazel builds the same is proved elsewhere.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import pytest
from states import library_directories

from npu_serving import process
from npu_serving.cann.adapter_words import unknown_words
from npu_serving.elf.compat import check_server
from npu_serving.elf.report import CompatReport
from npu_serving.elf.subject import ServerCase
from npu_serving.errors import PinMismatchError, RequestError
from npu_serving.options.adapter_release import kind_in
from npu_serving.options.catalogue import NOT_READ, session_options
from npu_serving.sample import SAMPLE_DIRECTORY, cann, models, sample_archives

PATIENCE_S = 30.0
MODEL = "half_plus_two"
PLATFORM_CONFIG = SAMPLE_DIRECTORY / "config.cfg"
METRICS = "/monitoring/prometheus/metrics"
PLACED = "NpuOptimizer: graph of half_plus_two placed on NPU (sample, CANN 6.3.RC2)"
SIGN = "The model has been compiled on the Ascend AI processor, current graph id is: 1"
ASKING = PLATFORM_CONFIG.read_text(encoding="utf-8")
NEEDED_BY_ALL = "_ZN10tensorflow7strings21HumanReadableNumBytesEl"
OF_XLA = ("_ZN10tensorflow11GraphCyclesC1Ev", "_ZN10tensorflow24FunctionalizeControlFlowEPNS_11LinearGraphE")
NEEDED_BY_NEXT = "_ZN10tensorflow8profiler8NpuTrace5BeginERKSs"

SOURCES = (
    "serving",
    "archives/org_tensorflow",
    "archives/com_google_absl",
    "archives/com_google_protobuf",
    "archives/com_github_tencent_rapidjson",
    "archives/com_github_libevent_libevent",
)
INCLUDES = (
    "serving",
    "archives/org_tensorflow",
    "archives/com_google_absl",
    "archives/com_google_protobuf/src",
    "archives/com_github_tencent_rapidjson/include",
    "archives/com_github_libevent_libevent/include",
)

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None or shutil.which("ar") is None, reason="the sample server is compiled with g++"
)


@dataclass(frozen=True)
class Objects:
    """The compiled server before it is linked: the objects of the binary itself, and its libraries' as an archive."""

    main: tuple[Path, ...]
    archive: Path

    def link(self, server: Path, *adapter: str) -> Path:
        """Links as Bazel does: the libraries first, the adapter behind them."""
        process.run(["g++", "-o", server, *self.main, self.archive, *adapter, "-lpthread"])
        return server


@dataclass(frozen=True)
class Npu:
    """A sample CANN install and a server that was linked with its adapter."""

    root: Path
    ascend: Path
    server: Path
    objects: Objects

    def environment(self) -> dict[str, str]:
        """What the server needs to find its libraries."""
        directories = (*library_directories(self.ascend), self.root / "stubs", self.root / "python3.7.5" / "lib")
        opp = self.ascend / "ascend-toolkit" / "latest" / "opp"
        paths = {"LD_LIBRARY_PATH": ":".join(map(str, directories)), "ASCEND_OPP_PATH": str(opp)}
        return {**process.base_environment(), **paths}

    def link(self, name: str, *symbols: str) -> Path:
        """Links a server with the adapter of the latest CANN, asking for these symbols."""
        adapter = library_directories(self.ascend)[0] / "_tf_adapter.so"
        asked = [f"-Wl,-u,{symbol}" for symbol in (*OF_XLA, *symbols)]
        flags = ["-Wl,--no-as-needed", "-Wl,--allow-shlib-undefined"]
        return self.objects.link(self.root / name, *asked, *flags, str(adapter))

    def report(self, server: Path) -> CompatReport:
        """What verify-serving says of a server with that environment."""
        path = [Path(item) for item in self.environment()["LD_LIBRARY_PATH"].split(":")]
        return check_server(ServerCase(server, library_path=path))


class Client:
    """One running server."""

    def __init__(self, running: subprocess.Popen[bytes], log: Path, rest_port: int) -> None:
        self.process = running
        self.log_path = log
        self.rest_port = rest_port

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def request(self, method: str, path: str, body: str | None = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.rest_port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.read().decode()

    def predict(self, body: object, model: str = MODEL) -> Any:
        status, text = self.request("POST", f"/v1/models/{model}:predict", json.dumps(body))
        assert status == 200, text
        return json.loads(text)

    def states(self, model: str = MODEL) -> dict[str, str]:
        status, text = self.request("GET", f"/v1/models/{model}")
        if status != 200:
            return {}
        return {version["version"]: version["state"] for version in json.loads(text)["model_version_status"]}

    def predictions_on_npu(self) -> int:
        lines = self.request("GET", METRICS)[1].splitlines()
        counts = [line.split()[-1] for line in lines if line.startswith(":sample:npu:predictions_total{}")]
        return int(counts[0])


def until(condition: Callable[[], bool], what: str) -> None:
    """Waits for the condition; fails the test when it does not come true in time."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(
    server: Path, directory: Path, *flags: str, env: dict[str, str] | None = None, wait: bool = True
) -> Iterator[Client]:
    """A server on free ports, ready to answer unless `wait` is off; its log is in `directory`."""
    log, port = directory / "server.log", free_port()
    argv: list[process.Arg] = [server, "--port=0", f"--rest_api_port={port}", *flags]
    with process.running(argv, log_path=log, env=env) as running:
        client = Client(running, log, port)
        if wait:
            until(lambda: running.poll() is not None or "Exporting HTTP/REST API at:" in client.log, "the REST API")
            assert running.poll() is None, client.log
        yield client


def model_flags(base: Path) -> tuple[str, str]:
    return f"--model_name={MODEL}", f"--model_base_path={base}"


def failing(server: Path, *flags: str) -> process.Finished:
    """A server that is expected to end by itself, and not well."""
    finished = process.run([server, *flags], check=False, timeout_s=PATIENCE_S)
    assert finished.returncode not in (0, None)
    return finished


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    directory = tmp_path_factory.mktemp("objects")
    (directory / "gen").mkdir()
    (directory / "gen" / "git_version.h").write_text('#define TF_GIT_VERSION "unknown"\n', encoding="utf-8")
    sources = [path for root in SOURCES for path in sorted((SAMPLE_DIRECTORY / root).rglob("*.cc"))]
    sources = [path for path in sources if path.name != "xla_cpu_jit.cc"]
    includes = [f"-I{SAMPLE_DIRECTORY / root}" for root in INCLUDES]
    flags = ["-std=c++14", "-O0", "-Wall", "-Werror", "-D_GLIBCXX_USE_CXX11_ABI=0", '-DBUILD_SCM_REVISION="abc1234"']
    process.run(["g++", *flags, "-I.", *includes, "-c", *sources], cwd=directory)
    compiled = sorted(directory.glob("*.o"))
    own = tuple(path for path in compiled if path.name in ("main.o", "version.o"))
    archive = directory / "libserver.a"
    process.run(["ar", "rcs", archive, *(path for path in compiled if path not in own)])
    return Objects(own, archive)


@pytest.fixture(scope="session")
def cpu_server(objects: Objects, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return objects.link(tmp_path_factory.mktemp("cpu") / "tensorflow_model_server")


@pytest.fixture
def npu(objects: Objects, tmp_path: Path) -> Npu:
    root = tmp_path / "npu"
    ascend = cann.install_sample_cann(root)
    cann.build_sample_libpython(root)
    cann.build_framework_stubs(root / "stubs")
    installed = Npu(root, ascend, root / "tensorflow_model_server", objects)
    installed.link("tensorflow_model_server", NEEDED_BY_ALL)
    return installed


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base path with version 1 in it."""
    path = tmp_path / "models" / MODEL
    shutil.copytree(SAMPLE_DIRECTORY / "models" / MODEL / "1", path / "1")
    return path


@pytest.fixture(scope="module")
def client(cpu_server: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server on the CPU that tests of the REST API share; both versions of the model are loaded."""
    directory = tmp_path_factory.mktemp("shared")
    config = directory / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "{MODEL}" base_path: "{SAMPLE_DIRECTORY / "models" / MODEL}" '
        'model_platform: "tensorflow" model_version_policy { all {} } } }\n',
        encoding="utf-8",
    )
    with serving(cpu_server, directory, f"--model_config_file={config}") as shared:
        yield shared


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"instances": [1.0, 2, 5]}, {"predictions": [3.5, 4.0, 5.5]}),
        ({"instances": [{"x": 1}, {"x": 2}]}, {"predictions": [3.5, 4.0]}),
        ({"instances": [[1, 2], [3, 4]]}, {"predictions": [[3.5, 4.0], [4.5, 5.0]]}),
        ({"inputs": {"x": [[1, 2]]}}, {"outputs": [[3.5, 4.0]]}),
        ({"inputs": [1]}, {"outputs": [3.5]}),
        ({"inputs": 1}, {"outputs": 3.5}),
        ({"signature_name": "serving_default", "inputs": 1}, {"outputs": 3.5}),
    ],
)
def test_a_prediction_answers_in_the_format_of_its_request(client: Client, body: object, answer: object) -> None:
    assert client.predict(body) == answer


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "JSON Parse error: The document is empty"),
        ('{"instances": [1', "JSON Parse error"),
        ("[1]", "is not object"),
        ("{}", "Missing 'inputs' or 'instances' key"),
        ('{"instances": 1}', "'instances'"),
        ('{"instances": []}', "'instances'"),
        ('{"instances": ["a"]}', "is not of expected type: float"),
        ('{"instances": [1, [2]]}', "unexpected level"),
        ('{"instances": [[1, 2], [3]]}', "unexpected size"),
        ('{"instances": [{"y": 1}]}', "does not have named input: x"),
        ('{"inputs": {"y": 1}}', "Missing named input: x"),
        ('{"inputs": 1e300}', "without loss of precision"),
        ('{"signature_name": 1, "inputs": 1}', "must be a string value"),
        ('{"signature_name": "other", "inputs": 1}', 'Serving signature name: "other" not found'),
        ("[" * 5000, "nested too deeply"),
    ],
)
def test_a_bad_request_is_answered_with_400_and_the_reason(client: Client, body: str, reason: str) -> None:
    status, text = client.request("POST", f"/v1/models/{MODEL}:predict", body)
    assert status == 400
    assert reason in json.loads(text)["error"]


def test_every_version_is_served_under_its_number_and_the_newest_under_none(client: Client) -> None:
    for path, answer in (("", 3.5), ("/versions/2", 3.5), ("/versions/1", 2.5)):
        status, text = client.request("POST", f"/v1/models/{MODEL}{path}:predict", '{"inputs": 1}')
        assert (status, json.loads(text)) == (200, {"outputs": answer})


def test_the_status_lists_every_version_the_newest_first(client: Client) -> None:
    assert list(client.states().items()) == [("2", "AVAILABLE"), ("1", "AVAILABLE")]
    status, text = client.request("GET", f"/v1/models/{MODEL}/versions/1")
    assert status == 200
    (version,) = json.loads(text)["model_version_status"]
    assert version == {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}


def test_the_metadata_describe_the_signature(client: Client) -> None:
    status, text = client.request("GET", f"/v1/models/{MODEL}/versions/1/metadata")
    assert status == 200
    metadata = json.loads(text)
    assert metadata["model_spec"] == {"name": MODEL, "signature_name": "", "version": "1"}
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert signature["outputs"]["y"]["name"] == "y:0"
    assert signature["method_name"] == "tensorflow/serving/predict"


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/v1/models/other", 404, "Could not find any versions of model other"),
        ("GET", f"/v1/models/{MODEL}/versions/9", 404, "Could not find version 9"),
        ("GET", "/v1/models/other/metadata", 404, "Servable not found for request: Latest(other)"),
        ("POST", "/v1/models/other:predict", 404, "Servable not found for request: Latest(other)"),
        ("POST", f"/v1/models/{MODEL}/versions/9:predict", 404, f"Specific({MODEL}, 9)"),
        ("GET", "/v1/models", 400, "Missing model name"),
        ("GET", "/", 400, "Malformed request: GET /"),
        ("GET", f"/v1/models/{MODEL}:predict", 400, "Malformed request"),
        ("DELETE", f"/v1/models/{MODEL}", 400, "Malformed request"),
        ("GET", f"/v1/models/{MODEL}/versions/99999999999999999999", 400, "Failed to convert version"),
    ],
)
def test_what_is_not_there_is_said_to_be_missing(
    client: Client, method: str, path: str, status: int, reason: str
) -> None:
    got, text = client.request(method, path, '{"inputs": 1}' if method == "POST" else None)
    assert got == status
    assert reason in json.loads(text)["error"]


def test_a_connection_serves_several_requests(client: Client) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", client.rest_port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.connect()
        first = connection.sock
        for x in range(3):
            connection.request("POST", f"/v1/models/{MODEL}:predict", json.dumps({"inputs": x}))
            assert json.loads(connection.getresponse().read()) == {"outputs": 0.5 * x + 3}
        assert connection.sock is first


def test_a_chunked_body_is_put_together(client: Client) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", client.rest_port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        pieces = iter([b'{"inp', b'uts": ', b"4}"])
        connection.request("POST", f"/v1/models/{MODEL}:predict", pieces, encode_chunked=True)
        assert json.loads(connection.getresponse().read()) == {"outputs": 5.0}


@pytest.mark.parametrize(
    ("request_text", "answer"),
    [
        (b"nonsense\r\n\r\n", b"HTTP/1.1 400 "),
        (b"GET / HTTP/2.0\r\n\r\n", b"HTTP/1.1 400 "),
        (b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"HTTP/1.1 400 "),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 400 "),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"HTTP/1.1 413 "),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70000, b"HTTP/1.1 431 "),
        (b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
def test_http_is_checked_before_it_is_believed(client: Client, request_text: bytes, answer: bytes) -> None:
    with socket.create_connection(("127.0.0.1", client.rest_port), timeout=PATIENCE_S) as connection:
        connection.sendall(request_text)
        received = b""
        while len(received) < len(answer):
            piece = connection.recv(4096)
            assert piece, received
            received += piece
    assert received.startswith(answer)
    assert client.states()["2"] == "AVAILABLE"  # and the server goes on


def test_a_new_version_takes_the_place_of_the_old_one(cpu_server: Path, tmp_path: Path, base: Path) -> None:
    with serving(cpu_server, tmp_path, *model_flags(base)) as client:
        assert client.predict({"inputs": 1}) == {"outputs": 2.5}
        models.write_linear_model(base / "incoming", 0.5, 3)
        (base / "incoming").rename(base / "2")
        until(lambda: client.states() == {"2": "AVAILABLE", "1": "END"}, "version 2")
        assert client.predict({"inputs": 1}) == {"outputs": 3.5}


def test_a_bad_new_version_leaves_the_old_one_in_service(cpu_server: Path, tmp_path: Path, base: Path) -> None:
    with serving(cpu_server, tmp_path, *model_flags(base), "--max_num_load_retries=0") as client:
        (base / "2").mkdir()
        until(lambda: client.states() == {"2": "END", "1": "AVAILABLE"}, "the failure of version 2")
        assert client.predict({"inputs": 1}) == {"outputs": 2.5}


def test_a_model_that_is_added_to_the_config_is_loaded(cpu_server: Path, tmp_path: Path, base: Path) -> None:
    config = tmp_path / "models.config"

    def write(*names: str) -> None:
        text = "".join(
            f"config: <name: '{name}', base_path: '{base}'; model_platform: 'tensorflow'>," for name in names
        )
        config.with_suffix(".new").write_text(f"model_config_list: {{ {text} }} # a comment\n", encoding="utf-8")
        config.with_suffix(".new").replace(config)

    write("one")
    flags = (f"--model_config_file={config}", "--model_config_file_poll_wait_seconds=1")
    with serving(cpu_server, tmp_path, *flags) as client:
        write("one", "two")
        until(lambda: client.states("two") == {"1": "AVAILABLE"}, "the second model")
        write("two")
        until(lambda: client.states("one") == {"1": "END"}, "the end of the first model")
        assert client.predict({"inputs": 1}, "two") == {"outputs": 2.5}


def test_a_model_without_its_directory_keeps_back_those_that_are_listed_before_it_until_it_is_there(
    cpu_server: Path, tmp_path: Path, base: Path
) -> None:
    config = tmp_path / "models.config"
    places = {"a": base, "c": tmp_path / "gone"}
    entries = (
        f"config {{ name: '{name}' base_path: '{path}' model_platform: 'tensorflow' }}" for name, path in places.items()
    )
    config.write_text(f"model_config_list {{ {' '.join(entries)} }}", encoding="utf-8")
    with serving(cpu_server, tmp_path, f"--model_config_file={config}", wait=False) as client:
        until(lambda: client.log.count(f"Could not find base path {places['c']} for servable c") > 1, "two looks")
        assert "Loading servable version" not in client.log
        assert "Running gRPC" not in client.log
        shutil.copytree(base, tmp_path / "half")
        (tmp_path / "half").rename(places["c"])
        until(lambda: "Exporting HTTP/REST API at:" in client.log, "the REST API")
        assert client.predict({"inputs": 1}, "a") == client.predict({"inputs": 1}, "c") == {"outputs": 2.5}


@pytest.mark.parametrize(
    ("text", "where", "reason"),
    [
        ("platform_configs {", "1:19", 'Expected "}"'),
        ('platform_configs { key: "tensorflow\n" }', "1:36", "cannot cross line boundaries"),
        ("platform_configs {\n  kye: 'tensorflow' }", "2:3", 'no field named "kye"'),
        ("platform_configs { key: tensorflow }", "1:20", "Expected string"),
        ("platform_configs { key: 'a' key: 'b' }", "1:29", "specified multiple times"),
        (
            "platform_configs { value { source_adapter_config { [type.googleapis.com/no.Such] {} } } }",
            "1:52",
            "no.Such",
        ),
        (PLATFORM_CONFIG.read_text(encoding="utf-8").replace("NO_MEM_OPT", "OFF"), "13:17", 'value of "OFF"'),
        (PLATFORM_CONFIG.read_text(encoding="utf-8").replace("i: 0", "i: zero"), "17:67", "Expected integer"),
    ],
    ids=["brace", "string", "name", "type", "twice", "any", "enum", "integer"],
)
def test_an_error_in_a_platform_config_is_told_with_its_place(
    cpu_server: Path, tmp_path: Path, base: Path, text: str, where: str, reason: str
) -> None:
    config = tmp_path / "config.cfg"
    config.write_text(text, encoding="utf-8")
    finished = failing(cpu_server, *model_flags(base), f"--platform_config_file={config}")
    assert "Failed to start server. Error: Invalid argument:" in finished.stdout
    assert str(config) in finished.stdout
    assert f" {where}: " in finished.stdout
    assert reason in finished.stdout


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("model_config_list { config { name: 'a' base_path: 'b' model_platform: 'tensorflow' } }", "absolute path"),
        ("model_config_list { config { name: 'a' base_path: '/b' } }", "model_platform"),
        ("model_config_list { config { name: 'a' base_path: '/b' model_platform: 'other' } }", "platform other"),
        ("model_config_list { config { name: 'a' } config { name: 'a' } }", "a"),
    ],
)
def test_a_models_config_that_makes_no_sense_is_refused(
    cpu_server: Path, tmp_path: Path, config: str, reason: str
) -> None:
    path = tmp_path / "models.config"
    path.write_text(config, encoding="utf-8")
    assert reason in failing(cpu_server, f"--model_config_file={path}").stdout


def test_a_model_that_can_not_be_loaded_ends_the_server_after_its_retries(cpu_server: Path, base: Path) -> None:
    (base / "1" / "saved_model.pb").unlink()
    flags = ("--max_num_load_retries=1", "--load_retry_interval_micros=1000")
    finished = failing(cpu_server, *model_flags(base), *flags)
    assert "1 servable(s) did not become available" in finished.stdout
    assert finished.stderr.count("Reading SavedModel from") == 2


def test_a_server_without_a_model_or_with_a_bad_flag_value_does_not_start(cpu_server: Path) -> None:
    assert "--model_base_path" in failing(cpu_server).stdout
    assert "usage: " in failing(cpu_server, "--port=many").stdout
    assert "--rest_api_port" in failing(cpu_server, "--help").stdout


def test_an_unknown_flag_prints_the_usage_and_the_server_starts_all_the_same(
    cpu_server: Path, tmp_path: Path, base: Path
) -> None:
    with serving(cpu_server, tmp_path, *model_flags(base), "--no_such_flag=1") as client:
        assert "unknown argument: --no_such_flag=1" in client.log
        assert "usage: " in client.log
        assert client.states() == {"1": "AVAILABLE"}


def test_the_version_tells_the_stamped_revision(cpu_server: Path) -> None:
    lines = process.run([cpu_server, "--version"]).stdout.splitlines()
    assert lines == ["TensorFlow ModelServer: 1.15.0-rc2+dev.sha.abc1234", "TensorFlow Library: 1.15.0"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_at_once_even_with_a_connection_open(
    cpu_server: Path, tmp_path: Path, base: Path, number: signal.Signals
) -> None:
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(serving(cpu_server, tmp_path, *model_flags(base)))
        stack.enter_context(socket.create_connection(("127.0.0.1", client.rest_port), timeout=PATIENCE_S))
        client.process.send_signal(number)
        assert client.process.wait(PATIENCE_S) == -number


def test_a_signal_ends_a_server_that_still_waits_for_its_model(cpu_server: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with serving(cpu_server, tmp_path, *model_flags(tmp_path / "empty"), wait=False) as client:
        until(lambda: "No versions of servable" in client.log, "the warning")
        client.process.send_signal(signal.SIGTERM)
        assert client.process.wait(PATIENCE_S) == -signal.SIGTERM
    assert "Running gRPC ModelServer" not in client.log


def test_a_signal_ends_a_server_that_waits_to_try_a_load_again(cpu_server: Path, tmp_path: Path, base: Path) -> None:
    (base / "1" / "saved_model.pb").unlink()
    with serving(cpu_server, tmp_path, *model_flags(base), wait=False) as client:
        until(lambda: "There is no saved_model.pb" in client.log, "the first failure")
        client.process.send_signal(signal.SIGTERM)
        assert client.process.wait(PATIENCE_S) == -signal.SIGTERM


def test_a_taken_grpc_port_ends_the_server_and_a_taken_rest_port_does_not(
    cpu_server: Path, tmp_path: Path, base: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert "gRPC" in failing(cpu_server, *model_flags(base), f"--port={port}").stdout
        flags = (*model_flags(base), f"--rest_api_port={port}")
        with serving(cpu_server, tmp_path, *flags, wait=False) as client:
            until(lambda: "Failed to start HTTP Server" in client.log, "the error")
            assert "Running gRPC ModelServer at 0.0.0.0:" in client.log
            assert client.process.poll() is None


def test_without_an_adapter_the_server_computes_on_the_cpu_and_says_nothing(
    cpu_server: Path, tmp_path: Path, base: Path
) -> None:
    flags = (*model_flags(base), f"--platform_config_file={PLATFORM_CONFIG}")
    with serving(cpu_server, tmp_path, *flags) as client:
        assert client.predict({"inputs": [1, 2]}) == {"outputs": [2.5, 3.0]}
        assert client.predictions_on_npu() == 0
        assert "npu" not in client.log.lower()
    assert check_server(ServerCase(cpu_server)).kinds() == ("adapter-not-linked",)


def test_an_adapter_that_the_linker_dropped_is_missed_in_silence_by_the_server_and_caught_by_verify_serving(
    npu: Npu, tmp_path: Path, base: Path
) -> None:
    adapter = library_directories(npu.ascend)[0] / "_tf_adapter.so"
    dropping = (f"-Wl,-u,{NEEDED_BY_ALL}", "-Wl,--as-needed", "-Wl,--allow-shlib-undefined", str(adapter))
    dropped = npu.objects.link(npu.root / "dropped", *dropping)
    flags = (*model_flags(base), f"--platform_config_file={PLATFORM_CONFIG}")
    with serving(dropped, tmp_path, *flags, env=npu.environment()) as client:
        assert client.predict({"inputs": [1, 2]}) == {"outputs": [2.5, 3.0]}
        assert client.predictions_on_npu() == 0
        assert "npu" not in client.log.lower()
    report = npu.report(dropped)
    assert report.kinds() == ("adapter-not-linked",)
    assert "CPU" in report.text()


def test_with_the_adapter_the_same_answers_come_from_the_npu(npu: Npu, tmp_path: Path, base: Path) -> None:
    flags = (*model_flags(base), f"--platform_config_file={PLATFORM_CONFIG}")
    with serving(npu.server, tmp_path, *flags, env=npu.environment()) as client:
        assert client.predict({"inputs": [1, 2]}) == {"outputs": [2.5, 3.0]}
        assert client.predictions_on_npu() == 1
        assert client.log.count(PLACED) == 1
        maps = Path(f"/proc/{client.process.pid}/maps").read_text(encoding="utf-8")
        assert os.path.realpath(npu.ascend / "tfplugin" / "latest") in maps
    report = npu.report(npu.server)
    assert report.ok, report.text()
    assert os.path.realpath(str(report.adapter)) in maps, "and it is the one that was looked at"


@pytest.mark.parametrize(
    "config",
    [
        "",
        ASKING.replace("b: true", "b: false"),
        ASKING.replace("b: true", "i: 1"),
        ASKING.replace("b: true", 's: "true"'),
        ASKING.replace("NpuOptimizer", "NPUOptimizer"),
    ],
    ids=["none", "off", "on as a number", "on as a text", "another optimizer"],
)
def test_an_adapter_that_the_config_does_not_ask_for_is_not_used(
    npu: Npu, tmp_path: Path, base: Path, config: str
) -> None:
    flags = list(model_flags(base))
    if config:
        (tmp_path / "config.cfg").write_text(config, encoding="utf-8")
        flags.append(f"--platform_config_file={tmp_path / 'config.cfg'}")
    with serving(npu.server, tmp_path, *flags, env=npu.environment()) as client:
        assert client.predict({"inputs": [1, 2]}) == {"outputs": [2.5, 3.0]}
        assert client.predictions_on_npu() == 0
        assert "placed on NPU" not in client.log
        assert SIGN not in client.log


@pytest.mark.parametrize("trouble", ["no variable", "elsewhere", "missing", "damaged", "without Mul"])
def test_without_a_usable_list_of_operators_the_adapter_silently_leaves_the_model_to_the_cpu(
    npu: Npu, tmp_path: Path, base: Path, trouble: str
) -> None:
    environment = npu.environment()
    path = npu.ascend / "ascend-toolkit" / "latest" / cann.OPERATOR_LIST
    if trouble == "no variable":
        del environment["ASCEND_OPP_PATH"]
    elif trouble == "elsewhere":
        environment["ASCEND_OPP_PATH"] = str(tmp_path)
    elif trouble == "missing":
        path.unlink()
    else:
        path.write_text(path.read_text().replace("Mul", "Div") if trouble == "without Mul" else '{"Add": {}, "Mul": {}')
    flags = (*model_flags(base), f"--platform_config_file={PLATFORM_CONFIG}")
    with serving(npu.server, tmp_path, *flags, env=environment) as client:
        assert client.predict({"inputs": [1, 2]}) == {"outputs": [2.5, 3.0]}
        assert client.predictions_on_npu() == 0
        assert "npu" not in client.log.lower()
        assert SIGN not in client.log
        maps = Path(f"/proc/{client.process.pid}/maps").read_text(encoding="utf-8")
        assert "_tf_adapter.so" in maps, "though it is loaded"


def test_the_older_layout_of_the_list_of_operators_is_read_as_well(npu: Npu, tmp_path: Path, base: Path) -> None:
    opp = npu.ascend / "ascend-toolkit" / "latest" / "opp"
    (opp / "framework").mkdir()
    (opp / "built-in" / "framework").rename(opp / "framework" / "built-in")
    (opp / "built-in").rmdir()
    flags = (*model_flags(base), f"--platform_config_file={PLATFORM_CONFIG}")
    with serving(npu.server, tmp_path, *flags, env=npu.environment()) as client:
        assert SIGN not in client.log, "the graph is compiled when it is first run"
        client.predict({"inputs": [1, 2]})
        client.predict({"inputs": [3]})
        assert client.log.count(SIGN) == 1


def test_after_a_cann_upgrade_the_server_lacks_a_symbol_and_a_relink_cures_it(
    npu: Npu, tmp_path: Path, base: Path
) -> None:
    cann.upgrade_sample_cann(npu.root)
    finished = process.run([npu.server, "--version"], env=npu.environment(), check=False)
    assert finished.returncode == 127
    assert "symbol lookup error" in finished.stderr
    assert f"_tf_adapter.so: undefined symbol: {NEEDED_BY_NEXT}" in finished.stderr
    report = npu.report(npu.server)
    assert report.kinds() == ("undefined-symbol",)
    assert NEEDED_BY_NEXT in report.text()

    relinked = npu.link("relinked", NEEDED_BY_ALL, NEEDED_BY_NEXT)
    flags = (*model_flags(base), f"--platform_config_file={PLATFORM_CONFIG}")
    with serving(relinked, tmp_path, *flags, env=npu.environment()) as client:
        assert client.predict({"inputs": 1}) == {"outputs": 2.5}
        assert PLACED.replace("6.3.RC2", "7.0.RC1") in client.log
    assert npu.report(relinked).ok


def test_a_link_that_asks_for_no_symbols_leaves_them_out(npu: Npu) -> None:
    server = npu.link("unasked")
    finished = process.run([server, "--version"], env=npu.environment(), check=False)
    assert finished.returncode == 127
    assert NEEDED_BY_ALL in finished.stderr
    report = npu.report(server)
    assert report.kinds() == ("undefined-symbol",)
    assert NEEDED_BY_ALL in report.text()


def test_a_server_without_the_toolkit_in_its_library_path_does_not_start(npu: Npu) -> None:
    environment = npu.environment()
    toolkit = str(library_directories(npu.ascend)[1])
    environment["LD_LIBRARY_PATH"] = environment["LD_LIBRARY_PATH"].replace(toolkit, "/nonexistent")
    finished = process.run([npu.server, "--version"], env=environment, check=False)
    assert finished.returncode == 127
    assert cann.GE_RUNNER in finished.stderr
    path = [Path(item) for item in environment["LD_LIBRARY_PATH"].split(":")]
    report = check_server(ServerCase(npu.server, library_path=path))
    assert report.kinds() == ("library-not-found",)
    assert cann.GE_RUNNER in report.text()


def test_an_upgrade_keeps_the_old_release_and_moves_latest(tmp_path: Path) -> None:
    ascend = cann.install_sample_cann(tmp_path)
    cann.upgrade_sample_cann(tmp_path)
    for package in ("tfplugin", "ascend-toolkit"):
        assert os.readlink(ascend / package / "latest") == "7.0.RC1"
        assert {path.name for path in (ascend / package).iterdir() if path.is_dir() and not path.is_symlink()} == {
            "6.3.RC2",
            "7.0.RC1",
        }
    info = (ascend / "tfplugin" / "latest" / "ascend_tfplugin_install.info").read_text(encoding="utf-8")
    assert "package_name=Ascend-cann-tfplugin\nversion=7.0.RC1\n" in info


def test_the_names_of_the_options_that_a_release_reads_stand_in_its_adapter_and_no_others(tmp_path: Path) -> None:
    for version in (cann.FIRST_RELEASE, cann.NEXT_RELEASE):
        ascend = cann.install_sample_cann(tmp_path, (version,), version)
        options = session_options().values()
        unread = {option.name for option in options if kind_in(option, version) == NOT_READ}
        adapter = library_directories(ascend)[0] / "_tf_adapter.so"
        assert set(unknown_words(adapter, [option.name for option in options])) == unread, version


def test_an_install_that_is_there_is_left_alone(tmp_path: Path) -> None:
    adapter = library_directories(cann.install_sample_cann(tmp_path))[0] / "_tf_adapter.so"
    before = adapter.stat()
    cann.install_sample_cann(tmp_path)
    assert (adapter.stat().st_ino, adapter.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_an_unknown_release_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"sample has no CANN 1\.0"):
        cann.upgrade_sample_cann(tmp_path, "1.0")


def test_the_archives_are_those_that_are_pinned(tmp_path: Path) -> None:
    first = sample_archives.build_archives(tmp_path)
    assert sorted(path.name for path in first) == sorted(archive.file for archive in sample_archives.load_archives())
    times = [path.stat().st_mtime_ns for path in first]
    assert [path.stat().st_mtime_ns for path in sample_archives.build_archives(tmp_path)] == times


def test_every_pin_stands_where_the_archive_is_declared() -> None:
    for archive in sample_archives.load_archives():
        declared = (SAMPLE_DIRECTORY / archive.pinned_in).read_text(encoding="utf-8")
        assert declared.count(archive.sha256) == 1
        assert archive.prefix.rstrip("/") in declared or archive.repository == "org_tensorflow"


def test_changed_contents_are_noticed_and_can_be_pinned_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = tmp_path / "sample"
    shutil.copytree(SAMPLE_DIRECTORY, sample)
    (sample / "archives" / "llvm" / "WORKSPACE").write_text("changed\n", encoding="utf-8")
    llvm = next(archive for archive in sample_archives.load_archives(sample) if archive.repository == "llvm")
    with monkeypatch.context() as patched:
        patched.setattr(sample_archives, "load_archives", lambda: [llvm])
        patched.setattr(sample_archives, "pack", lambda _: b"changed")
        with pytest.raises(PinMismatchError, match=llvm.sha256):
            sample_archives.build_archives(tmp_path / "out")
    changed = sample_archives.repin(sample)
    assert [name.split(".")[0][:8] for name in changed] == [llvm.file[:8], "daa346be"]  # and TensorFlow, which pins it
    assert sample_archives.repin(sample) == []


def test_the_models_are_those_that_the_code_writes(tmp_path: Path) -> None:
    for version, intercept in (("1", 2), ("2", 3)):
        models.write_linear_model(tmp_path / version, 0.5, intercept)
        for name in ("saved_model.pb", "linear_model.txt"):
            kept = SAMPLE_DIRECTORY / "models" / MODEL / version / name
            assert (tmp_path / version / name).read_bytes() == kept.read_bytes()
