"""Which releases of the adapter a server is said to fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from elf_samples import needs_gcc, program

from npu_serving.builds import fitting
from npu_serving.builds.fitting import (
    UNREAD_LIST,
    fit_text,
    fits_of,
    judged_adapters,
    named_adapters,
    needing,
    needing_of,
    unread_lists,
)
from npu_serving.builds.manifest import BuildManifest, FileNeeds, ReleaseFit
from npu_serving.builds.verify import VerifyResult
from npu_serving.cann.known_adapters import KnownAdapter, write_known
from npu_serving.elf.report import CompatReport
from npu_serving.findings import WARNING, Finding

FIRST = "_ZN10tensorflow5firstEv"
SECOND = "_ZN10tensorflow6secondEv"
FILE = "/opt/other/_tf_adapter.so"


def made(*, source: str = "1.0", **values: object) -> BuildManifest:
    """The manifest of a build of that source."""
    fields = {"source": {"name": source}, "adapter": {}, "lock_digest": "", "toolchain": {}, "flags": ()}
    fields |= {"actions": {}, "patches": {}, "files": {}}
    return BuildManifest("id", "digest", "1.0", **{**fields, **values})  # type: ignore[arg-type]


@needs_gcc
def test_a_server_fits_the_releases_all_of_whose_symbols_it_exports_and_lacks_are_named(tmp_path: Path) -> None:
    code = f'void first(void) __asm__("{FIRST}");\nvoid first(void) {{}}\nint main(void) {{ return 0; }}\n'
    server = program(tmp_path, "server", code, "-rdynamic")
    found = fits_of(server, {"6.3": (FIRST,), "9.0": (FIRST, SECOND), FILE: (SECOND,)})
    assert found == (ReleaseFit("6.3"), ReleaseFit("9.0", (SECOND,)), ReleaseFit(FILE, (SECOND,)))
    fits, lacks, file_lacks = fit_text(found)
    assert fits.endswith("need of it: 6.3")
    assert lacks == "For the adapter of 9.0 it lacks 1 symbol, such as tensorflow::second()"
    assert file_lacks.startswith(f"For the adapter {FILE} it lacks 1 symbol")
    assert fits_of(tmp_path / "no server", {}) == (), "nothing is read where nothing is to be compared"


def test_a_build_is_judged_by_what_is_known_for_its_version_and_by_the_files_that_it_was_to_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = KnownAdapter("6.3", "1.0", "", (FIRST,))
    monkeypatch.setattr(fitting, "readable_adapters", lambda serving, _own: ((known,) if serving == "1.0" else (), ()))
    files = {FILE: FileNeeds("aa", (SECOND,))}
    file = KnownAdapter(FILE, "", "", (SECOND,), "aa")
    assert judged_adapters(made(), tmp_path) == (known,)
    assert judged_adapters(made(also_fits_files=files), tmp_path) == (known, file)
    assert judged_adapters(made(source="sample", also_fits_files=files), tmp_path) == (file,)
    assert named_adapters(made(also_fits_files=files)) == (file,)


def test_the_samples_server_is_judged_by_the_samples_releases(tmp_path: Path) -> None:
    assert [item.release for item in judged_adapters(made(source="sample"), tmp_path)] == ["6.3.RC2", "7.0.RC1"]


def test_who_needs_a_symbol_is_looked_up_once_and_only_when_it_is_asked_and_a_file_has_no_release() -> None:
    asked = []

    def needs() -> dict[str, tuple[str, ...]]:
        asked.append(1)
        return {"6.3": (FIRST,), "9.0": (FIRST, SECOND), FILE: (FIRST,), "npu_bridge.whl": (FIRST,)}

    who = needing(needs)
    assert not asked
    assert (who(FIRST), who(SECOND), who("other")) == (["6.3", "9.0"], ["9.0"], ())
    assert asked == [1]


def test_the_releases_that_need_a_symbol_of_the_samples_server_are_those_of_the_sample(tmp_path: Path) -> None:
    who = needing_of(made(source="sample"), tmp_path)
    assert list(who("_ZN10tensorflow8profiler8NpuTrace5BeginERKSs")) == ["7.0.RC1"]


def test_a_damaged_list_of_the_users_hides_none_of_the_releases_that_can_be_read(tmp_path: Path) -> None:
    sample = made(source="sample")
    known = judged_adapters(sample, tmp_path)
    own = KnownAdapter("9.9", "sample", "", (FIRST,))
    write_known(tmp_path / "9.9.json", own)
    (tmp_path / "8.0.json").write_text("{")
    assert judged_adapters(sample, tmp_path) == (*known, own)
    assert list(needing_of(sample, tmp_path)("_ZN10tensorflow8profiler8NpuTrace5BeginERKSs")) == ["7.0.RC1"]
    (unread,) = unread_lists(sample, tmp_path)
    assert not unread.needs_action
    assert f"{tmp_path}/8.0.json" in unread.what
    assert unread.cure.endswith("--add 8.0")
    write_known(tmp_path / "z.json", KnownAdapter("9.9", "sample", "", (SECOND,)))
    assert judged_adapters(sample, tmp_path) == (*known, own)
    assert [finding.cure[:6] for finding in unread_lists(sample, tmp_path)] == ["remove", "remove"]


def test_verify_serving_gives_its_verdict_and_the_damaged_list_as_a_warning() -> None:
    report = CompatReport(Path("server"), Path("adapter"), (), ())
    unread = Finding("lists/8.0.json is damaged", "remove it", WARNING, UNREAD_LIST, "lists")
    result = VerifyResult(Path("server"), report, releases=(ReleaseFit("6.3"),), unread=(unread,))
    assert result.exit_code == report.exit_code
    assert "warning: unread-list: lists" in result.text()
    assert "need of it: 6.3" in result.text()
    assert json.dumps(result.to_json()["unread_lists"]).count("8.0.json") == 1
