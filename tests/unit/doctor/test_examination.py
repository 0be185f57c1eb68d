"""What doctor says about a machine: every rule at its boundary."""

from __future__ import annotations

import gc
import json
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest
from cann_trees import OPERATOR_LIST, make_cann
from doctor_world import PLAIN, World, healthy_world

from npu_serving.building.patching import patch_findings
from npu_serving.console import Silent
from npu_serving.doctor import checks
from npu_serving.doctor.examination import SPECIAL_CHECKS, examine
from npu_serving.doctor.requirements import load_requirements, load_serving_requirements
from npu_serving.findings import NOT_NEEDED, OK, PROBLEM, WARNING
from npu_serving.settings import Settings


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("npu_serving.doctor.checks_system.fsutil.free_bytes", lambda _path: 100 * 10**9)
    return healthy_world(tmp_path / "a machine, it's ours é")


@pytest.fixture
def no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    yield
    gc.collect()  # the docker SDK leaves the socket of a failed connection to the garbage collector


# What it leaves is no leak of ours; the collector may come by in the middle of such a test.
ENGINELESS = (
    pytest.mark.usefixtures("no_engine"),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
)


def engineless(test: Callable[..., None]) -> Callable[..., None]:
    for mark in ENGINELESS:
        test = mark(test)
    return test


def test_a_machine_with_everything_in_its_lowest_version_has_no_problem(world: World) -> None:
    report = world.examine()
    assert [finding.kind for finding in report.with_verdict(PROBLEM)] == []
    assert {finding.kind for finding in report.with_verdict(WARNING)} <= {"cann"}
    assert report.exit_code == 0


def test_warnings_alone_leave_the_exit_code_at_0_and_a_problem_makes_it_3(world: World) -> None:
    world.without("swig")
    assert world.examine().exit_code == 0
    world.without("zip")
    assert world.examine().exit_code == 3


@pytest.mark.parametrize(
    ("version", "verdict"),
    [("8.3.0", PROBLEM), ("8.4.0", OK), ("8.4", OK), ("12.2.0", OK), ("7.5.0", PROBLEM), ("13", OK), ("8", PROBLEM)],
)
def test_gcc_serves_from_8_4_on(world: World, version: str, verdict: str) -> None:
    world.tool("gcc", version)
    assert world.finding("gcc").severity == verdict


@pytest.mark.parametrize(("version", "verdict"), [("8.3.1", PROBLEM), ("8.4.0", OK)])
def test_gxx_serves_from_8_4_on(world: World, version: str, verdict: str) -> None:
    world.tool("g++", version)
    assert world.finding("g++").severity == verdict


@pytest.mark.parametrize(("gxx", "verdict"), [("8.4.0", OK), ("8.5.0", PROBLEM), ("9.4.0", PROBLEM)])
def test_gcc_and_gxx_have_to_be_exactly_the_same_version(world: World, gxx: str, verdict: str) -> None:
    world.tool("g++", gxx)
    found = world.finding("gcc-is-g++")
    assert found.severity == verdict
    assert found.found == f"gcc 8.4.0, g++ {gxx}"


@pytest.mark.parametrize("name", PLAIN)
def test_each_plain_tool_that_is_missing_is_a_problem_with_the_package_to_install(world: World, name: str) -> None:
    world.tool("apt-get")
    world.without(name)
    (problem,) = world.examine().with_verdict(PROBLEM)
    package = {"libtoolize": "libtool"}.get(name, name)
    assert problem.cure == f"apt-get install -y {package}"
    assert problem.fix_is_safe


@pytest.mark.parametrize(("manager", "package"), [("apt-get", "g++"), ("dnf", "gcc-c++"), ("yum", "gcc-c++")])
def test_the_cure_speaks_the_language_of_the_package_manager_that_is_here(
    world: World, manager: str, package: str
) -> None:
    world.tool(manager)
    world.without("g++")
    assert world.finding("g++").cure == f"{manager} install -y {package}"


def test_the_cure_names_sudo_for_a_user_who_is_not_root(world: World) -> None:
    world.tool("apt-get")
    world.without("zip")
    world.on(user_id=12345)
    assert world.finding("zip").cure == "sudo apt-get install -y zip"


def test_a_tool_outside_the_path_of_the_build_counts_as_missing(world: World, tmp_path: Path) -> None:
    world.on(build_path=str(tmp_path / "usr bin"))
    found = world.finding("autoconf")
    assert found.severity == PROBLEM
    assert str(world.bin / "autoconf") in found.found


@pytest.mark.parametrize(
    ("architecture", "version", "verdict"),
    [
        ("x86_64", "4.0.0", WARNING),
        ("x86_64", "4.0.1", OK),
        ("x86_64", "3.0.12", WARNING),
        ("aarch64", "3.0.11", WARNING),
        ("aarch64", "3.0.12", OK),
    ],
)
def test_swig_is_asked_for_in_the_version_of_the_architecture_but_only_warned_about(
    world: World, architecture: str, version: str, verdict: str
) -> None:
    world.on(architecture=architecture)
    world.tool("swig", f"\nSWIG Version {version}\n\nCompiled with g++ 9.9.9")
    assert world.finding("swig").severity == verdict


@pytest.mark.parametrize(("version", "verdict"), [("3.13.5", PROBLEM), ("3.14.0", OK), ("3.25.1", OK), ("4.0.0", OK)])
def test_cmake_serves_from_3_14_on(world: World, version: str, verdict: str) -> None:
    world.tool("cmake", f"cmake version {version}\n\nCMake suite maintained by Kitware")
    assert world.finding("cmake").severity == verdict


@pytest.mark.parametrize("on_path", [None, "cmake version 3.10.2"])
def test_pips_cmake_counts_where_the_one_on_path_is_missing_or_too_old(world: World, on_path: str | None) -> None:
    world.without("cmake")
    if on_path:
        world.tool("cmake", on_path)
    assert world.finding("cmake").severity == PROBLEM
    world.script(world.machine.venv_bin / "cmake", "echo cmake version 3.31.0")
    assert world.finding("cmake").severity == OK


@pytest.mark.parametrize(
    ("label", "x86", "arm"),
    [
        ("0.24.0", WARNING, PROBLEM),
        ("0.24.1", OK, OK),
        ("0.24.1- (@non-git)", OK, OK),
        ("0.26.1", OK, OK),
        ("0.26.2", WARNING, PROBLEM),
        ("0.27.0", WARNING, PROBLEM),
        ("7.4.1", WARNING, PROBLEM),
    ],
)
def test_bazel_serves_from_0_24_1_to_0_26_1_and_is_replaced_only_where_a_release_exists(
    world: World, label: str, x86: str, arm: str
) -> None:
    world.bazel(label)
    assert world.finding("bazel").severity == x86
    world.on(architecture="aarch64")
    assert world.finding("bazel").severity == arm


def test_without_a_bazel_the_pinned_one_is_fetched_on_x86_64_and_has_to_be_made_on_aarch64(world: World) -> None:
    world.without("bazel")
    assert world.finding("bazel").severity == OK
    assert "fetches the pinned 0.24.1" in world.finding("bazel").found
    world.set(offline=True)
    assert world.finding("bazel").severity == WARNING
    world.on(architecture="aarch64")
    found = world.finding("bazel")
    assert found.severity == PROBLEM
    assert "bazel-0.24.1-dist.zip" in found.cure


def test_a_bazel_that_was_set_is_a_problem_when_it_does_not_serve(world: World) -> None:
    other = world.bazel("0.29.0", world.root / "my bazel")
    world.set(bazel=str(other))
    found = world.finding("bazel")
    assert found.severity == PROBLEM
    assert "build-serving can't use it" in found.found
    world.set(bazel=str(world.root / "nothing"))
    assert world.finding("bazel").severity == PROBLEM


def test_bazels_version_is_read_from_its_file_without_starting_it(world: World) -> None:
    world.bazel("0.25.2")  # which can't be started
    found = world.finding("bazel")
    assert found.severity == OK
    assert found.found.startswith("0.25.2 ")


def test_a_script_named_bazel_is_not_started_and_the_pinned_release_takes_its_place(world: World) -> None:
    world.script(world.root / "bin/bazel", f"touch '{world.root}/started'; echo Build label: 0.24.1")
    found = world.finding("bazel")
    assert found.severity == WARNING
    assert "fetches the pinned 0.24.1" in found.found
    assert not (world.root / "started").exists()


@pytest.mark.parametrize(
    ("version", "verdict"), [("11.0.13", OK), ("11", OK), ("17.0.15", PROBLEM), ("1.8.0", PROBLEM)]
)
def test_jdk_11_is_needed_where_bazel_has_to_be_bootstrapped(world: World, version: str, verdict: str) -> None:
    world.on(architecture="aarch64")
    assert world.finding("jdk").severity == NOT_NEEDED
    world.without("bazel")
    assert world.finding("jdk").severity == PROBLEM
    world.script(world.root / "usr/lib/jvm/java/bin/javac", "")
    (world.root / "usr/lib/jvm/java/release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    assert world.finding("jdk").severity == verdict
    world.on(architecture="x86_64")
    assert world.finding("jdk").severity == NOT_NEEDED


@pytest.mark.parametrize(("manager", "package"), [("apt-get", "openjdk-11-jdk"), ("yum", "java-11-openjdk-devel")])
def test_a_missing_jdk_is_installed_by_the_package_manager_with_what_it_depends_on(
    world: World, manager: str, package: str
) -> None:
    world.on(architecture="aarch64")
    world.without("bazel")
    world.tool(manager)
    assert world.finding("jdk").cure == f"{manager} install -y {package}"


def test_the_jdk_of_java_home_counts(world: World) -> None:
    world.on(architecture="aarch64", java_home=str(world.root / "my jdk"))
    world.without("bazel")
    world.script(world.root / "my jdk/bin/javac", "")
    (world.root / "my jdk/release").write_text('JAVA_VERSION="11.0.2"\n')
    assert world.finding("jdk").severity == OK


@pytest.mark.parametrize(
    ("version", "verdict"),
    [("3.7.5", OK), ("3.7.4", WARNING), ("3.7.17", WARNING), ("3.8.0", PROBLEM), ("2.7.18", PROBLEM)],
)
def test_python_is_3_7_5_and_another_3_7_is_warned_about(world: World, version: str, verdict: str) -> None:
    world.python(world.prefix / "bin/python3.7", version)
    assert world.finding("python").severity == verdict


def test_a_python_without_its_shared_library_is_a_problem(world: World) -> None:
    (world.prefix / "lib/libpython3.7m.so.1.0").unlink()
    found = world.finding("libpython")
    assert found.severity == PROBLEM
    assert "--enable-shared" in found.cure


def test_a_shared_python_is_started_with_its_own_library_directory(world: World) -> None:
    told = '{"version": "3.7.5", "builtins": "", "packages": {}}'
    world.script(
        world.prefix / "bin/python3.7", f'[ "$LD_LIBRARY_PATH" = "${{0%/bin/*}}/lib" ] && printf "%s\\n" \'{told}\''
    )
    assert world.finding("python").severity == OK


@pytest.mark.parametrize("name", ["tensorflow", "tensorflow-serving-api"])
@pytest.mark.parametrize(
    ("version", "verdict"), [("1.15.0", OK), ("1.15.5", WARNING), ("1.14.0", WARNING), ("", WARNING)]
)
def test_the_python_packages_of_the_guide_are_warned_about_only(
    world: World, name: str, version: str, verdict: str
) -> None:
    packages = {name.replace("-", "_"): version} if version else {}
    program = world.python(world.prefix / "bin/python3.7", **packages)
    found = world.finding(name)
    assert found.severity == verdict
    if verdict == WARNING:
        assert found.cure == f"{shlex.quote(str(program))} -m pip install {name}==1.15.0"


def test_packages_are_those_that_the_interpreter_itself_sees(world: World, tmp_path: Path) -> None:
    site = tmp_path / "its packages"
    for name in (
        "tensorflow-1.15.0.dist-info",
        "tensorflow_serving_api-1.15.0.dist-info",
        "future-0.18.2-py3.7.egg-info",
    ):
        (site / name).mkdir(parents=True)
    real = shlex.quote(sys.executable)
    world.script(world.prefix / "bin/python3.7", f'PYTHONPATH={shlex.quote(str(site))} exec {real} "$@"')
    assert world.finding("tensorflow").found == "1.15.0"
    assert world.finding("tensorflow-serving-api").found == "1.15.0"
    assert world.finding("future").found == "0.18.2"


def test_future_is_needed_under_python_2_only(world: World) -> None:
    program = world.prefix / "bin/python3.7"
    world.python(program, "3.7.5")
    assert world.finding("future").severity == NOT_NEEDED
    world.python(program, "2.7.18")
    assert world.finding("future").severity == PROBLEM
    world.python(program, "2.7.18", future="0.18.2")
    assert world.finding("future").severity == OK


def test_the_very_interpreter_of_the_build_scripts_imports_builtins(world: World) -> None:
    other = world.python(world.root / "py2/bin/python", "2.7.18", error="ImportError: No module named builtins")
    world.set(python_bin=str(other))
    found = world.finding("builtins")
    assert found.severity == PROBLEM
    assert "No module named builtins" in found.found
    assert found.cure == f"{shlex.quote(str(other))} -m pip install future"
    world.set(python_bin=sys.executable)
    assert world.finding("builtins").severity == OK


def test_an_interpreter_that_is_missing_or_does_not_start_is_a_problem(world: World) -> None:
    world.set(python_bin=str(world.root / "none"))
    assert world.finding("builtins").severity == PROBLEM
    broken = world.script(world.root / "broken/bin/python", "echo libpython3.7m.so.1.0: cannot open >&2; exit 127")
    world.set(python_bin=str(broken))
    assert "libpython3.7m.so.1.0: cannot open" in world.finding("builtins").found


def test_python_that_is_missing_or_python_2_without_future_is_warned_about(world: World) -> None:
    assert world.finding("python-link").severity == OK
    (world.root / "usr/bin/python").unlink()
    found = world.finding("python-link")
    assert found.severity == WARNING
    assert "ln -s" in found.cure
    world.without("python")
    world.python(world.bin / "python", "2.7.18", error="ImportError: No module named builtins")
    assert world.finding("python-link").severity == WARNING
    world.without("python")
    assert world.finding("python-link").found.startswith("no python on PATH")


def test_the_link_of_python_is_never_changed_by_fix(world: World) -> None:
    (world.root / "usr/bin/python").unlink()
    assert not world.finding("python-link").fix_is_safe


@pytest.mark.parametrize(
    ("libc", "gcc", "said"),
    [
        ("glibc 2.27", "8.4.0", "none is called for by glibc 2.27 and gcc 8.4.0"),
        ("glibc 2.30", "8.4.0", "applied: grpc-gettid"),
        ("glibc 2.36", "12.2.0", "applied: grpc-gettid, hwloc-sysctl, libevent-arc4random, boringssl-warnings, sta"),
    ],
)
def test_the_fixes_that_this_toolchain_calls_for_are_named_and_checked_with_the_lock(
    world: World, libc: str, gcc: str, said: str
) -> None:
    world.on(libc=libc)
    world.tool("gcc", gcc)
    found = world.finding("patches")
    assert found.severity == OK
    assert found.found.startswith(said)
    assert "gettid" not in world.finding("glibc").found


def test_another_c_library_is_a_problem(world: World) -> None:
    world.on(libc="")
    assert world.finding("glibc").severity == PROBLEM


@pytest.mark.parametrize(
    ("source", "free_gb", "verdict"),
    [
        ("1.15.0", 3.9, PROBLEM),
        ("1.15.0", 4.0, WARNING),
        ("1.15.0", 19.9, WARNING),
        ("1.15.0", 20.0, OK),
        ("sample", 0.9, PROBLEM),
        ("sample", 1.0, OK),
    ],
)
def test_free_disk_space_is_judged_by_the_size_of_the_tree(
    world: World, monkeypatch: pytest.MonkeyPatch, source: str, free_gb: float, verdict: str
) -> None:
    monkeypatch.setattr("npu_serving.doctor.checks_system.fsutil.free_bytes", lambda _path: int(free_gb * 10**9))
    world.set(source=source)
    assert world.finding("disk").severity == verdict


@pytest.mark.parametrize(
    ("memory_mb", "jobs", "verdict"),
    [(3071, 0, PROBLEM), (3072, 0, OK), (3072, 2, WARNING), (5120, 2, OK), (5119, 2, WARNING)],
)
def test_memory_has_to_be_enough_for_the_jobs_that_run_at_once(
    world: World, memory_mb: int, jobs: int, verdict: str
) -> None:
    world.on(memory_mb=memory_mb)
    world.set(jobs=jobs)
    assert world.finding("memory").severity == verdict


def test_a_build_root_that_is_a_file_or_below_one_is_a_problem(world: World) -> None:
    (world.root / "file").touch()
    for place in (world.root / "file", world.root / "file/below"):
        world.set(build_root=place)
        assert world.finding("build-root").severity == PROBLEM


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_build_root_that_may_not_be_written_to_is_a_problem(world: World) -> None:
    closed = world.root / "closed"
    closed.mkdir(mode=0o555)
    world.set(build_root=closed / "build")
    assert world.finding("build-root").severity == PROBLEM


@pytest.mark.parametrize(("architecture", "verdict"), [("x86_64", OK), ("aarch64", OK), ("ppc64le", PROBLEM)])
def test_other_architectures_than_the_two_of_cann_are_a_problem(world: World, architecture: str, verdict: str) -> None:
    world.on(architecture=architecture)
    assert world.finding("architecture").severity == verdict


@engineless
def test_an_adapter_that_is_named_has_to_be_a_library_that_is_there(world: World) -> None:
    assert world.finding("tfplugin").severity == OK
    Path(world.settings.adapter).write_text("no library")
    assert world.finding("tfplugin").severity == PROBLEM
    Path(world.settings.adapter).unlink()
    assert world.finding("tfplugin").severity == PROBLEM
    assert world.finding("tfplugin", "docker").severity == PROBLEM


def test_the_sample_without_its_adapter_is_warned_about_with_the_command_that_takes_it(
    world: World, tmp_path: Path
) -> None:
    (tmp_path / "no cann").mkdir()
    world.set(source="sample", adapter="auto", cann_root=str(tmp_path / "no cann"), python_prefix=tmp_path)
    for name in ("tfplugin", "libpython"):
        assert world.finding(name).severity == WARNING
        assert world.finding(name).cure.endswith("--adapter sample")


@pytest.mark.parametrize("source", ["sample", "1.15.0"])
def test_an_adapter_that_is_named_and_not_there_is_a_problem_whatever_is_built(
    world: World, tmp_path: Path, source: str
) -> None:
    world.set(source=source, adapter=str(tmp_path / "none.so"))
    finding = world.finding("tfplugin")
    assert finding.severity == PROBLEM
    assert "none.so" in finding.found
    assert "--adapter auto" in finding.cure
    assert world.examine().exit_code == 3


def test_without_cann_auto_finds_no_adapter_and_the_server_alone_is_only_warned_about(
    world: World, tmp_path: Path
) -> None:
    empty = tmp_path / "no cann"
    empty.mkdir()
    world.set(adapter="auto", cann_root=str(empty))
    assert world.finding("tfplugin").severity == PROBLEM
    assert world.finding("cann").severity == WARNING


def test_a_cann_without_its_list_of_operators_is_found_with_what_follows_and_what_to_install(
    world: World, tmp_path: Path
) -> None:
    root = make_cann(tmp_path / "Ascend")
    world.set(cann_root=str(root))
    assert "CPU" not in world.finding("cann").found
    path = root / "ascend-toolkit/latest" / OPERATOR_LIST
    path.write_text("{")
    finding = world.finding("cann")
    assert f"{path} is not valid JSON" in finding.found
    assert "silently served by the CPU" in finding.found
    assert "Ascend-cann-toolkit" in finding.cure


def test_the_sample_needs_a_compiler_cmake_and_python_and_none_of_the_rest(world: World) -> None:
    world.set(source="sample", adapter="sample", python_prefix=world.root / "none")
    for name in (*PLAIN, "swig", "bazel"):
        if name != "make":
            world.without(name)
    report = world.examine()
    assert report.exit_code == 0
    assert report.with_verdict(WARNING) == ()
    world.without("g++")
    assert [finding.kind for finding in world.examine().with_verdict(PROBLEM)] == ["g++"]


def test_an_old_compiler_is_only_warned_about_for_the_sample(world: World) -> None:
    world.set(source="sample")
    world.tool("gcc", "7.5.0")
    world.tool("g++", "7.5.0")
    assert world.finding("gcc").severity == WARNING


@engineless
def test_an_engine_that_does_not_answer_is_a_problem_for_docker_and_not_looked_at_for_the_host(world: World) -> None:
    found = world.finding("docker", "docker")
    assert found.severity == PROBLEM
    assert found.cure
    assert world.finding("docker-disk", "docker").severity == NOT_NEEDED
    assert world.finding("docker").severity == NOT_NEEDED


@engineless
def test_auto_is_the_host_where_no_engine_answers(world: World) -> None:
    assert world.examine("auto").runner == "host"


@engineless
def test_docker_needs_none_of_the_tools_that_the_image_brings(world: World) -> None:
    report = world.examine("docker")
    verdicts = {finding.kind: finding.severity for finding in report.findings}
    for name in ("zip", "unzip", "libtool", "automake", "autoconf", "patch", "swig", "bazel", "jdk", "dpkg-record"):
        assert verdicts[name] == NOT_NEEDED


def test_what_is_not_needed_is_not_run(world: World) -> None:
    trace = world.root / "ran"
    world.script(world.bin / "swig", f": > {shlex.quote(str(trace))}")
    world.set(source="sample")
    world.examine()
    assert not trace.exists()


@pytest.mark.parametrize(
    "body",
    [
        "while :; do /bin/sleep 60; done",
        "trap '' INT TERM; while :; do /bin/sleep 60; done",
        "while :; do echo spam spam 9; done",
        "/usr/bin/head -c 5000000 /dev/zero; /bin/sleep 60",
    ],
    ids=["hangs", "hangs and ignores signals", "never stops printing", "prints zeros and hangs"],
)
def test_a_tool_that_hangs_or_floods_is_a_finding_like_any_other(
    world: World, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    from npu_serving import process

    monkeypatch.setattr(checks, "SECONDS_FOR_AN_ANSWER", 0.3)
    monkeypatch.setattr(process, "SECONDS_AFTER_INTERRUPT", 0.1)
    monkeypatch.setattr(process, "SECONDS_AFTER_TERMINATE", 0.1)
    world.script(world.bin / "swig", body)
    found = world.finding("swig")
    assert found.severity == WARNING
    assert "did not finish within" in found.found or "never stops printing" in found.found


@pytest.mark.parametrize("output", ["", "\x1b[31mrot\x1b[0m", "version one point oh", "\ud800\udcff", "٣.١"])
def test_a_tool_that_prints_garbage_is_a_finding_that_any_terminal_can_show(world: World, output: str) -> None:
    (world.bin / "garbage").write_bytes(output.encode("utf-8", "surrogatepass"))
    world.script(world.bin / "gcc", f'/bin/cat "{world.bin}/garbage"')
    found = world.finding("gcc")
    assert found.severity == PROBLEM
    assert found.found.isprintable()
    assert found.found.encode()


def test_a_tool_that_can_not_be_started_is_a_finding(world: World) -> None:
    (world.bin / "gcc").write_bytes(b"\x7fELF but no more")
    assert "can't be started" in world.finding("gcc").found


def test_a_python_that_prints_garbage_is_a_finding(world: World) -> None:
    for output in ("[]", "{}", "null", '{"version": 1}', "", "Traceback (most recent call last)"):
        world.script(world.prefix / "bin/python3.7", f"echo {shlex.quote(output)}")
        assert world.finding("python").severity == PROBLEM


def test_cures_can_be_pasted_whatever_the_path_holds(tmp_path: Path) -> None:
    import shlex

    world = healthy_world(tmp_path / 'it\'s; a $(path) with "quotes"\nand é')
    world.python(world.prefix / "bin/python3.7", future="1")
    (world.prefix / "lib/libpython3.7m.so.1.0").unlink()
    words = shlex.split(world.finding("tensorflow").cure)
    assert words == [str(world.prefix / "bin/python3.7"), "-m", "pip", "install", "tensorflow==1.15.0"]
    assert f"--prefix={world.prefix}" in shlex.split(world.finding("libpython").cure)


def test_problems_come_first_with_their_cures_then_warnings_then_what_is_fine(world: World) -> None:
    world.tool("apt-get")
    world.without("zip")
    world.without("swig")
    text = world.examine().text()
    assert text.index("Problem: zip") < text.index("Warning: swig") < text.index("Fine: ") < text.index("Not needed")
    assert "cure      apt-get install -y zip" in text
    assert "./inv doctor --fix can fix 2" in text


def test_json_has_every_finding_with_all_that_a_program_needs(world: World) -> None:
    world.without("zip")
    document = json.loads(json.dumps(world.examine().to_json()))
    assert document["problems"] == 1
    assert document["exit_code"] == 3
    assert {finding["id"] for finding in document["findings"]} == set(load_requirements())
    keys = {"id", "title", "section", "required", "why", "found", "verdict", "cure", "fix_is_safe"}
    assert all(set(finding) == keys for finding in document["findings"])


def test_every_problem_and_warning_has_a_cure(tmp_path: Path) -> None:
    root = tmp_path / "bare"
    (root / "bin").mkdir(parents=True)
    world = healthy_world(tmp_path / "model")
    world.on(
        path=str(root / "bin"), build_path=str(root / "bin"), root=root, libc="", architecture="riscv64", memory_mb=1
    )
    world.set(python_prefix=root / "python", adapter="none", python_bin=str(root / "python"))
    for manager in ("", "yum", "apt-get"):
        if manager:
            world.script(root / "bin" / manager, "")
        report = world.examine()
        assert len(report.with_verdict(PROBLEM)) > 15
        for finding in report.with_verdict(PROBLEM) + report.with_verdict(WARNING):
            assert finding.cure, finding.kind
            assert finding.why


def test_every_check_has_its_row_and_every_row_its_check() -> None:
    table = {**load_requirements(), **load_serving_requirements()}
    assert set(SPECIAL_CHECKS) <= set(table)
    assert all(row.program or name in SPECIAL_CHECKS for name, row in table.items())


def test_the_real_machine_can_be_examined_and_its_real_gcc_is_found(tmp_path: Path) -> None:
    report = examine(Settings(source="sample", build_root=tmp_path), "host", Silent(), patches=patch_findings)
    findings = {finding.kind: finding for finding in report.findings}
    if findings["gcc"].severity == OK:
        assert findings["gcc"].found.split()[0][0].isdigit()
    assert report.text()
