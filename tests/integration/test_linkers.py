"""The sample linked by each linker, with the real Bazel and by the saved link; and what no linker says."""

from __future__ import annotations

import dataclasses
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from elf_samples import library, program
from states import MODEL, PLATFORM_CONFIG, ascend_of, switch_cann

from npu_serving.asking.request import ROW, PredictRequest
from npu_serving.asking.rest_client import predict
from npu_serving.building import pipeline
from npu_serving.building.pipeline import BuildResult, build_serving
from npu_serving.builds.current import CURRENT, find_build
from npu_serving.builds.manifest import Build
from npu_serving.builds.verify import verify_build
from npu_serving.cann.known_adapters import OF_SAMPLE, known_adapters
from npu_serving.console import Silent
from npu_serving.elf.compat import check_server
from npu_serving.elf.owners import SERVER, owner_by_name
from npu_serving.elf.report import UNDEFINED_SYMBOL
from npu_serving.elf.subject import ServerCase
from npu_serving.elf.symbols import read_elf
from npu_serving.errors import NoSuchSymbolError
from npu_serving.linking.linkers import BFD, GOLD, KINDS, LLD
from npu_serving.sample import cann as sample_cann
from npu_serving.sample.cann import FIRST_RELEASE, NEXT_RELEASE, install_sample_cann
from npu_serving.serving.from_build import plan_current
from npu_serving.serving.server import started
from npu_serving.settings import Settings, load_settings
from npu_serving.trials.spare_server import spare_ports
from npu_serving.upgrade.rebuild import rebuild_after_cann
from npu_serving.upgrade.rebuild_plan import SAVED_LINK

MOLD = "mold"


# ---- the sample, by each linker


@pytest.fixture(scope="module")
def sample(
    built: BuildResult, sample_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """The state in which the sample was built, with both CANNs, and a dist/ for what follows."""
    install_sample_cann(sample_settings.build_root / "sample", (FIRST_RELEASE, NEXT_RELEASE), FIRST_RELEASE)
    yield dataclasses.replace(sample_settings, dist_root=tmp_path_factory.mktemp("linkers"), install_link="")
    install_sample_cann(sample_settings.build_root / "sample", (FIRST_RELEASE, NEXT_RELEASE), FIRST_RELEASE)
    build_serving(sample_settings, Silent())


@dataclasses.dataclass
class Linked:
    """What one linker made: by Bazel of the first CANN's adapter, by the saved link of the next one's."""

    settings: Settings
    first: BuildResult
    upgraded: Build
    way: str
    fits_all: Build
    """By the saved link, to fit every release that is known."""


@pytest.fixture(scope="module", params=KINDS)
def linked(request: pytest.FixtureRequest, sample: Settings) -> Linked:
    kind = request.param
    if shutil.which(f"ld.{kind}") is None:
        pytest.skip(f"there is no {kind} here")
    settings = dataclasses.replace(sample, linker=kind, dist_root=sample.dist_root / kind)
    switch_cann(settings, FIRST_RELEASE)
    first = build_serving(settings, Silent())
    switch_cann(settings, NEXT_RELEASE)
    result = rebuild_after_cann(dataclasses.replace(settings, linker="auto"), Silent())
    every = dataclasses.replace(settings, also_fits=("known",), dist_root=settings.dist_root / "every")
    fits_all = build_serving(every, Silent(), by_saved_link=True)
    assert fits_all.by_saved_link, fits_all.why_bazel
    return Linked(settings, first, result.build, result.way, fits_all.build)


@pytest.mark.bazel
def test_another_linker_compiles_nothing_and_is_named_in_the_manifest_with_its_version(linked: Linked) -> None:
    record, kind = linked.first.record, linked.settings.linker
    assert record.compiled == 0
    assert record.linked == 1 if kind != BFD else record.linked > 1, "bfd wants archives, which Bazel makes first"
    manifest = linked.first.build.manifest
    assert (manifest.linker, manifest.linker_setting) == (kind, kind)
    assert re.fullmatch(r"[0-9.]+", manifest.linker_version)


@pytest.mark.bazel
def test_an_upgrade_goes_by_the_saved_link_and_keeps_the_linker_that_was_asked_for(linked: Linked) -> None:
    """Though the settings say "auto" by then, with which lld would be taken."""
    assert linked.way == SAVED_LINK
    manifest = linked.upgraded.manifest
    assert (manifest.linker, manifest.linker_setting) == (linked.settings.linker, linked.settings.linker)
    assert manifest.linker_version == linked.first.build.manifest.linker_version
    assert manifest.adapter["cann_version"] == NEXT_RELEASE


@pytest.mark.bazel
def test_what_each_linker_made_verifies_and_answers(linked: Linked, tmp_path: Path) -> None:
    switch_cann(linked.settings, NEXT_RELEASE)
    assert verify_build(linked.settings, linked.upgraded.manifest.build_id).exit_code == 0
    ports: dict[str, Any] = dict(zip(("port", "rest_api_port"), spare_ports(2)))
    plan = plan_current(linked.settings, model_base_path=MODEL, platform_config_file=PLATFORM_CONFIG, **ports)
    with started(plan, log_path=tmp_path / "server.log") as server:
        assert predict(server.rest_url, "half_plus_two", PredictRequest(ROW, [1.0])).outputs == [3.5]


@pytest.mark.bazel
def test_each_linker_exports_exactly_what_the_adapters_need_of_the_server(linked: Linked, tmp_path: Path) -> None:
    needs = {item.release: set(item.symbols) for item in known_adapters(OF_SAMPLE, tmp_path)}
    assert _exported(linked.first.build) == needs[FIRST_RELEASE]
    assert _exported(linked.upgraded) == needs[NEXT_RELEASE]
    assert _exported(linked.fits_all) == set().union(*needs.values())


def _exported(build: Build) -> set[str]:
    return {name for name in read_elf(build.server).defined_names if owner_by_name(name).kind == SERVER}


# ---- an adapter that needs more than the server has


def _adapter_that_calls(settings: Settings, function: str, place: Path) -> None:
    """Replaces the first CANN's adapter by one that also calls that function."""
    sources = place / "adapter"
    shutil.copytree(sample_cann.ADAPTER_SOURCES, sources)
    name = function.partition("(")[0]
    with (sources / "npu_optimizer.cc").open("a") as file:
        file.write(f"\nnamespace tensorflow {{ void {function}; void* volatile more = (void*)&{name}; }}\n")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sample_cann, "ADAPTER_SOURCES", sources)
        install_sample_cann(settings.build_root / "sample", (FIRST_RELEASE,), FIRST_RELEASE)


@pytest.fixture
def needy(sample: Settings, tmp_path: Path) -> Iterator[Settings]:
    """A build of the first CANN, whose adapter a test replaces then."""
    settings = dataclasses.replace(sample, dist_root=tmp_path / "dist")
    install_sample_cann(settings.build_root / "sample", (FIRST_RELEASE,), FIRST_RELEASE)
    build_serving(settings, Silent())
    yield settings
    install_sample_cann(settings.build_root / "sample", (FIRST_RELEASE,), FIRST_RELEASE)


@pytest.mark.bazel
def test_an_adapter_that_needs_more_of_xla_is_told_after_one_link_and_typing_the_cure_helps(
    needy: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _adapter_that_calls(needy, "RunCompiled(const LinearGraph&, const float*, float*, size_t)", tmp_path)
    before = find_build(needy.dist_root).manifest.build_id
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "run_bazel", lambda *_: pytest.fail("Bazel would make the same"))
        with pytest.raises(NoSuchSymbolError, match=r"tensorflow::RunCompiled\(") as caught:
            rebuild_after_cann(needy, Silent())
    assert "./inv rebuild-after-cann" not in str(caught.value), "it would lead here again"
    assert find_build(needy.dist_root).manifest.build_id == before
    typed = shlex.split(caught.value.cure.partition(": ")[2])
    assert typed[:2] == ["./inv", "build-serving"]
    assert typed[-2:] == ["--xla", "full"]
    names = [word[2:].replace("-", "_") for word in typed[2::2]]
    flags: dict[str, Any] = {**dict(zip(names, typed[3::2])), "also_fits": ("none",)}
    asked = load_settings(**flags, adapter=needy.adapter, bazel=needy.bazel, build_root=needy.build_root)
    result = build_serving(dataclasses.replace(asked, dist_root=needy.dist_root), Silent())
    assert verify_build(needy).exit_code == 0
    assert result.build.manifest.xla == "full"


@pytest.mark.bazel
def test_an_adapter_that_needs_what_nobody_has_is_not_promised_that_xla_has_it(needy: Settings, tmp_path: Path) -> None:
    _adapter_that_calls(needy, "Nobody()", tmp_path)
    with pytest.raises(NoSuchSymbolError, match=r"tensorflow::Nobody\(\)") as caught:
        rebuild_after_cann(needy, Silent())
    assert "--xla" not in caught.value.cure
    assert str(ascend_of(needy)) in caught.value.cure
    assert (needy.dist_root / CURRENT).exists()


# ---- what a linker that succeeds proves


@pytest.mark.parametrize("linker", [BFD, GOLD, LLD, MOLD])
def test_where_a_library_of_the_adapter_is_not_found_only_bfd_tells_of_a_missing_symbol_and_verification_always(
    linker: str, tmp_path: Path
) -> None:
    if shutil.which(f"ld.{linker}") is None:
        pytest.skip(f"there is no {linker} here")
    runner = library(tmp_path / "cann", "libge_runner.so", "void geRun(void) {}")
    calls = "void _ZN10tensorflow4GoneEv(void); void geRun(void); void run(void) { geRun(); _ZN10tensorflow4GoneEv(); }"
    adapter = library(tmp_path / "lib", "_tf_adapter.so", calls, against=[runner])
    words = ["-Wl,-rpath,$ORIGIN/lib", f"-fuse-ld={linker}"]
    main = tmp_path / "main.c"
    main.write_text("int main(void) { return 0; }")
    command: list[str | Path] = ["gcc", *words, "-Wl,--no-as-needed", "-o", tmp_path / "server", main, adapter]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == (1 if linker == BFD else 0), finished.stderr
    if linker == BFD:
        assert "undefined reference to `tensorflow::Gone()'" in finished.stderr
        program(tmp_path, "server", "int main(void) { return 0; }", *words, against=[adapter])  # it can be overruled
    else:
        assert finished.stderr == ""
    for path in ((), (tmp_path / "cann",)):
        report = check_server(ServerCase(tmp_path / "server", library_path=path, cann_absent=not path))
        assert UNDEFINED_SYMBOL in report.kinds(), report.text()
        assert "tensorflow::Gone()" in report.text()
