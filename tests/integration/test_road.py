"""The whole road on the sample, with the real Bazel, compiler, linker and CMake."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from states import MODEL, PLATFORM_CONFIG, ascend_of, library_path

from npu_serving import fsutil
from npu_serving.asking.request import ROW, PredictRequest
from npu_serving.asking.rest_client import predict
from npu_serving.building import dependencies, overlaying, pipeline
from npu_serving.building.bazel_program import BazelProgram
from npu_serving.building.pipeline import BuildResult, build_serving
from npu_serving.builds.bill_of_materials import bill_of_materials
from npu_serving.builds.current import find_build
from npu_serving.builds.manifest import read_definers
from npu_serving.builds.provenance import provenance
from npu_serving.cann.environment import cann_environment
from npu_serving.cann.install import find_installation
from npu_serving.console import Silent
from npu_serving.elf.symbols import read_elf
from npu_serving.errors import (
    AdapterError,
    BuildFailedError,
    BuildFileError,
    DiskFullError,
    FetchError,
    LockFileError,
    MissingToolError,
    RequestError,
    SourceError,
    StateLockedError,
    VerificationError,
)
from npu_serving.sample import SAMPLE_DIRECTORY
from npu_serving.serving.server import started
from npu_serving.serving.server_plan import plan_server
from npu_serving.settings import PROJECT_ROOT, Settings
from npu_serving.state_lock import state_lock
from npu_serving.trials.spare_server import spare_ports

pytestmark = pytest.mark.bazel


def _tree(settings: Settings) -> Path:
    return settings.build_root / "src" / "sample"


def test_the_server_is_built_with_the_adapter_and_answers_on_the_npu(
    built: BuildResult, sample_settings: Settings
) -> None:
    assert built.record.compiled > 20
    assert "_tf_adapter.so" in read_elf(built.build.server).needed
    _serves(built.build.directory, sample_settings)


def _serves(directory: Path, settings: Settings) -> None:
    port, rest_api_port = spare_ports(2)
    plan = plan_server(
        directory,
        model_base_path=MODEL,
        model_name="m",
        port=port,
        rest_api_port=rest_api_port,
        platform_config_file=PLATFORM_CONFIG,
        cann=cann_environment(find_installation(str(ascend_of(settings))), {}),
    )
    log = settings.build_root / "server.log"
    with started(plan, log_path=log) as server:
        assert server.adapter_loaded
        assert predict(server.rest_url, "m", PredictRequest(ROW, [1.0])).outputs == [3.5]
    assert "placed on NPU" in log.read_text()


def test_a_second_build_with_nothing_changed_starts_no_bazel(built: BuildResult, sample_settings: Settings) -> None:
    events = sample_settings.build_root / "bazel" / "host" / "npu-serving" / "events.json"
    before = events.stat().st_mtime_ns, sorted(sample_settings.logs.iterdir())
    again = build_serving(sample_settings, Silent())
    assert again.plan.nothing_to_do
    assert again.build.manifest == built.build.manifest
    assert (events.stat().st_mtime_ns, sorted(sample_settings.logs.iterdir())) == before


def test_a_dry_run_says_what_is_to_do_and_changes_nothing(
    built: BuildResult, sample_settings: Settings, tmp_path: Path
) -> None:
    settings = dataclasses.replace(sample_settings, build_root=tmp_path / "b", dist_root=tmp_path / "d")
    plan = pipeline.dry_run(settings, Silent())
    assert all(step.needed for step in plan.steps)
    assert list(tmp_path.iterdir()) == []
    with_cann = dataclasses.replace(
        settings,
        cann_root=str(sample_settings.build_root / "sample" / "Ascend"),
        adapter="auto",
        python_prefix=sample_settings.build_root / "sample" / "python3.7.5",
    )
    plan = pipeline.dry_run(with_cann, Silent())
    assert [step.name for step in plan.steps if not step.needed] == ["toolchain"]
    assert "6 archives to fetch" in plan.text()
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set()


def test_the_artifact_runs_elsewhere_and_after_build_is_gone(
    built: BuildResult, sample_settings: Settings, tmp_path: Path
) -> None:
    moved = tmp_path / "a place with blanks"
    shutil.copytree(built.build.directory, moved)
    hidden = sample_settings.build_root.with_name("hidden")
    cann = tmp_path / "state"
    shutil.copytree(sample_settings.build_root / "sample", cann / "sample", symlinks=True)
    sample_settings.build_root.rename(hidden)
    try:
        _serves(moved, dataclasses.replace(sample_settings, build_root=cann))
    finally:
        hidden.rename(sample_settings.build_root)


def test_each_library_is_there_under_its_soname_and_found_withoutlibrary_path(built: BuildResult) -> None:
    names = sorted(path.name for path in built.build.libraries.iterdir())
    assert "_tf_adapter.so" in names
    assert "libpython3.7m.so.1.0" in names
    assert "libtensorflow_framework.so.1" in names
    adapter = read_elf(built.build.libraries / "_tf_adapter.so")
    assert adapter.soname == "_tf_adapter.so"
    environment = {"PATH": "/usr/bin:/bin", "LD_TRACE_LOADED_OBJECTS": "1"}
    traced = subprocess.run([built.build.server], env=environment, capture_output=True, text=True, check=False)
    found = {line.split()[0]: line for line in traced.stdout.splitlines() if "=>" in line}
    for name in names:
        assert str(built.build.libraries) in str(Path(found[name].split()[2]).resolve()), traced.stdout


def test_the_manifest_names_every_input_and_every_file(built: BuildResult) -> None:
    document = json.loads((built.build.directory / "manifest.json").read_text())
    assert document["adapter"]["cann_version"] == "6.3.RC2"
    assert set(document["toolchain"]) >= {"compiler", "glibc", "bazel", "python", "machine", "runner"}
    assert document["source"]["name"] == "sample"
    for name, digest in document["files"].items():
        assert fsutil.sha256_of(built.build.directory / name) == digest
    definers = read_definers(built.build.directory)
    assert "" in definers.values(), "the server itself defines what the adapter needs of TensorFlow"
    assert "libge_runner.so" in definers.values()


def test_a_build_carries_its_bill_of_materials_and_its_provenance(built: BuildResult) -> None:
    manifest = built.build.manifest
    assert manifest.archives
    assert (built.build.directory / "bom.cdx.json").read_text() == bill_of_materials(manifest)
    assert (built.build.directory / "provenance.intoto.json").read_text() == provenance(manifest)


def test_current_and_the_installed_link_lead_to_the_build(built: BuildResult, sample_settings: Settings) -> None:
    assert find_build(sample_settings.dist_root).manifest.build_id == built.build.manifest.build_id
    assert Path(sample_settings.install_link).resolve() == built.build.server.resolve()


def test_the_server_tells_the_sources_identity_and_no_enclosing_repositorys_commit(
    built: BuildResult, sample_settings: Settings
) -> None:
    environment = {"LD_LIBRARY_PATH": ":".join(map(str, library_path(sample_settings)))}
    shown = subprocess.run(
        [built.build.server, "--version"], env=environment, capture_output=True, text=True, check=False
    )
    assert f"sha.{built.build.manifest.source['digest'][:12]}" in shown.stdout + shown.stderr


# ---- bad input


def _spoiled_tree(tmp_path: Path, **files: str | None) -> Path:
    tree = tmp_path / "tree"
    shutil.copytree(SAMPLE_DIRECTORY / "serving", tree)
    for name, text in files.items():
        path = tree / {"workspace": "WORKSPACE", "build": "tensorflow_serving/model_servers/BUILD"}[name]
        if text is None:
            path.unlink()
        else:
            path.write_bytes(text.encode())
    return tree


def _fails(settings: Settings, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        build_serving(settings, Silent())
    assert getattr(caught.value, "cure", ""), "every refusal says what to type next"


def test_a_source_that_is_not_there_is_refused(sample_settings: Settings, tmp_path: Path) -> None:
    for source in ("9.9.9", str(tmp_path / "nowhere"), "sampel"):
        _fails(dataclasses.replace(sample_settings, source=source), SourceError, "Unknown source")


def test_a_directory_or_a_file_that_is_no_serving_source_is_refused(sample_settings: Settings, tmp_path: Path) -> None:
    _fails(dataclasses.replace(sample_settings, source=str(tmp_path)), SourceError, "not a TensorFlow Serving tree")
    other = _spoiled_tree(tmp_path, workspace='workspace(name = "other")\n')
    _fails(dataclasses.replace(sample_settings, source=str(other)), SourceError, "does not declare the workspace")
    (tmp_path / "1.15.0.zip").write_bytes(b"<html>")
    settings = dataclasses.replace(sample_settings, source=str(tmp_path / "1.15.0.zip"))
    _fails(settings, SourceError, "is not an archive of a TensorFlow Serving version")


def test_a_tree_of_another_version_than_the_locks_is_refused(sample_settings: Settings, tmp_path: Path) -> None:
    tree = _spoiled_tree(tmp_path)
    workspace = (tree / "WORKSPACE").read_text()
    found = next(line for line in workspace.splitlines() if "git_commit" in line)
    (tree / "WORKSPACE").write_text(workspace.replace(found, f'    git_commit = "{"0" * 40}",'))
    _fails(dataclasses.replace(sample_settings, source=str(tree)), LockFileError, "for which there is no lock")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda text: text.replace('"tensorflow_model_server"', '"another_server"'), "tensorflow_model_server"),
        (lambda text: text + text[text.index("cc_binary(") :], "tensorflow_model_server"),
        (lambda text: text.replace("cc_binary(", "cc_binary((", 1), "BUILD"),
    ],
    ids=["without the target", "with two of them", "unbalanced"],
)
def test_a_build_file_that_cannot_be_edited_is_left_as_it_was(
    built: BuildResult, sample_settings: Settings, tmp_path: Path, change: object, match: str
) -> None:
    original = (SAMPLE_DIRECTORY / "serving/tensorflow_serving/model_servers/BUILD").read_text()
    text = change(original)  # type: ignore[operator]
    tree = _spoiled_tree(tmp_path, build=text)
    settings = dataclasses.replace(sample_settings, source=str(tree), offline=True)
    _fails(settings, BuildFileError, match)
    assert (tree / "tensorflow_serving/model_servers/BUILD").read_text() == text
    assert not (tree / "third_party/tf_adapter").exists()


@pytest.mark.parametrize("style", ["by hand", "CRLF", "BOM"])
def test_a_tree_patched_by_hand_or_with_other_line_ends_is_built_as_it_is(
    built: BuildResult, sample_settings: Settings, tmp_path: Path, style: str
) -> None:
    original = (SAMPLE_DIRECTORY / "serving/tensorflow_serving/model_servers/BUILD").read_bytes()
    dep = b'        ":tensorflow_model_server_main_lib",\n    ],\n)'
    by_hand = dep.replace(b",\n    ]", b',\n        "//third_party/tf_adapter",\n    ]')
    spoiled = {
        "by hand": original.replace(dep, by_hand),
        "CRLF": original.replace(b"\n", b"\r\n"),
        "BOM": b"\xef\xbb\xbf" + original,
    }[style]
    assert spoiled != original
    tree = _spoiled_tree(tmp_path)
    path = tree / "tensorflow_serving/model_servers/BUILD"
    path.write_bytes(spoiled)
    settings = dataclasses.replace(sample_settings, source=str(tree), adapter="sample")
    overlaying.render(settings)
    added = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\xef\xbb\xbf", b"")
    for label in (b'"//third_party/tf_adapter', b"tf_python", b"graphcycles"):
        assert label in added
    assert overlaying.render(settings, check=True).exit_code == 0
    overlaying.render(settings, remove=True)
    assert path.read_bytes() == spoiled


def test_an_adapter_that_cannot_be_one_is_refused(sample_settings: Settings, tmp_path: Path) -> None:
    text = tmp_path / "text.so"
    text.write_text("#!/bin/sh\n")
    other = tmp_path / "other.so"
    genuine = bytearray(Path("/bin/true").read_bytes())
    genuine[18:20] = (243).to_bytes(2, "little")  # EM_RISCV
    other.write_bytes(genuine)
    for path in (text, other, tmp_path / "missing.so", tmp_path):
        _fails(dataclasses.replace(sample_settings, adapter=str(path)), AdapterError, str(path))


def test_a_truncated_file_in_the_distdir_is_replaced(built: BuildResult, sample_settings: Settings) -> None:
    (victim,) = sample_settings.distdir.glob("v1.1.0.zip")
    whole = victim.read_bytes()
    victim.unlink()
    victim.write_bytes(whole[:100])
    dependencies.fetch_dependencies(sample_settings, Silent())
    assert victim.read_bytes() == whole


def test_a_lock_that_is_not_valid_is_refused_by_name(
    sample_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from npu_serving.building import sources

    (tmp_path / "sample.json").write_text("{")
    monkeypatch.setattr(sources, "LOCKS", tmp_path)
    _fails(sample_settings, LockFileError, "sample.json")


def test_offline_with_something_missing_names_every_file(sample_settings: Settings, tmp_path: Path) -> None:
    settings = dataclasses.replace(sample_settings, source="1.15.0", build_root=tmp_path / "b", offline=True)
    with pytest.raises(FetchError, match=r"v1\.1\.0\.zip"):
        dependencies.fetch_dependencies(settings, Silent())


def test_offline_the_sample_is_fetched_from_the_directory_that_its_archives_are_packed_into(
    sample_settings: Settings, tmp_path: Path
) -> None:
    settings = dataclasses.replace(sample_settings, build_root=tmp_path / "b", offline=True)
    result = dependencies.fetch_dependencies(settings, Silent())
    assert {file.url.split(":")[0] for file in result.report.fetched} == {"file"}
    assert json.loads(json.dumps(result.to_json()))["bazel"]["is_new"] is False


def test_a_bazel_that_came_along_is_told_though_no_archive_was_missing(
    sample_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(sample_settings, build_root=tmp_path / "b", offline=True)
    dependencies.fetch_dependencies(settings, Silent())
    program = BazelProgram(tmp_path / "bazel", "0.24.1", "0" * 64)
    monkeypatch.setattr(dependencies, "find_bazel", lambda *_: program)
    monkeypatch.setattr(dependencies, "fetch_bazel", lambda *_: program.path.write_bytes(b"x"))
    first, second = (dependencies.fetch_dependencies(settings, Silent()) for _ in range(2))
    assert f"Bazel 0.24.1 fetched and verified: {program.path}" in first.text()
    assert "was put in place" not in second.text()


def test_paths_that_bazel_cannot_work_in_are_refused_before_anything_is_done(
    sample_settings: Settings, tmp_path: Path
) -> None:
    for name in ("with blank", "ümlaut", "line\nbreak", "co:lon"):
        settings = dataclasses.replace(sample_settings, build_root=tmp_path / name, dist_root=tmp_path / "d")
        _fails(settings, RequestError, "can't work in")
        assert not (tmp_path / name / "store").exists()


def test_quotes_and_dollars_in_paths_are_fine(sample_settings: Settings, tmp_path: Path) -> None:
    root = tmp_path / "it's$HOME;'quoted'\"&*"
    result = build_serving(
        dataclasses.replace(sample_settings, build_root=root / "b", dist_root=root / "d&d", install_link=""), Silent()
    )
    assert result.record.linked == 1
    assert result.build.server.is_file()


def test_without_a_compiler_the_cure_is_named(sample_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    _fails(sample_settings, MissingToolError, r"gcc|g\+\+")


def test_a_server_without_its_adapter_never_becomes_current(
    built: BuildResult, sample_settings: Settings, tmp_path: Path
) -> None:
    """An adapter whose needs nobody meets: the linker is silent, verify-serving is not."""
    source = tmp_path / "a.c"
    source.write_text("void tensorflow_needs_this(void); void f(void) { tensorflow_needs_this(); }\n")
    adapter = tmp_path / "_tf_adapter.so"
    flags = ["-shared", "-fPIC", "-Wl,-soname,_tf_adapter.so", "-Wl,-z,now"]
    subprocess.run(["gcc", *flags, "-o", adapter, source], check=True)
    settings = dataclasses.replace(
        sample_settings,
        adapter=str(adapter),
        cann_root=str(sample_settings.build_root / "sample" / "Ascend"),
        python_prefix=sample_settings.build_root / "sample" / "python3.7.5",
    )
    before = os.readlink(sample_settings.dist_root / "current")
    with pytest.raises((VerificationError, BuildFailedError), match="tensorflow_needs_this"):
        build_serving(settings, Silent())
    assert os.readlink(sample_settings.dist_root / "current") == before
    assert [path.name for path in sample_settings.dist_root.glob(".serving*")] == []
    build_serving(sample_settings, Silent())


# ---- interruptions


def _child(settings: Settings, log: Path) -> subprocess.Popen[bytes]:
    values = {
        field.name: str(value) if isinstance(value, Path) else value
        for field in dataclasses.fields(settings)
        if (value := getattr(settings, field.name)) not in ("", ())
    }
    script = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from npu_serving.building.pipeline import build_serving\n"
        "from npu_serving.cli import answer\n"
        "from npu_serving.settings import load_settings\n"
        "flags = json.loads(sys.argv[1])\n"
        "answer(lambda console: build_serving(load_settings(Path('/none'), **flags), console), as_json=False)\n"
    )
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-c", script, json.dumps(values)], cwd=PROJECT_ROOT, stdout=file, stderr=file
        )


def _wait_for(condition: object, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def _running_below(root: Path) -> list[str]:
    """The command lines of all processes that name this directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(root) in line and str(os.getpid()) != entry.parent.name:
            found.append(line)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_after_an_interruption_nothing_keeps_running_and_the_next_run_goes_on(
    sample_settings: Settings, tmp_path: Path, number: signal.Signals
) -> None:
    root = tmp_path / "state"
    settings = dataclasses.replace(sample_settings, build_root=root / "b", dist_root=root / "d", install_link="")
    child = _child(settings, tmp_path / "log")
    _wait_for(lambda: list((root / "b" / "bazel").glob("host/*/execroot/tf_serving/bazel-out/*/bin")))
    child.send_signal(number)
    child.wait(timeout=60)
    _wait_for(lambda: not _running_below(root), 30)
    assert not (root / "d" / "current").exists()
    if number == signal.SIGINT:
        assert child.returncode == 130
        assert "nothing that this command started keeps running" in (tmp_path / "log").read_text()
    result = build_serving(settings, Silent())
    assert result.build.server.is_file()


def test_an_analysis_tells_that_everything_is_there_and_compiles_nothing(
    built: BuildResult, sample_settings: Settings
) -> None:
    before = os.readlink(sample_settings.dist_root / "current")
    result = pipeline.analyse(sample_settings, Silent())
    assert "packages loaded" in result.text()
    assert os.readlink(sample_settings.dist_root / "current") == before


def test_two_builds_at_once_exclude_each_other(built: BuildResult, sample_settings: Settings, tmp_path: Path) -> None:
    settings = dataclasses.replace(sample_settings, dist_root=tmp_path / "d", install_link="")
    with state_lock(settings.build_root, doing="build-serving"):
        _fails(settings, StateLockedError, rf"in use by process {os.getpid()} \(build-serving\)")


def test_a_disk_that_fills_up_is_named_and_the_former_build_stays(
    built: BuildResult, sample_settings: Settings, tmp_path: Path
) -> None:
    """A real file system of 20 MB: Bazel unpacks itself onto it and fails. Only root may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "none", disk], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    try:
        shutil.copytree(sample_settings.dist_root, disk / "dist", symlinks=True)
        before = os.readlink(disk / "dist" / "current")
        settings = dataclasses.replace(
            sample_settings, build_root=disk / "b", dist_root=disk / "dist", install_link="", bazel_args=("--copt=-g",)
        )
        with pytest.raises((BuildFailedError, DiskFullError)) as caught:
            build_serving(settings, Silent())
        assert caught.value.exit_code == 1
        assert "full" in caught.value.what + caught.value.cause
        assert "space" in caught.value.cure
        assert os.readlink(disk / "dist" / "current") == before
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
