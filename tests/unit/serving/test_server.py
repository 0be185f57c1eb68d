"""Planning and starting a server: what is refused beforehand, and what is told of a start that fails."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from npu_serving import file_access, known_failures
from npu_serving.cann.environment import CannEnvironment
from npu_serving.client.request import PredictRequest
from npu_serving.client.rest_client import predict
from npu_serving.console import Silent
from npu_serving.errors import NpuServingError, RequestError, ServerError
from npu_serving.known_failures import diagnose
from npu_serving.models.layout import ModelPlace, model_place
from npu_serving.serving import preflight
from npu_serving.serving.preflight import LibrariesFound, socket_warnings
from npu_serving.serving.server import ServerPlan, plan_server, serve_in_foreground, started
from npu_serving.serving.smoke import spare_ports

# Answers as TensorFlow Serving does: 404 at first, then the states that it was given, one after the other.
FAKE_SERVER = r"""
import http.server, json, sys
flags = dict(word[2:].split("=", 1) for word in sys.argv[1:])
answers = {answers!r}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        body = json.dumps(answer).encode()
        self.send_response(404 if "error" in answer else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
print("the fake server listens", flush=True)
http.server.HTTPServer(("127.0.0.1", int(flags["rest_api_port"])), Handler).serve_forever()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def status(state: str, code: str = "OK", message: str = "") -> dict[str, object]:
    entry = {"version": "1", "state": state, "status": {"error_code": code, "error_message": message}}
    return {"model_version_status": [entry]}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    version = tmp_path / "models of 'Zoë'\n" / "m" / "00000123"
    version.mkdir(parents=True)
    (version / "saved_model.pb").touch()
    return version.parent


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    made = tmp_path / 'dist "1" ü'
    (made / "bin").mkdir(parents=True)
    (made / "lib").mkdir()
    put_program(made, "#!/bin/sh\nexit 3\n")
    return made


def put_program(artifact: Path, text: str) -> Path:
    program = artifact / "bin" / "tensorflow_model_server"
    program.write_text(text)
    program.chmod(0o755)
    return program


def put_fake_server(artifact: Path, *answers: Mapping[str, object]) -> None:
    put_program(artifact, f"#!{sys.executable}\n" + FAKE_SERVER.replace("{answers!r}", repr(list(answers))))


def plan(artifact: Path, model: ModelPlace | None, **changes: object) -> ServerPlan:
    port, rest_api_port = spare_ports(2)
    values: dict[str, object] = {"model_name": "m", "port": port, "rest_api_port": rest_api_port, **changes}
    return plan_server(artifact, model_base_path=model, **values)  # type: ignore[arg-type]


def flags_of(made: ServerPlan) -> dict[str, str]:
    return dict(word[2:].split("=", 1) for word in made.argv[1:])


# ---- the plan


@pytest.mark.parametrize("place", ["s3://bucket//models/m", "gs://b/m/", "hdfs://name:9000/m"])
def test_a_model_elsewhere_is_passed_on_untouched_and_not_looked_into(artifact: Path, place: str) -> None:
    made = plan(artifact, model_place(place, "--model-base-path"))
    assert flags_of(made)["model_base_path"] == place


def test_a_plan_names_the_real_program_with_absolute_paths_and_tries_a_bad_model_once(
    artifact: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "current").symlink_to(artifact.name)
    monkeypatch.chdir(model.parent)
    made = plan(Path("..") / "current", Path("m"), rest_api_port=0)
    assert made.argv[0] == str(artifact.resolve() / "bin" / "tensorflow_model_server")
    assert flags_of(made) == {
        "port": str(made.port),
        "rest_api_port": "0",
        "max_num_load_retries": "0",
        "model_name": "m",
        "model_base_path": str(model),
    }
    assert made.to_json()["argv"] == list(made.argv)


def test_the_retries_that_are_asked_for_are_kept(artifact: Path, model: Path) -> None:
    assert flags_of(plan(artifact, model, extra_flags=["--max_num_load_retries=3"]))["max_num_load_retries"] == "3"


def test_flags_that_a_platform_config_makes_useless_are_warned_of(artifact: Path, model: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.cfg"
    config.touch()
    flags = ["--enable_batching", "--tensorflow_session_parallelism=2", "--file_system_poll_wait_seconds=5"]
    (alone,) = plan(artifact, model, extra_flags=flags).warnings
    assert "every model runs on the CPU" in alone
    warnings = plan(artifact, model, extra_flags=flags, platform_config_file=config).warnings[:-1]
    assert [re.match(r"--\w+", warning)[0] for warning in warnings] == [  # type: ignore[index]
        "--enable_batching",
        "--tensorflow_session_parallelism",
    ]


def test_a_list_of_models_takes_the_place_of_a_model_directory(artifact: Path, model: Path, tmp_path: Path) -> None:
    config = tmp_path / "models.config"
    config.touch()
    flags = [f"--model_config_file={config}"]
    assert "model_base_path" not in flags_of(plan(artifact, None, extra_flags=flags))
    with pytest.raises(RequestError, match="cannot be combined"):
        plan(artifact, model, extra_flags=flags)
    with pytest.raises(RequestError, match="No model was named"):
        plan(artifact, None)


def test_a_model_without_a_version_directory_is_refused_with_the_layout(artifact: Path, tmp_path: Path) -> None:
    base = tmp_path / "bare"
    (base / "first").mkdir(parents=True)
    with pytest.raises(RequestError, match="no version directory") as caught:
        plan(artifact, base)
    assert "NAME/VERSION/saved_model.pb" in caught.value.cause


def test_the_highest_version_is_the_one_that_has_to_hold_a_model(artifact: Path, model: Path) -> None:
    (model / "1000").mkdir()
    with pytest.raises(RequestError, match=r"1000 contains no readable saved_model\.pb or saved_model\.pbtxt"):
        plan(artifact, model)
    (model / "1000" / "saved_model.pbtxt").touch()
    plan(artifact, model)


def test_a_version_directory_given_for_its_parent_is_told_from_a_model_without_versions(
    artifact: Path, model: Path
) -> None:
    with pytest.raises(RequestError, match="contains a model itself") as caught:
        plan(artifact, model / "00000123")
    assert caught.value.cure == f"name {model} instead"
    (model / "saved_model.pb").touch()
    with pytest.raises(RequestError, match="contains a model itself") as caught:
        plan(artifact, model)
    assert caught.value.cure.startswith("mkdir")


@pytest.mark.parametrize("changes", [{"port": 0}, {"port": 65536}, {"rest_api_port": -1}, {"rest_api_port": 65536}])
def test_ports_out_of_range_are_refused(artifact: Path, model: Path, changes: dict[str, object]) -> None:
    with pytest.raises(RequestError, match="port must be from"):
        plan(artifact, model, **changes)


def test_one_port_for_both_apis_is_refused(artifact: Path, model: Path) -> None:
    with pytest.raises(RequestError, match="are both 8500"):
        plan(artifact, model, port=8500, rest_api_port=8500)


@pytest.mark.parametrize("which", ["port", "rest_api_port"])
@pytest.mark.parametrize("address", ["127.0.0.1", "::"])
def test_a_port_in_use_is_named_even_when_its_holder_would_share_it(
    artifact: Path, model: Path, which: str, address: str
) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            holder.bind((address, 0))
        except OSError:
            pytest.skip(f"this machine has no address {address}")
        holder.listen(1)
        port = holder.getsockname()[1]
        with pytest.raises(ServerError, match=f"Port {port} for (gRPC|REST) is already in use"):
            plan(artifact, model, **{which: port})


def test_a_directory_that_is_no_build_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="not a finished build"):
        plan(tmp_path, model)


def test_a_server_that_is_not_executable_is_refused(artifact: Path, model: Path) -> None:
    (artifact / "bin" / "tensorflow_model_server").chmod(0o644)
    with pytest.raises(RequestError, match="This user may not execute"):
        plan(artifact, model)


def test_a_build_on_a_file_system_without_exec_is_not_answered_with_chmod(
    artifact: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs

    class Noexec:
        f_flag = os.ST_NOEXEC

    monkeypatch.setattr(os, "statvfs", lambda path: Noexec() if str(path).endswith("/bin") else real(path))
    with pytest.raises(RequestError, match="No program can be started from") as caught:
        plan(artifact, model)
    assert "mounted noexec" in caught.value.cause
    assert "chmod" not in caught.value.cure


def test_a_tmpdir_in_which_cann_can_not_make_its_sockets_is_warned_of_and_a_shorter_one_helps() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        for length, fits in ((107 - 32, True), (107 - 31, False)):
            directory = short + "/" + "d" * (length - len(short) - 1)
            assert (socket_warnings({"TMPDIR": directory}) == []) is fits
            place = Path(directory) / "pymp-XXXXXXXX"
            place.mkdir(parents=True)
            with socket.socket(socket.AF_UNIX) as one:
                if fits:
                    one.bind(str(place / "listener-XXXXXXXX"))
                else:
                    with pytest.raises(OSError, match="too long"):
                        one.bind(str(place / "listener-XXXXXXXX"))
    assert socket_warnings({}) == []
    assert "export TMPDIR=/tmp" in socket_warnings({"TMPDIR": "/" + "d" * 100})[0]


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "with blank", "é", "..", "a\0b", "a?b"])
def test_a_name_that_no_url_could_hold_is_refused(artifact: Path, model: Path, name: str) -> None:
    with pytest.raises(RequestError, match="is not a valid model name"):
        plan(artifact, model, model_name=name)


def test_a_model_directory_with_a_nul_is_refused(artifact: Path) -> None:
    with pytest.raises(NpuServingError):
        plan(artifact, Path("a\0b"))


def test_a_platform_config_that_is_not_there_is_refused(artifact: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"--platform_config_file: the file .* does not exist"):
        plan(artifact, model, platform_config_file=tmp_path / "none")


def test_the_caller_environment_is_not_passed_on_but_for_what_the_server_reads(
    artifact: Path, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ASCEND_DEVICE_ID", "3")
    monkeypatch.setenv("TF_REVISION", "x")
    monkeypatch.setenv("LD_PRELOAD_OF_MINE", "x")
    monkeypatch.setenv("LD_LIBRARY_PATH", f":{tmp_path}/callers:relative")
    made = plan(artifact, model, cann=CannEnvironment((tmp_path / "cann", tmp_path / "cann")))
    assert made.env["ASCEND_DEVICE_ID"] == "3"
    assert not {"TF_REVISION", "LD_PRELOAD_OF_MINE"} & set(made.env)
    assert made.env["LD_LIBRARY_PATH"] == f"{tmp_path}/cann:{tmp_path}/callers"
    assert f"LD_LIBRARY_PATH={tmp_path}/cann" in made.text()


def test_a_variable_that_the_deployment_states_counts_more_than_the_callers_and_canns(
    artifact: Path, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    cann = CannEnvironment(
        (tmp_path / "cann",), {"ASCEND_OPP_PATH": "/cann/opp"}, lists={"PYTHONPATH": (tmp_path / "python",)}
    )
    stated = {
        "OMP_NUM_THREADS": "4",
        "ASCEND_OPP_PATH": "/mine/opp",
        "OF_MY_OWN_OPERATOR": "x",
        "PYTHONPATH": "/mine/python",
        "LD_LIBRARY_PATH": f"{tmp_path}/mine",
    }
    made = plan(artifact, model, cann=cann, variables=stated)
    assert {name: made.env[name] for name in stated} == {
        **stated,
        "PYTHONPATH": f"{tmp_path}/python:/mine/python",
        "LD_LIBRARY_PATH": f"{tmp_path}/cann:{tmp_path}/mine",
    }


def test_a_start_is_not_turned_into_tuning_and_a_plan_in_json_shows_no_secret(
    artifact: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AOE_MODE", "2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "geheim")
    monkeypatch.setenv("https_proxy", "http://me:geheim@proxy:3128")
    made = plan(artifact, model)
    assert "AOE_MODE" not in made.env
    assert made.env["AWS_SECRET_ACCESS_KEY"] == "geheim"
    assert made.unlike_callers["AOE_MODE"] is None
    assert any("AOE_MODE is not passed on" in warning and "aoe_mode" in warning for warning in made.warnings)
    assert "geheim" not in str(made.to_json()) + made.text()


def test_a_library_directory_with_a_colon_is_refused(artifact: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="colon"):
        plan(artifact, model, cann=CannEnvironment((tmp_path / "a:b",)))


# ---- real programs that don't start


def compiled(directory: Path, name: str, source: str, *arguments: str) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc")
    code = directory / f"{name}.c"
    code.write_text(source)
    subprocess.run(["gcc", "-o", directory / name, code, *arguments], check=True)
    return directory / name


@pytest.fixture
def linked(artifact: Path, tmp_path: Path) -> Path:
    """A server that needs _tf_adapter.so, which stands in the artifact's lib directory."""
    work = tmp_path / "work"
    work.mkdir()
    shared = ("-shared", "-fPIC", "-Wl,-soname,_tf_adapter.so")
    library = compiled(work, "_tf_adapter.so", "int start(void) { return 7; }", *shared)
    main = "int start(void); int main(void) { return start(); }"
    program = compiled(work, "server", main, "-Wl,--no-as-needed", str(library))
    shutil.copy(program, artifact / "bin" / "tensorflow_model_server")
    shutil.copy(library, artifact / "lib" / "_tf_adapter.so")
    return work


def test_the_lib_directory_is_in_the_library_path_only_where_the_server_needs_it(
    artifact: Path, model: Path, linked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    assert plan(artifact, model).env["LD_LIBRARY_PATH"] == str(artifact / "lib")
    assert plan(artifact, model, cann=CannEnvironment((linked,))).env["LD_LIBRARY_PATH"] == str(linked)


def test_a_library_that_is_nowhere_is_warned_of_and_recognised(
    artifact: Path, model: Path, linked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    (artifact / "lib" / "_tf_adapter.so").unlink()
    made = plan(artifact, model)
    assert any(warning.startswith("_tf_adapter.so ") for warning in made.warnings)
    with pytest.raises(ServerError, match="exit status 127") as caught, started(made, log_path=tmp_path / "log"):
        pytest.fail("it can't have started")
    assert "_tf_adapter.so is not in any directory" in caught.value.cause
    assert "set_env.sh" in caught.value.cure


def test_a_library_of_the_driver_calls_for_the_driver_and_not_for_cann(
    artifact: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = LibrariesFound(("libascend_hal.so", "libascendcl.so"))
    monkeypatch.setattr(preflight, "find_libraries", lambda _program, _env: missing)
    driver, cann = [text for text in plan(artifact, model).warnings if "was not found" in text]
    assert "/usr/local/Ascend/driver" in driver
    assert "set_env.sh" not in driver
    assert "set_env.sh" in cann


def test_a_library_that_this_user_may_not_read_is_named_with_its_owner_in_place_of_what_would_not_help(
    artifact: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "find_libraries", lambda _program, _env: LibrariesFound(("libascendcl.so",)))
    cann = tmp_path / "cann"
    cann.mkdir()
    (cann / "libascendcl.so").touch()
    for shut in (cann / "libascendcl.so", cann):
        monkeypatch.setattr(file_access, "refused_at", lambda path, shut=shut: shut if path.parent == cann else None)
        if shut.is_file():
            with pytest.raises(ServerError, match="this user may not read") as caught:
                plan(artifact, model, cann=CannEnvironment((cann,)))
            said = str(caught.value)
        else:
            warnings = plan(artifact, model, cann=CannEnvironment((cann,))).warnings
            (said,) = [text for text in warnings if "was not found" in text]
        assert str(shut) in said
        assert "owner " in said
        assert "--install-for-all" in said


def test_a_stub_of_cann_that_is_found_before_the_real_library_is_warned_of_and_the_cure_helps(
    artifact: Path, model: Path, linked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (artifact / "lib" / "_tf_adapter.so").unlink()
    stub, real = tmp_path / "cann" / "devlib", tmp_path / "cann" / "lib64"
    for directory in (stub, real):
        directory.mkdir(parents=True)
        shutil.copy(linked / "_tf_adapter.so", directory)
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{stub}:{real}")
    (warning,) = [text for text in plan(artifact, model).warnings if "stub" in text]
    assert f"{stub}/_tf_adapter.so is a stub," in warning
    assert f"The real one is {real}/_tf_adapter.so" in warning
    monkeypatch.setenv("LD_LIBRARY_PATH", str(real))
    assert not any("stub" in text for text in plan(artifact, model).warnings)


def test_an_undefined_symbol_at_start_is_answered_with_the_relink(
    artifact: Path, model: Path, linked: Path, tmp_path: Path
) -> None:
    source = 'int new_one(void) __asm__("_ZN10tensorflow7new_oneEv"); int start(void) { return new_one(); }'
    newer = compiled(linked, "newer.so", source, "-shared", "-fPIC", "-Wl,-soname,_tf_adapter.so")
    shutil.copy(newer, artifact / "lib" / "_tf_adapter.so")
    with (
        pytest.raises(ServerError, match="undefined symbol: _ZN10tensorflow7new_oneEv") as caught,
        started(plan(artifact, model), log_path=tmp_path / "log"),
    ):
        pytest.fail("it can't have started")
    assert caught.value.cure == "./inv rebuild-after-cann"
    assert "new_one" in caught.value.cause


def test_only_the_log_of_this_start_is_judged(artifact: Path, model: Path, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "server.log"
    log.parent.mkdir()
    log.write_text("server: symbol lookup error: x.so: undefined symbol: old\n")
    put_program(artifact, "#!/bin/sh\necho 'what is this' >&2\nexit 9\n")
    with pytest.raises(ServerError, match="exit status 9") as caught, started(plan(artifact, model), log_path=log):
        pytest.fail("it can't have started")
    assert "what is this" in caught.value.what
    assert "old" not in str(caught.value)
    assert str(log) in caught.value.cure


# The wording is TensorFlow Serving 1.15.0's, and that of glibc's dynamic linker.
@pytest.mark.parametrize(
    ("line", "cause", "cure"),
    [
        (
            "s: /lib/libstdc++.so.6: version `GLIBCXX_3.4.22' not found (required by s)",
            "GLIBCXX_3.4.22 is missing",
            "build-serving --runner docker",
        ),
        ("s: error while loading shared libraries: libascendcl.so: cannot open shared object file: No such file or "
         "directory", "libascendcl.so is not in any", "set_env.sh"),
        ("s: error while loading shared libraries: x.so: file too short", "x.so: file too short", "verify-serving"),
        ("E server.cc:349] Failed to start HTTP Server at localhost:8501", "port 8501", ":8501"),
        ("Failed to start server. Error: Invalid argument: Failed to BuildAndStart gRPC server", "port", "ss -ltnp"),
        ("Failed to start server. Error: Invalid argument: Invalid protobuf file: '/a b/config.cfg'",
         "/a b/config.cfg is not in the text format", "/a b/config.cfg"),
        ("Failed to start server. Error: Unknown: 1 servable(s) did not become available: {{name: m version: 1} due "
         "to error: Not found: no tags}", "no tags", "SavedModel"),
    ],
)  # fmt: skip
def test_a_known_failure_is_recognised(line: str, cause: str, cure: str) -> None:
    found = diagnose(known_failures.SERVING, f"before\n{line}\nafter\n")
    assert found is not None
    assert cause in found.cause
    assert cure in found.cure


def test_an_unknown_failure_is_not_explained_away() -> None:
    assert diagnose(known_failures.SERVING, "Segmentation fault\n") is None


# ---- servers that start


@contextlib.contextmanager
def refused(match: str) -> Iterator[pytest.ExceptionInfo[ServerError]]:
    with pytest.raises(ServerError, match=match) as caught:
        yield caught


def test_the_wait_ends_when_the_model_is_available_not_when_the_port_answers(
    artifact: Path, model: Path, tmp_path: Path
) -> None:
    unknown = {"error": "Could not find any versions of model m"}
    put_fake_server(artifact, unknown, status("START"), status("LOADING"), status("AVAILABLE"))
    made = plan(artifact, model)
    with started(made, log_path=tmp_path / "new" / "log") as server:
        assert server.rest_url == f"http://127.0.0.1:{made.rest_api_port}"
        assert server.grpc_port == made.port
        assert not server.adapter_loaded
        assert "WITHOUT the adapter" in server.text()
        assert server.to_json()["adapter"] is None
        os.kill(server.pid, 0)
    assert server.log_path.read_text() == "the fake server listens\n"
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)


def test_a_model_that_fails_to_load_ends_the_wait_at_once(artifact: Path, model: Path, tmp_path: Path) -> None:
    put_fake_server(artifact, status("END", "NOT_FOUND", "no such tags"))
    with (
        refused("could not load its model(.|\n)*no such tags"),
        started(plan(artifact, model), log_path=tmp_path / "log", timeout_s=20),
    ):
        pytest.fail("it can't have started")


def test_a_server_that_lost_its_rest_port_is_not_waited_for(artifact: Path, model: Path, tmp_path: Path) -> None:
    put_program(artifact, "#!/bin/sh\necho 'Failed to start HTTP Server at localhost:1' >&2\nexec sleep 600\n")
    made = plan(artifact, model)
    with refused("without its REST API"), started(made, log_path=tmp_path / "log", timeout_s=20):
        pytest.fail("it can't have started")


def test_a_server_that_takes_too_long_is_ended_and_its_last_answer_told(
    artifact: Path, model: Path, tmp_path: Path
) -> None:
    put_fake_server(artifact, status("LOADING"))
    made = plan(artifact, model)
    with refused("was not available in time") as caught, started(made, log_path=tmp_path / "log", timeout_s=1.5):
        pytest.fail("it can't have started")
    assert re.search("LOADING|Nothing listens|not answered yet", caught.value.what)


def test_a_server_that_is_killed_is_told_by_its_signal(artifact: Path, model: Path, tmp_path: Path) -> None:
    put_program(artifact, "#!/bin/sh\nkill -9 $$\n")
    with refused(r"killed by SIGKILL \(9\)"), started(plan(artifact, model), log_path=tmp_path / "log"):
        pytest.fail("it can't have started")


def test_a_server_without_a_rest_api_can_not_be_waited_for(artifact: Path, model: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(RequestError, match="REST API"),
        started(plan(artifact, model, rest_api_port=0), log_path=tmp_path / "log"),
    ):
        pytest.fail("it can't have started")


ABORTS = (
    "echo '2024-04-24 06:30:56.081654: F tf_adapter/util/npu_attrs.cc:1204] graph_run_mode value must be 0 or 1' >&2; "
    "kill -ABRT $$"
)


@pytest.mark.parametrize(
    ("dies", "told", "cause"),
    [
        ("kill -ILL $$", "killed by SIGILL (4)", "instructions that this processor lacks ("),
        ("kill -SEGV $$", "killed by SIGSEGV (11)", "libraries that don't belong together"),
        ("kill -BUS $$", "killed by SIGBUS (7)", "of /dev/shm are used"),
        ("kill -KILL $$", "killed by SIGKILL (9)", "health check"),
        ("sh -c 'kill -KILL $$'; exit $?", "killed by SIGKILL (9), exit status 137", "health check"),
        (ABORTS, "killed by SIGABRT (6)", "graph_run_mode value must be 0 or 1"),
        ("echo 'FATAL: kernel too old' >&2; exit 127", "exit status 127", "newer kernel"),
    ],
)
def test_how_a_server_died_is_told_by_its_cause_before_it_was_ready_and_in_the_foreground(
    artifact: Path, model: Path, tmp_path: Path, dies: str, told: str, cause: str
) -> None:
    put_program(artifact, f"#!/bin/sh\nulimit -c 0\n{dies}\n")
    with refused("exited before it was ready") as caught, started(plan(artifact, model), log_path=tmp_path / "log"):
        pytest.fail("it can't have started")
    heard = Heard()
    serve_in_foreground(plan(artifact, model), heard, artifact)
    for text in (str(caught.value), heard.notes[-1]):
        assert told in text
        assert cause in text
        assert "Next: " in text
        assert "read the whole log" not in text


def test_a_server_that_aborts_at_the_first_request_is_explained_by_the_adapters_last_words(
    artifact: Path, model: Path, tmp_path: Path
) -> None:
    put_fake_server(artifact, status("AVAILABLE"))
    program = artifact / "bin" / "tensorflow_model_server"
    aborts = "    def do_POST(self):\n        import os\n        os.system('ulimit -c 0')\n"
    aborts += (
        "        print('x: F tf_adapter/util/npu_attrs.cc:1] input_shape is empty.', file=sys.stderr, flush=True)\n"
    )
    aborts += "        os.kill(os.getpid(), 6)\n"
    program.write_text(program.read_text().replace("    def log_message", aborts + "    def log_message"))
    with (
        refused("ended at a request, before it had answered: killed by SIGABRT") as caught,
        started(plan(artifact, model), log_path=tmp_path / "log") as server,
    ):
        predict(server.rest_url, "m", PredictRequest("instances", [1.0]))
    assert "input_shape is not as the adapter reads it" in caught.value.cause
    assert "input_shape in the platform config" in caught.value.cure


class Heard(Silent):
    """What a person would read."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_in_the_foreground_the_servers_end_is_ours_and_a_known_cause_of_it_is_told(
    artifact: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    put_program(
        artifact,
        "#!/bin/sh\necho 'server: symbol lookup error: x.so: undefined symbol: _ZN10tensorflow3newEv' >&2\nexit 127\n",
    )
    heard = Heard()
    assert serve_in_foreground(plan(artifact, model), heard, artifact) == 127
    assert "undefined symbol: _ZN10tensorflow3newEv" in capfd.readouterr().err
    assert "Next: ./inv rebuild-after-cann" in heard.notes[-1]


def test_a_server_that_was_told_to_end_has_not_failed(artifact: Path, model: Path) -> None:
    put_program(artifact, "#!/bin/sh\nkill -TERM $$\n")
    heard = Heard()
    assert serve_in_foreground(plan(artifact, model), heard, artifact) == -signal.SIGTERM
    assert not any("ended" in note for note in heard.notes)


def test_a_server_that_can_not_be_executed_is_an_error_not_a_traceback(artifact: Path, model: Path) -> None:
    put_program(artifact, "#!/no/such/interpreter\n")
    with pytest.raises(NpuServingError):
        serve_in_foreground(plan(artifact, model), Silent(), artifact)


class NobodyReads(Silent):
    """A console whose reader has left, such as a pager that was closed."""

    def note(self, text: str) -> None:
        if not text.endswith("'"):  # the command, which is shown before
            raise BrokenPipeError


def test_a_server_runs_on_and_its_end_is_ours_when_nobody_reads_what_we_say_of_it(artifact: Path, model: Path) -> None:
    put_program(
        artifact,
        "#!/bin/sh\necho 'Running gRPC ModelServer at 0.0.0.0:8500' >&2\n"
        "echo 'server: symbol lookup error: x.so: undefined symbol: _ZN10tensorflow3newEv' >&2\nexit 127\n",
    )
    assert serve_in_foreground(plan(artifact, model), NobodyReads(), artifact) == 127
