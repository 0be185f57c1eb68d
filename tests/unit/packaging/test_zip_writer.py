"""Zip files: what Python and Info-ZIP read, started by Python, the same bytes each time."""

from __future__ import annotations

import io
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving import process
from npu_serving.errors import RequestError
from npu_serving.packaging import zip_writer
from npu_serving.packaging.zip_writer import ZipWriter

NAMES = st.text(st.sampled_from("abcxyz.-é中😀"), min_size=1, max_size=20)


def made(members: dict[str, bytes], head: bytes = b"") -> bytes:
    file = io.BytesIO()
    writer = ZipWriter(file, head)
    for name, content in members.items():
        writer.add(name, content)
    writer.finish()
    return file.getvalue()


@given(members=st.dictionaries(NAMES, st.binary(max_size=200)), head=st.sampled_from([b"", b"#!/bin/sh\n"]))
def test_zipfile_reads_every_member_back(members: dict[str, bytes], head: bytes) -> None:
    data = made(members, head)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == members
    assert data == made(members, head)


def test_a_name_that_is_not_in_utf_8_is_refused_with_words_and_one_in_ascii_has_no_flag() -> None:
    with pytest.raises(RequestError, match="can't be packed"):
        made({"donn\udce9es.npz": b"x"})
    with zipfile.ZipFile(io.BytesIO(made({"a": b"", "données.npz": b"x"}))) as archive:
        assert [info.flag_bits for info in archive.infolist()] == [0, 1 << 11]


def test_a_member_that_is_taken_back_leaves_nothing(tmp_path: Path) -> None:
    file = io.BytesIO()
    writer = ZipWriter(file)
    writer.add("first", b"1")
    writer.begin(6)
    writer.write(b"of no use" * 100)
    writer.take_back()
    writer.begin(6)
    writer.write(b"2")
    writer.end("second", mode=0o755)
    writer.finish()
    with zipfile.ZipFile(file) as archive:
        assert archive.namelist() == ["first", "second"]
        assert archive.getinfo("second").external_attr >> 16 == 0o100755
    assert len(file.getvalue()) < 300


def test_python_starts_one_that_begins_with_a_line_for_the_shell(tmp_path: Path) -> None:
    path = tmp_path / "program.pyz"
    path.write_bytes(made({"__main__.py": b"print('started')\n", "other": b"x"}, b"#!/usr/bin/env python3\n"))
    assert process.run([sys.executable, "-I", "-S", path]).stdout == "started\n"


@pytest.mark.skipif(shutil.which("unzip") is None, reason="needs unzip")
def test_unzip_finds_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "file.zip"
    path.write_bytes(made({"a/b": b"x" * 1000, "c": b""}))
    assert "No errors" in process.run(["unzip", "-t", path]).stdout


def test_one_that_python_could_not_start_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_writer, "MOST_BYTES", 100)
    with pytest.raises(RequestError, match="4 GB"):
        made({"a": b"x" * 100})
    monkeypatch.setattr(zip_writer, "MOST_BYTES", 10_000)
    monkeypatch.setattr(zip_writer, "MOST_MEMBERS", 2)
    with pytest.raises(RequestError, match="4 GB"):
        made({"a": b"", "b": b"", "c": b""})
