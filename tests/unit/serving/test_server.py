"""Running a server: what is told of a start that fails, of its end, and of one that nobody listens to."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_builds import plan, put_fake_server, put_program, status

from npu_serving import file_access, known_failures
from npu_serving.asking.request import PredictRequest
from npu_serving.asking.rest_client import predict
from npu_serving.cann.environment import CannEnvironment
from npu_serving.console import Silent
from npu_serving.errors import NpuServingError, RequestError, ServerError
from npu_serving.known_failures import diagnose
from npu_serving.serving import preflight
from npu_serving.serving.preflight import LibrariesFound
from npu_serving.serving.server import serve_in_foreground, started

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
        assert Path(f"/proc/{server.pid}/cwd").resolve() == tmp_path / "new" / "log.run"
        assert server.rest_url == f"http://127.0.0.1:{made.rest_api_port}"
        assert server.grpc_port == made.port
        assert not server.adapter_loaded
        os.kill(server.pid, 0)
    assert server.log_path.read_text() == "the fake server listens\n"
    assert [path.name for path in server.log_path.parent.iterdir()] == ["log"], "nothing fell into its directory"
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
    aborts += "        os.abort()\n"
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


def test_a_server_runs_on_the_processors_that_it_is_pinned_to(
    artifact: Path, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    put_program(artifact, "#!/bin/sh\ngrep Cpus_allowed_list /proc/self/status\n")
    one = max(os.sched_getaffinity(0))
    made = dataclasses.replace(plan(artifact, model), processors=(one,))
    heard = Heard()
    assert serve_in_foreground(made, heard, artifact) == 0
    assert capfd.readouterr().out.split() == ["Cpus_allowed_list:", str(one)]
    assert heard.notes[0].startswith(f"taskset -c {one} ")
    with refused("exited before it was ready"), started(made, log_path=tmp_path / "log"):
        pytest.fail("it can't have started")
    assert (tmp_path / "log").read_text().split() == ["Cpus_allowed_list:", str(one)]


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
