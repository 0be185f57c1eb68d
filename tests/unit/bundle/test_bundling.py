"""bundle and unbundle: what goes in, where it comes out, and what only the bundle's own digest can vouch for."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import IO, Callable, Literal

import pytest
from packed_links import small_kit

from npu_serving import bootstrap
from npu_serving.bundle import bundling, unbundling
from npu_serving.bundle.bundling import BundleRequest, BundleResult, make_bundle, plan_bundle
from npu_serving.bundle.reader import Bundle, copy_member, read_bundle
from npu_serving.bundle.unbundling import plan_unbundle, unbundle
from npu_serving.bundle.wheels import PYTHONS, Target, fetch_wheels, held_wheels, pinned_packages
from npu_serving.bundle.writer import BundleMember, Manifest, MemberPlace, write_bundle
from npu_serving.console import Silent
from npu_serving.errors import (
    DiskFullError,
    FetchError,
    FileAccessError,
    KitError,
    MissingToolError,
    PinMismatchError,
    RequestError,
)
from npu_serving.fetch.content_store import ContentStore
from npu_serving.fetch.toolchains import Tool
from npu_serving.relink_kit.kit_file import checksum_file, write_checksum
from npu_serving.settings import PROJECT_ROOT, Settings

HERE = (platform.machine(), f"{sys.version_info[0]}.{sys.version_info[1]}")
BAZEL = b"\x7fELF bazel"
SOURCES = b"bazel's sources"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def wheel(directory: Path, name: str, version: str, tag: str = "py3-none-any") -> tuple[Path, str]:
    path = directory / f"{name}-{version}-{tag}.whl"
    directory.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(f"{name}/__init__.py", "")
        packed.writestr(
            f"{name}-{version}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        packed.writestr(f"{name}-{version}.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
    return path, sha256(path.read_bytes())


def tool(name: str, kind: Literal["program", "archive", "sources"], where: str, data: bytes) -> Tool:
    url = f"https://tools.invalid/{name}-{kind}"
    return Tool(name, "1", where, kind, sha256(data), len(data), (url,), ("this test",))


TOOLS = (
    tool("bazel", "program", f"linux-{HERE[0]}", BAZEL),
    tool("bazel", "sources", "any", SOURCES),
    tool("gcc", "sources", "any", b"gcc"),
    tool("jdk", "archive", "linux-riscv64", b"jdk"),
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that needs one package, on one side; its tools are small, and its wheels lie in wheels/."""
    place = tmp_path / "project"
    lines = []
    for version, tag in (("1.0", "py3-none-any"), ("2.0", "py3-none-any")):
        _, digest = wheel(place / "wheels", "sample_package", version, tag)
        lines.append(f"sample-package=={version} ; python_full_version {'<' if version == '1.0' else '>='} '3.10' \\")
        lines.append(f"    --hash=sha256:{digest} \\\n    --hash=sha256:{'0' * 64}")
    (place / "requirements.txt").write_text("\n".join(lines) + "\n")
    _, digest = wheel(place / "wheels", "sample_tests", "3.0")
    (place / "requirements-dev.txt").write_text(f"sample-tests==3.0 \\\n    --hash=sha256:{digest}\n")
    for module in (bundling, unbundling, bootstrap):
        monkeypatch.setattr(module, "PROJECT_ROOT", place)
    for module in (bundling, unbundling):
        monkeypatch.setattr(module, "read_tools", lambda: TOOLS)
    return place


def settings_in(directory: Path) -> Settings:
    settings = Settings(source="sample", build_root=directory / "build", dist_root=directory / "dist", offline=True)
    store = ContentStore(settings.store_root)
    (directory / "tool").parent.mkdir(parents=True, exist_ok=True)
    for data in (BAZEL, SOURCES, b"gcc"):
        (directory / "tool").write_bytes(data)
        store.adopt(directory / "tool", sha256(data))
    from npu_serving.building.inputs import make_sample_archives

    make_sample_archives(settings)
    for path in (settings.build_root / "sample" / "archives").iterdir():
        store.adopt(path, sha256(path.read_bytes()))
    return settings


@pytest.fixture
def here(tmp_path: Path, project: Path) -> Settings:
    """A machine that has everything."""
    return settings_in(tmp_path / "here")


@pytest.fixture
def there(tmp_path: Path, here: Settings) -> Settings:
    """A machine that has nothing."""
    return replace(here, build_root=tmp_path / "there" / "build", dist_root=tmp_path / "there" / "dist")


def bundled(settings: Settings, path: Path, **asked: object) -> BundleResult:
    return make_bundle(settings, BundleRequest(output=path, **asked), Silent())  # type: ignore[arg-type]


def kinds(result: BundleResult) -> dict[str, set[str]]:
    members = result.manifest.members
    return {kind: {item.file_name for item in members if item.kind == kind} for kind in {m.kind for m in members}}


# ---- what goes in


def test_what_a_build_needs_goes_in_and_no_more(here: Settings, tmp_path: Path) -> None:
    found = kinds(bundled(here, tmp_path / "b"))
    assert found["tool"] == {"bazel-program"}
    version = "1.0" if sys.version_info < (3, 10) else "2.0"
    assert found["wheel"] == {f"sample_package-{version}-py3-none-any.whl"}
    assert len(found["archive"]) == 6
    assert "1.3.15.tar.gz" not in found["archive"], "declared, needed by nobody"


def test_more_goes_in_when_it_is_asked_for(here: Settings, tmp_path: Path) -> None:
    found = kinds(bundled(here, tmp_path / "b", everything=True, toolchains=True, development=True))
    assert found["tool"] == {"bazel-program", "bazel-sources", "gcc-sources"}
    assert "sample_tests-3.0-py3-none-any.whl" in found["wheel"]
    assert "1.3.15.tar.gz" in found["archive"]


def test_where_nobody_publishes_a_bazel_its_sources_go_in(here: Settings, tmp_path: Path) -> None:
    other = "aarch64" if HERE[0] == "x86_64" else "x86_64"
    assert kinds(bundled(here, tmp_path / "b", machine=other))["tool"] == {"bazel-sources"}


def test_the_same_inputs_give_the_same_digest_on_another_machine(here: Settings, tmp_path: Path, project: Path) -> None:
    other = settings_in(tmp_path / "another place")
    assert bundled(here, tmp_path / "a").sha256 == bundled(other, tmp_path / "b").sha256
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_packages_are_chosen_for_the_other_machines_python(here: Settings, tmp_path: Path) -> None:
    for python in PYTHONS:
        found = kinds(bundled(here, tmp_path / "b", python=python))
        version = "1.0" if python == "3.9" else "2.0"
        assert found["wheel"] == {f"sample_package-{version}-py3-none-any.whl"}, python


@pytest.mark.parametrize(("flag", "value"), [("python", "3.8"), ("python", "3"), ("machine", "sparc")])
def test_a_machine_that_this_project_is_not_for_is_refused(
    here: Settings, tmp_path: Path, flag: str, value: str
) -> None:
    with pytest.raises(RequestError, match=value):
        bundled(here, tmp_path / "b", **{flag: value})


def test_a_dry_run_tells_what_would_go_in_and_changes_nothing(here: Settings, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    plan = plan_bundle(here, BundleRequest(tmp_path / "b"))
    assert sorted(tmp_path.rglob("*")) == before
    assert "6 archives" in plan.text()
    assert json.loads(json.dumps(plan.to_json()))["wheels_to_fetch"] is True
    assert plan.fetching.missing == ()


def test_an_output_that_is_no_file_is_refused_before_anything_is_done(here: Settings, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for output in (tmp_path / "pipe", tmp_path):
        with pytest.raises(RequestError, match="can't be replaced by a file"):
            plan_bundle(here, BundleRequest(output))
        with pytest.raises(RequestError, match="can't be replaced by a file"):
            bundled(here, output)
    assert (tmp_path / "pipe").is_fifo()


def test_an_output_that_cannot_be_written_is_told_before_anything_is_fetched(
    there: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_args: object, dir: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("npu_serving.fsutil.tempfile.TemporaryFile", read_only)
    with pytest.raises(FileAccessError, match="Read-only file system"):
        bundled(there, tmp_path / "b")  # where nothing is, so that a fetch would have been a FetchError


def test_a_bundle_that_does_not_fit_on_its_disk_is_not_begun(
    here: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("npu_serving.fsutil.free_bytes", lambda place: 10 if place == tmp_path else 10**12)
    with pytest.raises(DiskFullError, match="only 10 B") as caught:
        bundled(here, tmp_path / "b")
    assert "--output" in caught.value.cure
    assert not (tmp_path / "b").exists()


def test_offline_what_is_missing_is_named_and_no_bundle_is_left(there: Settings, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"bazel-program"):
        bundled(there, tmp_path / "b")
    with pytest.raises(FetchError, match=r"bazel-program"):
        plan_bundle(there, BundleRequest(tmp_path / "b"))
    assert not (tmp_path / "b").exists()


def test_packages_that_can_not_be_had_are_told_with_what_pip_says(
    here: Settings, tmp_path: Path, project: Path
) -> None:
    for path in (project / "wheels").iterdir():
        path.unlink()
    with pytest.raises(FetchError, match="sample-package"):
        bundled(here, tmp_path / "b")


def test_every_package_of_this_project_is_pinned_for_every_python_and_processor() -> None:
    for python in PYTHONS:
        for machine in ("x86_64", "aarch64"):
            packages = pinned_packages(PROJECT_ROOT, Target(python, machine), development=True)
            names = [package.name for package in packages]
            assert {"invoke", "packaging", "pytest"} <= set(names)
            assert "colorama" not in names, "that one is for Windows"
            assert all(package.digests and package.version for package in packages)


def test_a_wheel_of_another_digest_is_not_taken_for_the_pinned_one(project: Path, tmp_path: Path) -> None:
    target = Target("3.12", "x86_64")
    packages = pinned_packages(project, target, development=False)
    found = fetch_wheels(tmp_path / "w", packages, target, Silent(), local=project / "wheels")
    assert held_wheels(tmp_path / "w", packages) == found
    found["sample-package"].write_bytes(b"PK")
    assert held_wheels(tmp_path / "w", packages) is None


# ---- what comes out


def test_what_was_bundled_is_in_its_place_and_a_second_run_does_nothing(
    here: Settings, there: Settings, tmp_path: Path, project: Path
) -> None:
    result = bundled(here, tmp_path / "b")
    for path in (project / "wheels").iterdir():
        path.unlink()
    done = unbundle(there, tmp_path / "b", Silent(), sha256=result.sha256)
    assert len(done.plan.coming) == 8
    assert [path.name for path in (project / "wheels").iterdir()] == [*kinds(result)["wheel"]]
    digests = [member.sha256 for member in result.manifest.of_kind("archive", "tool")]
    assert ContentStore(there.store_root).check(digests, verify=True).missing == ()
    again = unbundle(there, tmp_path / "b", Silent())
    assert again.plan.coming == ()
    assert "nothing was done" in again.text()


def test_a_relink_kit_comes_out_where_package_puts_one_and_the_bundles_own_digest_vouches_for_it(
    here: Settings, there: Settings, tmp_path: Path
) -> None:
    kit = small_kit(tmp_path / "npu-serving-kit-1.pyz", HERE[0])
    assert f"the relink kit {kit}" in plan_bundle(here, BundleRequest(output=tmp_path / "b", kits=(kit,))).text()
    result = bundled(here, tmp_path / "b", kits=(kit,))
    with pytest.raises(PinMismatchError, match=r"kit npu-serving-kit-1\.pyz"):
        unbundle(there, tmp_path / "b", Silent())
    done = unbundle(there, tmp_path / "b", Silent(), sha256=result.sha256)
    placed = there.dist_root / "packages" / kit.name
    assert placed.read_bytes() == kit.read_bytes()
    assert str(placed) in done.text()
    assert done.to_json()["kits"] == [str(placed)]
    checksum = placed.with_name(f"{kit.name}.sha256")
    subprocess.run(["sha256sum", "-c", checksum.name], cwd=placed.parent, check=True)
    checksum.unlink()
    again = unbundle(there, tmp_path / "b", Silent(), sha256=result.sha256)
    assert again.plan.coming == ()
    assert again.kits == ()
    assert checksum.exists()


def test_a_relink_kit_that_is_not_the_one_its_checksum_was_written_for_is_not_bundled(
    here: Settings, tmp_path: Path
) -> None:
    kit = small_kit(tmp_path / "kit.pyz", HERE[0])
    write_checksum(kit, "0" * 64)
    with pytest.raises(PinMismatchError, match=r"kit\.pyz is not the file that kit\.pyz\.sha256"):
        plan_bundle(here, BundleRequest(output=tmp_path / "b", kits=(kit,)))
    sha256 = hashlib.sha256(kit.read_bytes()).hexdigest()
    for text in ("", f"{sha256[:-1]}  kit.pyz"):
        checksum_file(kit).write_text(text)
        with pytest.raises(PinMismatchError):
            plan_bundle(here, BundleRequest(output=tmp_path / "b", kits=(kit,)))
    for text in (f"{sha256} *kit.pyz\n", f"{sha256.upper()}\r\n", f"SHA256 (kit.pyz) = {sha256}\n"):
        checksum_file(kit).write_text(text)
        plan_bundle(here, BundleRequest(output=tmp_path / "b", kits=(kit,)))
    write_checksum(kit, sha256)
    bundled(here, tmp_path / "b", kits=(kit,))


def test_a_kit_that_the_other_machine_cannot_run_and_what_is_no_kit_are_refused(here: Settings, tmp_path: Path) -> None:
    other = "aarch64" if HERE[0] == "x86_64" else "x86_64"
    kit = small_kit(tmp_path / "kit.pyz", other)
    with pytest.raises(RequestError, match=f"is for {other}") as raised:
        bundled(here, tmp_path / "b", kits=(kit,))
    assert f"--arch {other}" in raised.value.cure
    bundled(here, tmp_path / "b", kits=(kit,), machine=other)
    (tmp_path / "text.pyz").write_text("no kit")
    with pytest.raises(KitError, match=r"text\.pyz"):
        bundled(here, tmp_path / "b", kits=(tmp_path / "text.pyz",))


def test_a_dry_run_tells_what_would_come_in_and_changes_nothing(
    here: Settings, there: Settings, tmp_path: Path, project: Path
) -> None:
    bundled(here, tmp_path / "b")
    before = sorted(tmp_path.rglob("*"))
    plan = plan_unbundle(there, tmp_path / "b")
    assert sorted(tmp_path.rglob("*")) == before
    assert f"made for TensorFlow Serving 1.15.0 on {HERE[0]} with Python {HERE[1]}" in plan.text()
    assert len(json.loads(json.dumps(plan.to_json()))["coming"]) == 7


def test_the_next_command_builds_what_the_bundle_was_made_for(here: Settings, there: Settings, tmp_path: Path) -> None:
    bundled(here, tmp_path / "b")
    other_default = replace(there, source="1.15.0")
    assert unbundle(there, tmp_path / "b", Silent()).next_command == (
        "./inv build-serving --adapter sample --offline"  # the source is the one that is set
    )
    assert unbundle(other_default, tmp_path / "b", Silent()).text().splitlines()[-1] == (
        "Next: ./inv build-serving --source sample --adapter sample --offline"
    )


def test_another_bundle_than_the_one_whose_digest_was_told_is_not_touched(
    here: Settings, there: Settings, tmp_path: Path
) -> None:
    bundled(here, tmp_path / "b")
    with pytest.raises(PinMismatchError, match="nothing from it was used"):
        unbundle(there, tmp_path / "b", Silent(), sha256="0" * 64)
    assert not there.store_root.exists()
    with pytest.raises(RequestError, match="--sha256"):
        unbundle(there, tmp_path / "b", Silent(), sha256="abc")


STRANGE = b"bytes of a stranger"


def foreign(tmp_path: Path, *kinds: str) -> tuple[Path, str]:
    """A flawless bundle with members of these kinds that no lock or requirement pins."""
    (tmp_path / "strange").write_bytes(STRANGE)
    members = tuple(BundleMember(kind, "strange", sha256(STRANGE), len(STRANGE)) for kind in kinds)
    path = tmp_path / "foreign.bundle"
    manifest = Manifest("1.15.0", *HERE, members)
    return path, write_bundle(path, manifest, {sha256(STRANGE): tmp_path / "strange"}, Silent())


@pytest.mark.parametrize("kind", ["archive", "tool", "image", "wheel", "kit"])
def test_bytes_that_nobody_pinned_stay_out(there: Settings, tmp_path: Path, kind: str) -> None:
    path, _ = foreign(tmp_path, kind)
    with pytest.raises(PinMismatchError, match=f"{kind} strange"):
        unbundle(there, path, Silent())
    assert not ContentStore(there.store_root).has(sha256(STRANGE))


def test_the_bundles_own_digest_vouches_for_archives_but_not_for_code_of_this_project(
    there: Settings, tmp_path: Path
) -> None:
    path, digest = foreign(tmp_path, "archive", "wheel")
    with pytest.raises(PinMismatchError, match="wheel strange"):
        unbundle(there, path, Silent(), sha256=digest)
    assert not there.store_root.exists()
    path, digest = foreign(tmp_path, "archive")
    unbundle(there, path, Silent(), sha256=digest)
    assert ContentStore(there.store_root).has(sha256(STRANGE))


def test_too_little_space_is_noticed_before_anything_is_written(
    here: Settings, there: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled(here, tmp_path / "b")
    monkeypatch.setattr("npu_serving.fsutil.free_bytes", lambda _: 10)
    with pytest.raises(DiskFullError, match="only 10 B"):
        unbundle(there, tmp_path / "b", Silent())
    assert not there.store_root.exists()


def test_a_disk_that_fills_up_is_named_and_what_came_in_before_stays(
    here: Settings, there: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled(here, tmp_path / "b")
    bundle = read_bundle(tmp_path / "b")
    third = bundle.places[2].member

    def until_full(bundle: Bundle, place: MemberPlace, target: IO[bytes], count: Callable[[int], None]) -> None:
        copy_member(bundle, place, target, count)
        if place.member == third:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("npu_serving.bundle.placing.copy_member", until_full)
        with pytest.raises(DiskFullError):
            unbundle(there, tmp_path / "b", Silent())
    store = ContentStore(there.store_root)
    assert list(store.partial.iterdir()) == []
    assert len(unbundle(there, tmp_path / "b", Silent()).plan.present) == 2 + 1, "two archives, and the wheel"


def test_a_damaged_file_of_the_store_is_replaced(here: Settings, tmp_path: Path) -> None:
    bundled(here, tmp_path / "b")
    store = ContentStore(here.store_root)
    store.path(sha256(BAZEL)).write_bytes(b"damaged")
    done = unbundle(here, tmp_path / "b", Silent())
    assert [member.file_name for member in done.plan.coming] == ["bazel-program"]
    assert store.path(sha256(BAZEL)).read_bytes() == BAZEL


# ---- before there is an environment


def test_the_wheels_come_out_first_and_other_words_are_left_to_the_task(
    here: Settings, tmp_path: Path, project: Path
) -> None:
    names = kinds(bundled(here, tmp_path / "b"))["wheel"]
    for path in (project / "wheels").iterdir():
        path.unlink()
    bootstrap.main(["--json", "--sha256", "0" * 64, str(tmp_path / "b"), "--dry-run"])
    assert {path.name for path in (project / "wheels").iterdir()} == names


def test_packages_for_another_python_are_named_with_the_way_out(here: Settings, tmp_path: Path) -> None:
    other = "3.9" if HERE[1] != "3.9" else "3.13"
    bundled(here, tmp_path / "b", python=other)
    with pytest.raises(MissingToolError, match=rf"Python {other}, .* Python {HERE[1]}") as caught:
        bootstrap.check_fits(read_bundle(tmp_path / "b").manifest)
    assert f"NPU_SERVING_PYTHON=python{other}" in caught.value.cure


@pytest.mark.parametrize(
    ("words", "what"),
    [([], "needs the bundle's file"), (["/no/such"], "does not exist"), (["~nobody-of-that-name/b"], "home directory")],
)
def test_a_bundle_that_is_missing_or_not_named_is_an_error_for_programs_too(
    words: list[str], what: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        bootstrap.main([*words, "--json"])
    assert left.value.code == 2
    said = capsys.readouterr()
    assert what in json.loads(said.out)["what"]
    assert "Next: " in said.err


def test_ctrl_c_before_there_is_an_environment_is_no_traceback(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bootstrap, "read_bundle", interrupted)
    with pytest.raises(SystemExit) as left:
        bootstrap.main(["b"])
    assert left.value.code == 130
    assert "Interrupted" in capsys.readouterr().err
