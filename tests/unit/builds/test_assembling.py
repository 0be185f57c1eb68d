"""What is found out of a new server becomes part of its build, or keeps it from becoming one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from elf_samples import library, needs_gcc, program

from npu_serving import fsutil
from npu_serving.builds.assembling import package
from npu_serving.builds.current import find_build
from npu_serving.builds.manifest import MANIFEST, BuildManifest, FileNeeds, ReleaseFit
from npu_serving.cann.known_adapters import KnownAdapter
from npu_serving.errors import VerificationError

pytestmark = needs_gcc
GIVEN, MISSING = "_ZN10tensorflow5givenEv", "_ZN10tensorflow7missingEv"
JUDGED = (KnownAdapter("6.3.RC2", "1.0", "", (GIVEN,)), KnownAdapter("9.0.0", "1.0", "", (GIVEN, MISSING)))
FILES = {"/opt/_tf_adapter.so": FileNeeds("aa", (GIVEN,))}


def made(tmp_path: Path, *needs: str) -> tuple[BuildManifest, Path, dict[str, Path]]:
    """A server that gives one symbol, its adapter that needs these, and the manifest of both."""
    calls = "".join(f"int {name}(void); int use{at}(void) {{ return {name}(); }}\n" for at, name in enumerate(needs))
    adapter = library(tmp_path, "_tf_adapter.so", calls)
    source = f"int {GIVEN}(void) {{ return 0; }} int main(void) {{ return 0; }}"
    server = program(tmp_path, "server", source, "-rdynamic", "-Wl,-rpath,$ORIGIN/../lib", against=[adapter])
    described = {"path": str(adapter), "sha256": fsutil.sha256_of(adapter), "cann_version": "6.3.RC2"}
    source_of = {"name": "1.0", "digest": "0", "tree": "0"}
    manifest = BuildManifest(
        "build", "d" * 64, "1.0", source_of, described, "l", {}, (), {}, {}, {}, also_fits_files=FILES
    )
    return manifest, server, {"_tf_adapter.so": adapter}


def test_a_build_says_which_releases_its_server_fits_and_what_it_lacks_for_the_others(tmp_path: Path) -> None:
    build = package(tmp_path / "dist", *made(tmp_path, GIVEN), (), judged=JUDGED)
    assert build.manifest.releases == (ReleaseFit("6.3.RC2"), ReleaseFit("9.0.0", (MISSING,)))
    assert find_build(tmp_path / "dist", "build").manifest == build.manifest
    written = json.loads((build.directory / MANIFEST).read_text())
    assert written["releases"][1] == {"release": "9.0.0", "lacks": [MISSING]}
    assert written["also_fits_files"] == {"/opt/_tf_adapter.so": {"sha256": "aa", "symbols": [GIVEN]}}


def test_a_build_of_a_former_ones_server_keeps_what_is_known_of_it(tmp_path: Path) -> None:
    manifest, server, libraries = made(tmp_path, GIVEN)
    former = package(tmp_path / "dist", manifest, server, libraries, (), judged=JUDGED)
    renewed = dataclasses.replace(former.manifest, build_id="renewed")
    build = package(tmp_path / "dist", renewed, former.server, libraries, (), former=former)
    assert build.manifest.releases == former.manifest.releases != ()


def test_the_manifest_of_a_build_made_before_that_was_written_down_is_read(tmp_path: Path) -> None:
    build = package(tmp_path / "dist", *made(tmp_path, GIVEN), (), judged=JUDGED)
    path = build.directory / MANIFEST
    document = json.loads(path.read_text())
    del document["releases"], document["also_fits_files"]
    path.write_text(json.dumps(document))
    older = find_build(tmp_path / "dist", "build").manifest
    assert (older.releases, older.also_fits_files) == ((), {})


def test_a_symbol_that_the_new_server_lacks_is_named_with_the_release_that_is_known_to_need_it(tmp_path: Path) -> None:
    with pytest.raises(VerificationError) as caught:
        package(tmp_path / "dist", *made(tmp_path, GIVEN, MISSING), (), judged=JUDGED)
    assert f"[{MISSING}], needed by TF Adapter of CANN 9.0.0\n" in caught.value.what
    assert not (tmp_path / "dist" / "build").exists()
