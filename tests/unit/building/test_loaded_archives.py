"""What a WORKSPACE loads from, on a machine without a network and without a lock: each cure leads on to the lock."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import fault_server as faults
import pytest

from npu_serving import process
from npu_serving.building.locking import LockPlan, LockReport, lock_deps, lock_source, plan_lock
from npu_serving.building.sources import LOCKS, own_lock_path
from npu_serving.console import Silent
from npu_serving.errors import FetchError, NpuServingError, RequestError, WorkspaceError
from npu_serving.fetch.content_store import ContentStore
from npu_serving.lock.lockfile import read_lock
from npu_serving.sample import SAMPLE_DIRECTORY
from npu_serving.settings import PROJECT_ROOT, Settings

VERSION = "".join(
    f"#define TF_MODELSERVER_{part}_VERSION {number}\n" for part, number in (("MAJOR", 7), ("MINOR", 8), ("PATCH", 9))
)


def packed(**files: str) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.bzl"), text)
    return memory.getvalue()


PLAIN = b"an archive that nothing is loaded from" * 10
INNER = packed(
    m='def inner():\n    native.http_archive(name = "plain", url = "https://x.invalid/p/1.0.zip", '
    f'sha256 = "{hashlib.sha256(PLAIN).hexdigest()}")\n'
)
OUTER = packed(m='load("@inner//:m.bzl", "inner")\ndef outer():\n    inner()\n')
OTHER = packed(m="def other():\n    pass\n")
ARCHIVES = {"outer": OUTER, "other": OTHER, "inner": INNER, "plain": PLAIN}
INTERNET = {hashlib.sha256(data).hexdigest(): data for data in ARCHIVES.values()}
BY_NAME = {name: hashlib.sha256(data).hexdigest() for name, data in ARCHIVES.items()}


def declared(name: str, url: str = "", *, sha256: str | None = None) -> str:
    url = url or f"https://x.invalid/{name}/1.0.zip"
    digest = BY_NAME[name] if sha256 is None else sha256
    return f'http_archive(name = "{name}", url = "{url}"' + (f', sha256 = "{digest}")\n' if digest else ")\n")


LOADS = 'load("@outer//:m.bzl", "outer")\nload("@other//:m.bzl", "other")\nouter()\nother()\n'
WORKSPACE = 'workspace(name = "tf_serving")\n' + "".join(map(declared, ("outer", "other", "inner"))) + LOADS


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Those of a machine without a network, and of a tree that there is no lock for."""
    return Settings(source=str(tree(tmp_path, WORKSPACE)), build_root=tmp_path / "build", offline=True)


def tree(root: Path, workspace: str) -> Path:
    texts = {
        "WORKSPACE": workspace,
        "tensorflow_serving/model_servers/version.h": VERSION,
        "tensorflow_serving/model_servers/BUILD": "",
    }
    for name, text in texts.items():
        path = root / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root / "tree"


def by_hand(root: Path, *names: str) -> Path:
    directory = root / "by hand"
    directory.mkdir(exist_ok=True)
    for name in names:
        (directory / f"{name} (1).zip").write_bytes(ARCHIVES[name])
    return directory


def asked_for(message: str) -> list[tuple[str, str]]:
    """File name and digest of each file that a message asks for."""
    return re.findall(r"^ +(\S+)  \([\w ]+, sha256 ([0-9a-f]{64})\)$", message, re.MULTILINE)


def refused(settings: Settings, **words: Any) -> NpuServingError:
    with pytest.raises(NpuServingError) as caught:
        lock_source(settings, Silent(), **words)
    return caught.value


# ---- the road as it is typed


def typed(words: list[str], settings_file: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "npu_serving", "--search-root", str(PROJECT_ROOT), *words]
    environment = {**process.base_environment("/usr/bin:/bin"), "NPU_SERVING_SETTINGS": str(settings_file)}
    return subprocess.run(argv, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, check=False)


def bazel(path: Path) -> Path:
    """A file that says it is the pinned Bazel, so that none has to be fetched."""
    jar = io.BytesIO()
    with zipfile.ZipFile(jar, "w") as opened:
        opened.writestr("build-data.properties", "build.label=0.24.1\n")
    path.write_bytes(b"\x7fELF")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("A-server.jar", jar.getvalue())
    return path


@pytest.mark.parametrize(
    "begin",
    [
        ["lock-deps", "--offline"],
        ["lock-deps", "--offline", "--dry-run"],
        ["fetch-deps", "--offline"],
        ["fetch-deps", "--offline", "--dry-run"],
        ["fetch-deps", "--offline", "--import", "DIR"],
    ],
    ids=" ".join,
)
def test_the_cures_as_they_are_printed_lead_from_nothing_to_a_lock_and_all_archives(
    tmp_path: Path, settings: Settings, begin: list[str]
) -> None:
    directory, settings_file = by_hand(tmp_path), tmp_path / "invoke.yaml"
    paths = {"build_root": tmp_path / "build", "dist_root": tmp_path / "dist", "bazel": bazel(tmp_path / "bazel")}
    lines = "".join(f"  {name}: {json.dumps(str(path))}\n" for name, path in paths.items())
    settings_file.write_text(f"npu_serving:\n{lines}")
    begin = [word.replace("DIR", str(directory)) for word in begin] + ["--source", settings.source]
    goal, words, refusals = ["fetch-deps", "--offline", "--source", settings.source], begin, set()
    asked = []
    while True:
        done = typed(words, settings_file)
        if done.returncode == 0:
            if words == goal:
                break
            words = goal
            continue
        assert done.stderr not in refusals, f"a circle: {done.stderr}"
        refusals.add(done.stderr)
        assert "Traceback" not in done.stderr
        files = asked_for(done.stderr)
        asked.append([name for name, digest in BY_NAME.items() if digest in {sha256 for _, sha256 in files}])
        for file_name, digest in files:
            (directory / f"{len(list(directory.iterdir()))}-{file_name}").write_bytes(INTERNET[digest])
        commands = re.findall(r"\./inv [^;]*", done.stderr.rpartition("Next: ")[2].strip())
        command = next((item for item in commands if "--import" in item), commands[0])
        words = [str(directory) if word == "DIR" else word for word in shlex.split(command)[1:]]
        assert words[0] in ("lock-deps", "fetch-deps"), command
    assert own_lock_path(Path(settings.source), settings).is_file()
    assert {path.read_bytes() for path in (tmp_path / "build/distdir").iterdir() if path.is_file()} >= {PLAIN}
    assert [names for names in asked if names] == [["outer", "other"], ["inner"], ["plain"]]


# ---- what is said and done


def test_all_that_are_missing_are_named_with_urls_digests_and_the_command(settings: Settings) -> None:
    error = refused(settings)
    assert isinstance(error, FetchError)
    assert asked_for(error.what) == [("1.0.zip", BY_NAME["outer"]), ("1.0.zip", BY_NAME["other"])]
    for name in ("outer", "other"):
        assert f"      https://x.invalid/{name}/1.0.zip" in error.what.splitlines()
    assert f"./inv lock-deps --offline --source {settings.source} --import DIR" in error.cure
    assert "without --offline" in error.cure


def test_a_check_sends_on_to_a_check(settings: Settings, tmp_path: Path) -> None:
    lock_source(settings, Silent(), by_hand=by_hand(tmp_path, *ARCHIVES))
    (settings.build_root / "store").rename(tmp_path / "gone")
    assert f"--source {settings.source} --check --import DIR" in refused(settings, check=True).cure


def test_files_of_every_level_are_taken_at_once_whatever_they_are_called(settings: Settings, tmp_path: Path) -> None:
    report = lock_source(settings, Silent(), by_hand=by_hand(tmp_path, *ARCHIVES))
    assert isinstance(report, LockReport)
    assert {item.name for item in report.lock.archives} == set(ARCHIVES)
    assert report.path.is_file()
    assert ContentStore(settings.store_root).check(BY_NAME.values()).missing == (), "those that nothing loads from too"


def test_what_is_in_the_directory_and_none_of_them_is_named(settings: Settings, tmp_path: Path) -> None:
    directory = by_hand(tmp_path, "outer")
    (directory / "other.zip").write_bytes(OTHER[:-1])
    error = refused(settings, by_hand=directory)
    assert [digest for _, digest in asked_for(error.what)] == [BY_NAME["inner"], BY_NAME["other"]]
    assert "are other files: other.zip" in error.cause
    assert shlex.quote(str(directory)) in error.cure


def test_a_directory_that_is_not_there_is_refused_before_anything(settings: Settings, tmp_path: Path) -> None:
    error = refused(settings, by_hand=tmp_path / "none")
    assert isinstance(error, RequestError)
    assert not settings.build_root.exists()


def test_an_archive_without_a_sha256_is_named_with_the_others_and_the_sha256_helps(
    settings: Settings, tmp_path: Path
) -> None:
    unpinned = WORKSPACE.replace(declared("other"), declared("other", sha256=""))
    tree(tmp_path, unpinned)
    error = refused(settings)
    assert "(other, for which the tree declares no sha256)" in error.what
    assert [digest for _, digest in asked_for(error.what)] == [BY_NAME["outer"]]
    assert "write the sha256 of other into the tree" in error.cure
    error = refused(settings, by_hand=by_hand(tmp_path, "outer", "inner"))
    assert isinstance(error, WorkspaceError)
    assert "--pin" not in error.cure, "which --offline forbids"
    tree(tmp_path, WORKSPACE)
    lock_source(settings, Silent(), by_hand=by_hand(tmp_path, *ARCHIVES))


def test_with_a_network_that_fails_all_are_named_and_the_command_is_the_same_without_offline(
    tmp_path: Path, settings: Settings
) -> None:
    with faults.serving() as server:
        text = WORKSPACE.replace("https://x.invalid", f"{server.url}/gone")
        tree(tmp_path, text)
        error = refused(dataclasses.replace(settings, offline=False))
    assert {digest for _, digest in asked_for(error.what)} == {BY_NAME["outer"], BY_NAME["other"]}
    assert "404" in error.what
    assert "name a mirror with --mirror URL" in error.cure
    assert f"./inv lock-deps --source {settings.source} --import DIR" in error.cure


def test_one_that_is_asked_for_only_because_another_is_missing_need_not_come(
    tmp_path: Path, settings: Settings
) -> None:
    with faults.serving() as server:
        first = packed(
            m="def outer():\n    native.http_archive("
            f'name = "other", url = "{server.put("/other.zip", OTHER)}", sha256 = "{BY_NAME["other"]}")\n'
        )
        url, digest = server.put("/first.zip", first), hashlib.sha256(first).hexdigest()
        text = 'workspace(name = "tf_serving")\n' + declared("outer", url, sha256=digest)
        text += 'load("@outer//:m.bzl", "outer")\nouter()\n'
        text += 'load("@bazel_tools//tools/build_defs/repo:http.bzl", "http_archive")\n'
        text += declared("other", f"{server.url}/gone.zip", sha256="ab" * 32)  # for Bazel, the first one counts
        text += 'load("@other//:m.bzl", "other")\nother()\n'
        tree(tmp_path, text)
        report = lock_source(dataclasses.replace(settings, offline=False), Silent())
    assert {item.sha256 for item in report.lock.archives if not item.shadowed} == {digest, BY_NAME["other"]}
    assert server.requests_for("/gone.zip"), "it was asked for, and not waited for"


# ---- the dry run


def test_a_dry_run_names_what_would_be_fetched_changes_nothing_and_ends_in_what_is_written(
    tmp_path: Path, settings: Settings
) -> None:
    online = dataclasses.replace(settings, offline=False)
    plan = plan_lock(online)
    assert [item.label for item in plan.fetching.missing] == ["outer", "other"]
    assert "https://x.invalid/other/1.0.zip" in plan.text()
    assert "lock-deps" not in plan.text()
    assert "fetch what that asks for in turn, and write" in plan.text()
    assert not settings.build_root.exists()
    store = ContentStore(settings.store_root)
    for path in by_hand(tmp_path, *ARCHIVES).iterdir():
        store.adopt(path, hashlib.sha256(path.read_bytes()).hexdigest())
    plan = plan_lock(settings)
    assert plan.changes == ("it is new, with 4 archives",)
    assert not plan.path.exists()
    lock_source(settings, Silent())
    plan = plan_lock(settings)
    assert plan.changes == ()
    assert isinstance(plan, LockPlan)
    assert "there is nothing to do" in plan.text()


def test_an_offline_dry_run_refuses_what_the_run_refuses_in_its_words(settings: Settings) -> None:
    with pytest.raises(FetchError) as planned:
        plan_lock(settings)
    assert str(planned.value) == str(refused(settings))
    assert not settings.build_root.exists()


@pytest.mark.parametrize("source", ["sample", "1.15.0"])
def test_a_dry_run_for_a_source_of_this_project_makes_and_fetches_nothing(tmp_path: Path, source: str) -> None:
    settings = Settings(source=source, build_root=tmp_path / "build")
    plan = plan_lock(settings)
    assert len(plan.fetching.missing) == 1
    assert plan.to_json()["and_then"]
    assert not settings.build_root.exists()


def test_a_dry_run_names_what_no_sha256_is_pinned_for_as_the_run_does(tmp_path: Path, settings: Settings) -> None:
    tree(tmp_path, WORKSPACE.replace(declared("outer"), declared("outer", sha256="")))
    with faults.serving() as server:
        text = (tmp_path / "tree/WORKSPACE").read_text()
        mirror = server.put("/other/1.0.zip", OTHER)[: -len("other/1.0.zip")]
        tree(tmp_path, text.replace("https://x.invalid/", mirror))
        online = dataclasses.replace(settings, offline=False)
        with pytest.raises(WorkspaceError, match="from outer, for which no sha256 is pinned") as planned:
            plan_lock(online)
        assert str(planned.value) == str(refused(online))
    assert "--pin --source" in planned.value.cure


def test_a_source_of_this_project_is_called_in_the_cure_as_it_was_in_the_request(tmp_path: Path) -> None:
    settings = Settings(source="sample", build_root=tmp_path / "build", offline=True)
    lock = dataclasses.replace(read_lock(LOCKS / "sample.json"), archives=())
    with pytest.raises(FetchError) as caught:
        lock_deps(
            SAMPLE_DIRECTORY / "serving",
            tmp_path / "lock.json",
            ContentStore(settings.store_root),
            offline=True,
            facts=lock,
            named="sample",
        )
    assert "./inv lock-deps --offline --source sample --import DIR" in caught.value.cure
