"""How a server ended: its signal, what the machine knows of it, the last words, and the loader's own complaints."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from npu_serving.options.server_environment import server_environment
from npu_serving.serving.ending import Ending, EndWatch, adapter_words, last_words, server_failure

ARGV = ("/opt/bin/tensorflow_model_server",)


def put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


# ---- the machine's evidence


@pytest.mark.parametrize(
    ("group", "directory", "events", "limit"),
    [
        ("0::/system.slice/serving.service", "system.slice/serving.service", "memory.events", "memory.max"),
        ("0::/docker/0123", "", "memory.events", "memory.max"),  # the host's path; the container's group is mounted
        ("7:cpu,memory:/docker/0123\n0::/", "memory/docker/0123", "memory.oom_control", "memory.limit_in_bytes"),
    ],
)
def test_a_kill_for_want_of_memory_is_told_from_one_by_hand_by_the_control_groups_count(
    tmp_path: Path, group: str, directory: str, events: str, limit: str
) -> None:
    put(tmp_path, "proc/self/cgroup", group + "\n")
    place = f"sys/fs/cgroup/{directory}"
    put(tmp_path, f"{place}/{limit}", f"{512 << 20}\n")
    put(tmp_path, f"{place}/{events}", "low 0\noom 4\noom_kill 4\n")
    watch = EndWatch(ARGV, tmp_path)
    by_hand = watch.ending(-signal.SIGKILL).diagnosis("")
    assert by_hand is not None
    assert by_hand.id == "killed"
    put(tmp_path, f"{place}/{events}", "low 0\noom 5\noom_kill 5\n")
    found = watch.ending(-signal.SIGKILL).diagnosis("")
    assert found is not None
    assert found.id == "out-of-memory"
    assert "512 MB" in found.cause


def test_the_kernels_log_tells_how_much_the_killed_server_had_and_only_of_this_start(tmp_path: Path) -> None:
    def record(seconds: float, name: str) -> str:
        text = f"Out of memory: Killed process 77 ({name}) total-vm:9000000kB, anon-rss:4194304kB, file-rss:0kB"
        return f"3,811,{int(seconds * 1e6)},-;{text}\n SUBSYSTEM=memory\n"

    now = time.clock_gettime(time.CLOCK_MONOTONIC)
    put(tmp_path, "dev/kmsg", record(max(0.0, now - 3600), "tensorflow_mode") + record(now + 1, "another"))
    watch = EndWatch(ARGV, tmp_path)
    assert watch.ending(-signal.SIGKILL).evidence == ()
    put(tmp_path, "dev/kmsg", record(now + 1, "tensorflow_mode"))
    found = watch.ending(-signal.SIGKILL).diagnosis("")
    assert found is not None
    assert "the machine's memory was used up, the server had 4096 MB" in found.cause


def test_a_machine_that_tells_nothing_costs_no_traceback(tmp_path: Path) -> None:
    watch = EndWatch(ARGV, tmp_path)
    for number in (signal.SIGKILL, signal.SIGILL, signal.SIGBUS, signal.SIGABRT, signal.SIGSEGV, signal.SIGXCPU):
        found = watch.ending(-number).diagnosis("")
        assert found is not None, number
        assert found.cure
    real = EndWatch(ARGV)
    assert real.ending(-signal.SIGILL).evidence[0].startswith("processor: ")


def test_the_instructions_that_this_processor_lacks_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    put(tmp_path, "proc/cpuinfo", "model name\t: Old One\nflags\t\t: fpu sse4_2 avx\n\nmodel name\t: x\n")
    found = EndWatch(ARGV, tmp_path).ending(-signal.SIGILL).diagnosis("")
    assert found is not None
    assert "(Old One, without avx2, fma, avx512f)" in found.cause


def test_what_was_printed_before_a_kill_is_not_taken_for_its_reason_but_that_before_an_abort_is() -> None:
    said = "E tf_adapter/x.cc:1] odd\nF tf_adapter/util/npu_attrs.cc:9] dump_step string style is error\n"
    killed, aborted = (Ending(-number).diagnosis(said) for number in (signal.SIGKILL, signal.SIGABRT))
    assert killed is not None
    assert aborted is not None
    assert (killed.id, aborted.id) == ("killed", "dump-step")


def test_a_tls_file_that_is_no_text_is_named_where_the_server_aborts_without_a_word() -> None:
    error = server_failure("x", "", EndWatch((*ARGV, "--ssl_config_file=/etc/my tls.config")).ending(-signal.SIGABRT))
    assert "/etc/my tls.config" in error.cause


def test_a_tls_file_with_paths_is_not_taken_for_a_port_in_use() -> None:
    output = "Failed to start server. Error: Invalid argument: Failed to BuildAndStart gRPC server\n"
    with_tls = server_failure("x", output, EndWatch((*ARGV, "--ssl_config_file=/etc/tls.config")).ending(255))
    assert "the keys of /etc/tls.config" in with_tls.cause
    assert "port" in server_failure("x", output, EndWatch(ARGV).ending(255)).cause


@pytest.mark.parametrize(("status", "text"), [(3, "exit status 3"), (255, "exit status 255"), (0, "exit status 0")])
def test_an_exit_status_is_not_taken_for_a_signal(status: int, text: str) -> None:
    assert Ending(status).text() == text
    assert Ending(status).diagnosis("something new") is None


# ---- the adapter's last words


MISMATCH = (
    "Failed to start server. Error: Unknown: 1 servable(s) did not become available: {{name: m version: 1} due to "
    "error: Invalid argument: Restoring from checkpoint failed. This is most likely due to a mismatch between the "
    "current graph and the graph from the checkpoint.}\n"
)


def test_the_adapters_error_is_the_reason_behind_restoring_failed_and_not_the_mismatch() -> None:
    words = last_words(f"2023: E tf_adapter/kernels/geop_npu.cc:958] the graph has no inputs\n{MISMATCH}")
    assert words is not None
    assert "TF Adapter could not run the model's graph: the graph has no inputs" in words.cause
    option = last_words(
        "2023: E tf_adapter/util/npu_attrs.cc:1] if use dump function, dump_path must be set.\n" + MISMATCH
    )
    assert option is not None
    assert option.id == "option-needs-another"
    alone = last_words(MISMATCH)
    assert alone is not None
    assert "is a guess" in alone.cause


def test_an_error_line_of_an_adapter_that_failed_nothing_explains_nothing() -> None:
    assert adapter_words("E tf_adapter/kernels/geop_npu.cc:958] no profiling\n") is None
    missing = last_words("E tf_adapter/x.cc:1] no profiling\ns: error while loading shared libraries: liba.so: bad\n")
    assert missing is not None
    assert missing.id == "unfit-library"


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("x: F tf_adapter/util/npu_attrs.cc:1] something that no table has\n", "something that no table has"),
        ("[2024-04-24 06:30:56.081654: F ge_plugin.cc:338] [GePlugin] Initialize ge failed, ret : failed\n"
         "Error Message is : \nEI0003: 2024-04-24-06:30:52.388.386 In [HcomInitByFile], value [0] for parameter "
         "[rankTablePath] is invalid.\n", "rank table"),
        ("F tf_adapter/util/ge_plugin.cc:338] [GePlugin] Initialize ge failed, ret : failed\nError Message is : \n"
         "EL0005: [PID: 809] 2025-06-03-15:33:52.410.982 The resources are busy.\n", "used by another process"),
        ("F tf_adapter/util/ge_plugin.cc:338] [GePlugin] Initialize ge failed, ret : failed\n", "gave no code"),
        ("F x.cc:1] y\nE19999: Inner Error!\n", "E19999: Inner Error!"),
        ("F tensorflow/core/platform/cpu_feature_guard.cc:37] The TensorFlow library was compiled to use AVX512F "
         "instructions, but these aren't available on your machine.\n", "AVX512F"),
    ],
)  # fmt: skip
def test_an_abort_is_told_by_what_was_said_last(output: str, said: str) -> None:
    found = Ending(-signal.SIGABRT).diagnosis(output)
    assert found is not None
    assert said in found.cause


# ---- the loader itself


def compiled(directory: Path, name: str, source: str, *arguments: str) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc")
    directory.mkdir(exist_ok=True)
    (directory / f"{name}.c").write_text(source)
    subprocess.run(["gcc", "-o", directory / name, directory / f"{name}.c", *arguments], check=True)
    return directory / name


def library(directory: Path, name: str, source: str, *arguments: str) -> Path:
    return compiled(directory, name, source, "-shared", "-fPIC", f"-Wl,-soname,{name}", *arguments)


def run(program: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env: Mapping[str, str] = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run([program, *arguments], env=env, capture_output=True, text=True, check=False)


OPENS = """
#include <dlfcn.h>
#include <stdio.h>
int main(int count, char** words) {
  if (dlopen(words[1], RTLD_NOW)) return 0;
  fprintf(stderr, "%s\\n", dlerror());
  return 1;
}
"""


def test_a_library_without_static_tls_left_is_told_and_to_preload_it_helps(tmp_path: Path) -> None:
    text = '__thread char held[1 << 16] __attribute__((tls_model("initial-exec"))); char* f(void) { return held; }'
    wanted = library(tmp_path, "libwanted.so", text)
    program = compiled(tmp_path, "opens", OPENS, "-ldl")
    refused = run(program, str(wanted))
    found = last_words(refused.stderr)
    assert found is not None, refused.stderr
    assert found.id == "static-tls"
    (preload,) = re.findall(r"export LD_PRELOAD=(\S+)", found.cure)
    assert run(program, str(wanted), LD_PRELOAD=preload).returncode == 0
    export = dict(re.findall(r"export (\w+)=([^\s;)]+)", found.cure))
    assert server_environment(export).variables == export, "what the cure exports reaches the server"
    assert set(export) == {"LD_PRELOAD", "GLIBC_TUNABLES"}


def test_a_version_of_an_older_library_that_is_found_first_is_told_and_to_take_it_away_helps(tmp_path: Path) -> None:
    script = tmp_path / "script"
    source = "int f(void) { return 0; } int g(void) { return 0; }"
    versions = "GOMP_1.0 { global: f; local: *; };", "GOMP_1.0 { global: f; };\nGOMP_4.5 { global: g; };"
    for name, text in zip(("old", "new"), versions):
        script.write_text(text)
        library(tmp_path / name, "libgomp.so.1", source, f"-Wl,--version-script={script}")
    main = "int f(void); int g(void); int main(void) { return f() + g(); }"
    program = compiled(tmp_path, "server", main, str(tmp_path / "new" / "libgomp.so.1"))
    old, new = str(tmp_path / "old"), str(tmp_path / "new")
    found = last_words(run(program, LD_LIBRARY_PATH=f"{old}:{new}").stderr)
    assert found is not None
    assert found.id == "gomp-version"
    assert f"{old}/libgomp.so.1, is older" in found.cause
    assert "take its directory out of LD_LIBRARY_PATH" in found.cure
    assert run(program, LD_LIBRARY_PATH=new).returncode == 0


def test_half_of_an_upgrade_is_told_with_the_symbol_and_its_version(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("ADP_1 { global: f; g; local: *; };")
    whole = "int f(void) { return 0; } int g(void) { return 0; }"
    made = library(tmp_path, "libcann.so", whole, f"-Wl,--version-script={script}")
    program = compiled(tmp_path, "server", "int g(void); int main(void) { return g(); }", str(made), "-Wl,-z,now")
    script.write_text("ADP_1 { global: f; local: *; };\nADP_2 { global: g; };")
    library(tmp_path, "libcann.so", whole, f"-Wl,--version-script={script}")
    found = last_words(run(program, LD_LIBRARY_PATH=str(tmp_path)).stderr)
    assert found is not None
    assert found.id in ("symbol-of-version", "relocation")  # in the words of newer and of older C libraries
    assert "needs g in version ADP_1" in found.cause


def test_a_symbol_of_canns_is_not_answered_with_a_relink_that_could_not_help() -> None:
    for symbol, row in (
        ("_ZN2ge10GEFinalizeEv", "undefined-symbol"),
        ("aclrtSetDevice", "undefined-symbol"),
        ("_ZN2ge5ParseERKN10tensorflow8GraphDefE", "undefined-symbol"),
        ("_ZNSt6vectorIN10tensorflow6TensorESaIS1_EE7reserveEm", "server-symbol"),
        ("_ZTIN6google8protobuf7MessageE", "server-symbol"),
        ("PyUnicode_AsUTF8", "python-symbol"),
    ):
        found = last_words(f"s: symbol lookup error: /a/_tf_adapter.so: undefined symbol: {symbol}\n")
        assert found is not None
        assert found.id == row, symbol
        assert ("rebuild-after-cann" in found.cure) is (row == "server-symbol")


def test_a_real_illegal_instruction_a_real_crash_and_a_real_truncated_file_are_told(tmp_path: Path) -> None:
    truncated = """
        import mmap, os, resource, sys
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with open(sys.argv[1], "wb+") as file:
            file.truncate(1 << 16)
            held = mmap.mmap(file.fileno(), 1 << 16)
            file.truncate(0)
            held[1 << 15]
    """
    script = tmp_path / "truncated.py"
    script.write_text("\n".join(line[8:] for line in truncated.splitlines()))
    ends = subprocess.run([sys.executable, script, tmp_path / "file"], capture_output=True, check=False).returncode
    found = EndWatch(ARGV).ending(ends).diagnosis("")
    assert found is not None
    assert found.id == "bus-error"
    no_core = "#include <sys/resource.h>\nstruct rlimit none; int main(void) { setrlimit(RLIMIT_CORE, &none); %s }"
    for name, text in (("illegal-instruction", "__builtin_trap();"), ("segmentation-fault", "*(int*)8 = 1;")):
        program = compiled(tmp_path, name, no_core % text, "-O0", "-w")
        found = EndWatch(ARGV).ending(run(program).returncode).diagnosis("")
        assert found is not None
        if os.uname().machine == "x86_64":
            assert found.id == name
