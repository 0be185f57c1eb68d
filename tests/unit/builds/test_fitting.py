"""Which releases of the adapter a server is said to fit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from elf_samples import program

from npu_serving.builds import fitting
from npu_serving.builds.fitting import ReleaseFit, fit_text, releases_that_fit
from npu_serving.builds.manifest import Build
from npu_serving.cann.known_adapters import KnownAdapter

FIRST = "_ZN10tensorflow5firstEv"
SECOND = "_ZN10tensorflow6secondEv"


def test_a_server_fits_the_releases_all_of_whose_symbols_it_exports_and_lacks_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f'void first(void) __asm__("{FIRST}");\nvoid first(void) {{}}\nint main(void) {{ return 0; }}\n'
    server = program(tmp_path, "server", code, "-rdynamic")
    known = (KnownAdapter("6.3", "1.0", "", (FIRST,)), KnownAdapter("9.0", "1.0", "", (FIRST, SECOND)))
    monkeypatch.setattr(fitting, "known_adapters", lambda serving, _own: known if serving == "1.0" else ())
    manifest = SimpleNamespace(source={"name": "1.0"}, serving_version="1.0")
    build = cast(Build, SimpleNamespace(server=server, manifest=manifest))
    found = releases_that_fit(build, tmp_path)
    assert found == (ReleaseFit("6.3"), ReleaseFit("9.0", (SECOND,)))
    fits, lacks = fit_text(found)
    assert fits.endswith("need of it: 6.3")
    assert lacks == "For the adapter of 9.0 it lacks 1 symbol, such as tensorflow::second()"


def test_the_samples_server_is_judged_by_the_samples_releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = program(tmp_path, "server", "int main(void) { return 0; }\n")
    asked: list[str] = []

    def known(serving: str, _own: Path) -> tuple[KnownAdapter, ...]:
        asked.append(serving)
        return ()

    monkeypatch.setattr(fitting, "known_adapters", known)
    manifest = SimpleNamespace(source={"name": "sample"}, serving_version="1.0")
    assert releases_that_fit(cast(Build, SimpleNamespace(server=server, manifest=manifest)), tmp_path) == ()
    assert asked == ["sample"]
