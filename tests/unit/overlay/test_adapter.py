"""The overlay on a tree: what is planned, what is written, what is undone. Libraries come from the real compiler."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import starlark

from npu_serving.elf.symbols import read_elf
from npu_serving.errors import AdapterError, BuildFileError, MissingToolError, NpuServingError, SourceError
from npu_serving.linking.adapter_symbols import symbols_script
from npu_serving.overlay import adapter as overlay
from npu_serving.overlay import buildfile, stubs
from npu_serving.overlay.adapter import (
    apply_overlay,
    plan_overlay,
    plan_removal,
    render_overlay,
    runtime_libraries,
)
from npu_serving.overlay.content import OverlayInputs, python_names

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc here")

SERVER_BUILD = """\
cc_binary(
    name = "tensorflow_model_server",
    stamp = 1,
    deps = [
        ":tensorflow_model_server_main_lib",
    ],
)
"""
GUIDE_NAMES = {  # guide 6.3, what third_party/tf_adapter holds; `temp` is not needed
    "libpython3.7m.so.1.0": "file",
    "libpython3.7m.so": "libpython3.7m.so.1.0",
    "lib_tf_adapter.so": "file",
    "_pywrap_tensorflow_internal.so": "file",
    "libtensorflow_framework.so": "file",
    "libtensorflow_framework.so.1": "libtensorflow_framework.so",
    "CMakeLists.txt": "file",
    "BUILD": "file",
}


def compile_library(path, source, soname=None):
    c = path.with_suffix(".c")
    c.write_text(source)
    name = [f"-Wl,-soname,{soname}"] if soname else []
    subprocess.run(["gcc", "-shared", "-fPIC", *name, "-o", path, c], check=True)
    return path


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    directory = tmp_path_factory.mktemp("libraries")
    source = "void server_registers(void); void ge_run(void); void call(void) { server_registers(); ge_run(); }"
    return {
        "adapter": compile_library(directory / "_tf_adapter.so", source, "_tf_adapter.so"),
        "newer": compile_library(directory / "newer.so", source + "void f(void); void g(void){f();}", "_tf_adapter.so"),
        "python": compile_library(
            directory / "libpython.so", "int Py_Initialize(void) { return 0; }", "libpython3.7m.so.1.0"
        ),
    }


@pytest.fixture(scope="module", autouse=True)
def stubs_are_built_once():
    """CMake's half second is spent once; the stubs are the real ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlay, "build_stubs", functools.lru_cache(stubs.build_stubs))
        yield


@pytest.fixture
def inputs(libraries):
    return OverlayInputs(libraries["adapter"], libraries["python"])


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "serving 1.15.0 'ü"
    (root / "tensorflow_serving/model_servers").mkdir(parents=True)
    (root / "third_party").mkdir()
    (root / "WORKSPACE").write_text('workspace(name = "tf_serving")\n')
    (root / "tensorflow_serving/model_servers/BUILD").write_text(SERVER_BUILD)
    return root


def contents(tree):
    found = {}
    for path in sorted(tree.rglob("*")):
        name = str(path.relative_to(tree))
        found[name] = f"-> {path.readlink()}" if path.is_symlink() else path.is_file() and path.read_bytes()
    return found


def test_the_directory_holds_what_the_guide_says_under_its_names(tree, inputs):
    apply_overlay(plan_overlay(tree, inputs))

    directory = tree / "third_party/tf_adapter"
    for name, kind in GUIDE_NAMES.items():
        path = directory / name
        assert (str(path.readlink()) if path.is_symlink() else "file" if path.is_file() else "") == kind, name
    assert (directory / "lib_tf_adapter.so").read_bytes() == inputs.adapter.read_bytes()
    starlark.parse("BUILD", (directory / "BUILD").read_text())


def test_the_second_plan_is_empty_and_check_says_so(tree, inputs):
    assert render_overlay(tree, inputs, mode="check").exit_code == 3
    apply_overlay(plan_overlay(tree, inputs))
    before = {path: path.lstat().st_mtime_ns for path in tree.rglob("*")}

    result = render_overlay(tree, inputs)

    assert not result.plan.changes
    assert "up to date" in result.text()
    assert render_overlay(tree, inputs, mode="check").exit_code == 0
    assert {path: path.lstat().st_mtime_ns for path in tree.rglob("*")} == before


def test_planning_check_and_diff_change_nothing(tree, inputs):
    before = contents(tree)
    for mode in ("check", "diff", "dry-run"):
        render_overlay(tree, inputs, mode=mode)
    assert contents(tree) == before


def test_the_diff_shows_the_added_deps_and_names_the_binaries(tree, inputs):
    result = render_overlay(tree, inputs, mode="diff")
    added = [line for line in result.text().splitlines() if line.startswith("+        ")]
    assert [line for line in added if "tf_python" in line or "xla_cpu_jit" in line]
    assert "third_party/tf_adapter/lib_tf_adapter.so" in result.text()
    assert json.loads(json.dumps(result.to_json()))["up_to_date"] is False


def test_a_new_adapter_changes_the_adapter_and_its_symbols_and_nothing_else(tree, inputs, libraries):
    apply_overlay(plan_overlay(tree, inputs))

    plan = plan_overlay(tree, OverlayInputs(libraries["newer"], libraries["python"]))

    assert {Path(change.path).name for change in plan.changes} == {"lib_tf_adapter.so", "needed_symbols.lds"}
    apply_overlay(plan)
    assert "EXTERN(f)" in (tree / "third_party/tf_adapter/needed_symbols.lds").read_text()
    assert not plan_overlay(tree, OverlayInputs(libraries["newer"], libraries["python"])).changes


def test_removal_gives_back_the_tree_byte_for_byte(tree, inputs):
    before = contents(tree)
    apply_overlay(plan_overlay(tree, inputs))

    result = render_overlay(tree, None, remove=True)

    assert result.plan.changes
    assert contents(tree) == before
    assert "no overlay" in render_overlay(tree, None, remove=True).text()


def test_removal_keeps_deps_that_were_there_before_us(tree, inputs):
    path = tree / "tensorflow_serving/model_servers/BUILD"
    path.write_text(SERVER_BUILD.replace('_lib",\n', '_lib",\n        "//third_party/tf_adapter:tf_python",\n'))
    before = contents(tree)

    apply_overlay(plan_overlay(tree, inputs))
    apply_overlay(plan_overlay(tree, inputs))
    apply_overlay(plan_removal(tree))

    assert contents(tree) == before


def test_removal_refuses_to_delete_a_file_that_is_not_ours(tree, inputs):
    apply_overlay(plan_overlay(tree, inputs))
    (tree / "third_party/tf_adapter/notes.txt").write_text("mine")
    before = contents(tree)

    with pytest.raises(SourceError, match=r"notes\.txt"):
        plan_removal(tree)
    assert contents(tree) == before


def test_removal_refuses_to_delete_a_file_of_ours_that_was_changed(tree, inputs):
    apply_overlay(plan_overlay(tree, inputs))
    (tree / "third_party/tf_adapter/CMakeLists.txt").write_text("mine")
    with pytest.raises(SourceError, match=r"CMakeLists\.txt \(changed since\)"):
        plan_removal(tree)


def test_a_directory_made_by_hand_is_left_as_it_is(tree, inputs):
    directory = tree / "third_party/tf_adapter"
    directory.mkdir()
    (directory / "BUILD").write_text("# by hand\n")
    before = contents(tree)

    with pytest.raises(SourceError, match="not written by this project"):
        plan_overlay(tree, inputs)
    with pytest.raises(SourceError, match="did not write"):
        plan_removal(tree)
    assert contents(tree) == before


@pytest.mark.parametrize("name", ["../../WORKSPACE", "..", "", "a/b"])
def test_a_record_that_names_a_path_outside_removes_nothing(tree, inputs, name):
    apply_overlay(plan_overlay(tree, inputs))
    digest = hashlib.sha256((tree / "WORKSPACE").read_bytes()).hexdigest()
    record = {"format": 1, "deps_added": [], "files": {name: digest}}
    (tree / overlay.RECORD).write_text(json.dumps(record))
    with pytest.raises(SourceError, match="not a record"):
        plan_removal(tree)
    assert (tree / "WORKSPACE").is_file()


@pytest.mark.parametrize("stop_after", range(11))
def test_a_run_that_was_killed_anywhere_is_finished_by_the_next_one_and_can_be_undone(
    tree, inputs, monkeypatch, stop_after
):
    before = contents(tree)
    carried_out: list[Any] = []
    original = overlay._carry_out

    def killed(*arguments):
        if len(carried_out) == stop_after:
            raise KeyboardInterrupt
        carried_out.append(arguments)
        original(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(overlay, "_carry_out", killed)
        with contextlib.suppress(KeyboardInterrupt):
            apply_overlay(plan_overlay(tree, inputs))
    half_done = contents(tree)
    apply_overlay(plan_removal(tree))
    assert contents(tree) == before, "the half-done overlay can't be taken away"
    assert half_done != before

    with monkeypatch.context() as patched:
        carried_out.clear()
        patched.setattr(overlay, "_carry_out", killed)
        with contextlib.suppress(KeyboardInterrupt):
            apply_overlay(plan_overlay(tree, inputs))
    apply_overlay(plan_overlay(tree, inputs))
    assert not plan_overlay(tree, inputs).changes


def test_the_stubs_carry_the_names_that_the_adapter_asks_for_and_are_the_same_bytes_each_time(tree, inputs, tmp_path):
    apply_overlay(plan_overlay(tree, inputs))
    directory = tree / "third_party/tf_adapter"
    first = {
        name: (directory / name).read_bytes()
        for name in ("_pywrap_tensorflow_internal.so", "libtensorflow_framework.so")
    }

    assert read_elf(directory / "libtensorflow_framework.so").soname == "libtensorflow_framework.so.1"
    assert read_elf(directory / "_pywrap_tensorflow_internal.so").soname == "_pywrap_tensorflow_internal.so"
    assert stubs.build_stubs((directory / "CMakeLists.txt").read_text(), tuple(first)) == first


def test_libraries_to_install_go_by_the_names_that_the_loader_asks_for(tree, inputs):
    apply_overlay(plan_overlay(tree, inputs))
    assert set(runtime_libraries(tree)) == {
        "_tf_adapter.so",
        "libpython3.7m.so.1.0",
        "libtensorflow_framework.so.1",
        "_pywrap_tensorflow_internal.so",
    }


def test_crlf_and_bom_of_the_servers_build_file_survive_the_overlay(tree, inputs):
    path = tree / "tensorflow_serving/model_servers/BUILD"
    path.write_bytes(b"\xef\xbb\xbf" + SERVER_BUILD.replace("\n", "\r\n").encode() + b"# \xff\r\n")
    before = path.read_bytes()

    apply_overlay(plan_overlay(tree, inputs))

    lines = path.read_bytes().split(b"\r\n")
    assert b'        "//third_party/tf_adapter:tf_adapter",' in lines
    assert all(b"\n" not in line for line in lines)
    apply_overlay(plan_removal(tree))
    assert path.read_bytes() == before


def test_a_label_that_a_file_of_the_tree_brings_is_neither_added_nor_removed(tree, inputs):
    (tree / "tensorflow_serving/deps.bzl").write_text('ADAPTER = ["//third_party/tf_adapter"]\n')
    load = 'load("//tensorflow_serving:deps.bzl", "ADAPTER")\n'
    build = load + SERVER_BUILD.replace("    ],\n", "    ] + ADAPTER,\n")
    (tree / "tensorflow_serving/model_servers/BUILD").write_text(build)
    before = contents(tree)

    apply_overlay(plan_overlay(tree, inputs))
    record = json.loads((tree / "third_party/tf_adapter/npu-serving.json").read_text())
    assert record["deps_added"] == list(overlay.server_deps(inputs.xla)[1:])
    assert not plan_overlay(tree, inputs).changes
    apply_overlay(plan_removal(tree))
    assert contents(tree) == before


@pytest.mark.parametrize("mode", ["apply", "check", "diff", "dry-run"])
def test_deps_that_are_not_known_are_refused_in_every_mode_and_nothing_is_changed(tree, inputs, mode):
    path = tree / "tensorflow_serving/model_servers/BUILD"
    load = 'load("@other//:deps.bzl", "COMMON_DEPS")\n'
    path.write_text(load + SERVER_BUILD.replace("    ],\n", "    ] + COMMON_DEPS,\n"))
    before = contents(tree)
    with pytest.raises(BuildFileError, match=r"because of COMMON_DEPS, loaded from @other//:deps\.bzl"):
        render_overlay(tree, inputs, mode=mode)
    assert contents(tree) == before


@pytest.mark.parametrize("which", ["adapter", "libpython"])
@pytest.mark.parametrize("kind", ["missing", "text", "directory", "other machine", "program", "truncated"])
def test_a_library_that_does_not_serve_is_refused_and_the_tree_is_as_it_was(tree, inputs, tmp_path, which, kind):
    bad = tmp_path / "bad.so"
    good = getattr(inputs, which).read_bytes()
    if kind == "text":
        bad.write_text("not a library")
    elif kind == "directory":
        bad.mkdir()
    elif kind == "other machine":
        bad.write_bytes(good[:18] + b"\xb7\x00" + good[20:])  # e_machine: EM_AARCH64
    elif kind == "program":
        bad.write_bytes(good[:16] + b"\x01\x00" + good[18:])  # e_type: ET_REL
    elif kind == "truncated":
        bad.write_bytes(good[:200])
    before = contents(tree)

    with pytest.raises(NpuServingError) as refusal:
        plan_overlay(tree, OverlayInputs(**{"adapter": inputs.adapter, "libpython": inputs.libpython, which: bad}))

    assert isinstance(refusal.value, AdapterError)
    assert str(bad) in refusal.value.what
    assert contents(tree) == before


def test_a_directory_that_is_no_serving_tree_is_refused(tmp_path, inputs):
    with pytest.raises(SourceError, match="is not a TensorFlow Serving tree"):
        plan_overlay(tmp_path, inputs)


def test_a_build_file_without_the_target_leaves_the_tree_as_it_was(tree, inputs):
    (tree / "tensorflow_serving/model_servers/BUILD").write_text("cc_library(name = 'x')\n")
    before = contents(tree)
    with pytest.raises(BuildFileError):
        render_overlay(tree, inputs)
    assert contents(tree) == before


def test_a_link_in_place_of_the_directory_is_not_written_through(tree, inputs, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tree / "third_party/tf_adapter").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match="is a link or a file, not a directory"):
        plan_overlay(tree, inputs)


def test_without_a_compiler_the_cure_is_named(tmp_path, monkeypatch):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("cmake", "make"):
        (tools / name).symlink_to(shutil.which(name) or pytest.skip(f"no {name}"))
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(MissingToolError, match="C compiler") as refusal:
        stubs.build_stubs("", ())
    assert "install" in refusal.value.cure


def test_an_old_cmake_on_path_gives_way_to_the_one_from_pip(tmp_path, monkeypatch):
    pytest.importorskip("cmake")
    old = tmp_path / "cmake"
    old.write_text("#!/bin/sh\necho cmake version 3.10.2\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert stubs._find_cmake() != old


@pytest.mark.parametrize(
    ("soname", "names"),
    [
        ("libpython3.7m.so.1.0", ("libpython3.7m.so.1.0", "libpython3.7m.so")),
        ("libpython3.9.so.1.0", ("libpython3.9.so.1.0", "libpython3.9.so")),
        ("libpython3.so", ("libpython3.so", "libpython3.so")),
    ],
)
def test_the_linker_name_of_libpython_comes_from_its_soname(soname, names):
    assert python_names(soname, Path("x")) == names


@pytest.mark.parametrize("soname", ['lib".so', "libx.so\n", "x.so", "lib/../x.so", "libx.so.1$(rm)", ""])
def test_a_soname_that_would_become_syntax_is_refused(soname):
    with pytest.raises(AdapterError):
        python_names(soname, Path("x"))


@pytest.mark.parametrize("linker", ["bfd", "gold"])
@pytest.mark.parametrize("with_script", [True, False])
def test_the_symbols_script_pulls_archive_members_in_even_where_the_adapter_comes_last(
    tmp_path, libraries, linker, with_script
):
    if shutil.which(f"ld.{linker}") is None:
        pytest.skip(f"there is no {linker} here")
    (tmp_path / "main.c").write_text("int main(void) { return 0; }")
    (tmp_path / "member.c").write_text("void server_registers(void) {}")
    subprocess.run(["gcc", "-c", "member.c"], cwd=tmp_path, check=True)
    subprocess.run(["ar", "rc", "libserver.a", "member.o"], cwd=tmp_path, check=True)
    (tmp_path / "needed.lds").write_text(symbols_script(read_elf(libraries["adapter"])))
    script = ["-Wl,needed.lds"] if with_script else []
    subprocess.run(
        [
            "gcc", f"-fuse-ld={linker}", *script, "main.c", "libserver.a",
            "-Wl,--no-as-needed", libraries["adapter"], "-Wl,--allow-shlib-undefined", "-o", "server",
        ],
        cwd=tmp_path,
        check=True,
    )  # fmt: skip
    assert ("server_registers" in read_elf(tmp_path / "server").defined_names) == with_script


@pytest.mark.parametrize(("first", "second"), [("full", "adapter"), ("adapter", "full")])
def test_a_tree_with_one_form_of_xla_is_changed_over_to_the_other_and_both_go_without_a_trace(
    tree, inputs, first, second
):
    untouched = contents(tree)
    apply_overlay(plan_overlay(tree, replace(inputs, xla=first)))
    other = replace(inputs, xla=second)
    assert render_overlay(tree, other, mode="check").exit_code == 3

    diff = render_overlay(tree, other, mode="diff").text()
    lines = [line for line in diff.splitlines() if "org_tensorflow" in line and line[0] in "+-"]
    wanted = {label for label in overlay.server_deps(second) if label.startswith("@")}
    unwanted = {label for label in overlay.server_deps(first) if label.startswith("@")}
    assert {(line[0], line[1:].strip(' ",')) for line in lines} == {
        *(("+", label) for label in wanted),
        *(("-", label) for label in unwanted),
    }

    apply_overlay(plan_overlay(tree, other))
    assert not plan_overlay(tree, other).changes
    deps = buildfile.read_deps((tree / buildfile.FILE).read_text())
    assert wanted <= set(deps)
    assert not unwanted & set(deps)
    apply_overlay(plan_removal(tree))
    assert contents(tree) == untouched


def test_the_guides_target_in_a_tree_of_ones_own_stays_and_says_that_all_of_xla_is_needed(tree, inputs):
    path = tree / buildfile.FILE
    by_hand = buildfile.add_deps(path.read_text(), labels=overlay.server_deps("full")[-1:])
    path.write_text(by_hand)
    assert overlay.names_full_xla(tree)
    apply_overlay(plan_overlay(tree, inputs))
    assert overlay.names_full_xla(tree)
    assert overlay.server_deps("full")[-1] in buildfile.read_deps(path.read_text())
    apply_overlay(plan_removal(tree))
    assert path.read_text() == by_hand


def test_what_the_overlay_itself_added_is_not_the_trees_own_wish_for_all_of_xla(tree, inputs):
    apply_overlay(plan_overlay(tree, replace(inputs, xla="full")))
    assert not overlay.names_full_xla(tree)
