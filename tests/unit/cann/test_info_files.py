"""What CANN's info files tell, whatever is in them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from cann_trees import put
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.cann import info_files
from npu_serving.cann.info_files import PackageInfo, parse_pairs, read_info

DRIVER = """Version=24.1.rc1
ascendhal_version=7.35.19
Innerversion=V100R001C15SPC006B220
compatible_version=[V100R001C30],[V100R001C13],[V100R001C15,V100R001C17]
compatible_version_fw=[7.0.0,7.2.99]
"""
FILES = ["ascend_toolkit_install.info", "version.info", "version.cfg", "x/version.info"]
KEYS = ["version", "innerversion", "compatible_version", "arch", "version_dir", "a_running_version"]
NEAR_VERSIONS = "0123456789.:[],VRC-ax86_\x00\x1b\u0661\u2028\xe9 "
CFG = """# version: 1.0
runtime_running_version=[7.6.0.1.220:8.0.0]
opp_running_version=[7.6.0.1.220:8.0.0]
runtime_installed_version=[7.5.0.1.129:8.0.RC3]
"""


def test_a_toolkits_info_file_tells_release_family_and_machine(tmp_path: Path) -> None:
    text = "package_name=x\nversion=6.3.RC2\ninnerversion=V100R001C11SPC001B249\narch=aarch64\nos=linux\n"
    put(tmp_path / "aarch64-linux/ascend_toolkit_install.info", text)
    put(tmp_path / "aarch64-linux/ascend_ops_install.info", text.replace("6.3.RC2", "6.3.RC1"))
    assert read_info(tmp_path, "toolkit") == PackageInfo("6.3.RC2", "", "V100R001C11", (), "aarch64")


def test_a_drivers_version_file_tells_which_families_fit_it(tmp_path: Path) -> None:
    put(tmp_path / "version.info", DRIVER)
    info = read_info(tmp_path, "driver")
    assert (info.release, info.build, info.family) == ("", "24.1.rc1", "V100R001C15")
    fits = {number for number in range(40) if info.declares(f"V100R001C{number}")}
    assert fits == {13, 15, 16, 17, 30}


def test_what_runs_counts_before_what_is_installed(tmp_path: Path) -> None:
    put(tmp_path / "version.cfg", CFG)
    assert read_info(tmp_path).parts == {"runtime": "8.0.0", "opp": "8.0.0"}
    assert read_info(tmp_path).release == "8.0.0"


def test_the_parts_of_a_toolkit_are_asked_where_nothing_else_tells(tmp_path: Path) -> None:
    put(tmp_path / "compiler/version.info", "Version=1.83.0.1.241\nversion_dir=6.3.RC2\n")
    assert read_info(tmp_path, "toolkit").release == "6.3.RC2"


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfversion=6.3.RC2\n",
        b"package_name=a\r\nversion=6.3.RC2\r\n",
        b" version = 6.3.RC2 \n",
        b'version="6.3.RC2"',
        b"version=6.3.RC2\nversion=7.0.RC1\n",
        b"version=\0\nversion=$(reboot)\nversion\n=\nversion=6.3.RC2\n",
        b"\x7fELF\xff\xfe\0\0\nversion=6.3.RC2\n",
        b"version=6.3.RC2\n" + b"x" * (1 << 20),
    ],
    ids=["bom", "crlf", "blanks", "quotes", "twice", "garbage", "binary", "huge"],
)
def test_a_version_is_read_from_files_that_people_and_editors_have_touched(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "ascend_tfplugin_install.info").write_bytes(content)
    release = read_info(tmp_path, "tfplugin").release
    assert release == ("" if b"reboot" in content else "6.3.RC2"), "of two the first counts, and it has to be a version"


def test_what_lies_behind_64_kib_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "version.info").write_bytes(b"\n" * info_files._LONGEST + b"version_dir=6.3.RC2\n")
    assert read_info(tmp_path) == PackageInfo()


LINES = st.lists(st.tuples(st.sampled_from(KEYS), st.text(NEAR_VERSIONS, max_size=20)), max_size=6)
CONTENTS = st.one_of(
    st.binary(max_size=300),
    LINES.map(lambda pairs: "\r\n".join(f"{key}={value}" for key, value in pairs).encode()),
)
NAMES, VALUES = (st.from_regex(pattern, fullmatch=True) for pattern in (r"[a-z][a-z_]{0,20}", r"[!#-~]{1,40}"))


@given(st.dictionaries(st.sampled_from(FILES), CONTENTS))
def test_files_of_any_content_give_printable_facts_or_none(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        for name, content in files.items():
            put(Path(directory) / name).write_bytes(content)
        info = read_info(Path(directory), "toolkit")
    facts = [info.release, info.build, info.family, info.architecture, *info.parts.values()]
    assert all(fact.isascii() and (fact == "" or fact.isprintable()) for fact in facts)
    assert info.declares("V100R001C11") in (True, False)


@given(st.dictionaries(NAMES, VALUES))
def test_what_is_written_as_pairs_is_read_back(pairs: dict[str, str]) -> None:
    assert parse_pairs("\n".join(f"{key}={value}" for key, value in pairs.items())) == pairs


def test_a_loop_of_links_and_a_directory_in_place_of_a_file_tell_nothing(tmp_path: Path) -> None:
    (tmp_path / "version.info").symlink_to("version.info")
    (tmp_path / "version.cfg").mkdir()
    assert read_info(tmp_path) == PackageInfo()
