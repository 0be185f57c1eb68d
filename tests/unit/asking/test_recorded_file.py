"""Recorded files: what is written is read, whatever ends the writing, and nothing else is taken for a request."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npu_serving.asking.recorded_file import (
    GRPC,
    REST,
    RecordedRequest,
    RecordingHeader,
    RecordingWriter,
    read_recording,
)
from npu_serving.errors import DiskFullError, FileAccessError, NpuServingError, RequestError

HEADER = RecordingHeader("2025-01-31T12:00:00Z", "grpc://localhost:8500", 0.25, 7, ("x", "ü"), 1000)
RECORDED = st.builds(
    RecordedRequest,
    at_ns=st.integers(0, 2**62),
    api=st.sampled_from([GRPC, REST]),
    path=st.text(max_size=20),
    body=st.binary(max_size=200),
    metadata=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)


def written(directory: Path, recorded: list[RecordedRequest], header: RecordingHeader = HEADER) -> Path:
    path = directory / f"{len(list(directory.iterdir()))}.rec"
    writer = RecordingWriter(path, header)
    for request in recorded:
        writer.add(request)
    writer.close()
    assert path.stat().st_size == writer.size_bytes
    return path


@given(recorded=st.lists(RECORDED, max_size=6))
def test_requests_are_read_as_they_were_written_in_the_order_they_came(recorded: list[RecordedRequest]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = written(Path(directory), recorded)
        read = read_recording(path)
        assert (read.header, read.cut_bytes) == (HEADER, 0)
        assert list(read.requests()) == sorted(recorded, key=lambda request: request.at_ns)
        assert [read.request(number) for number in range(1, len(recorded) + 1)] == list(read.requests())
        times = read.arrivals_s()
        assert len(times) == len(recorded)
        assert all(one <= other for one, other in zip((0.0, *times), times))


@given(recorded=st.lists(RECORDED, min_size=1, max_size=4), data=st.data())
def test_a_file_cut_anywhere_gives_the_requests_before_the_cut(
    recorded: list[RecordedRequest], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        ends = [written(Path(directory), recorded[:count]).stat().st_size for count in range(len(recorded) + 1)]
        path = written(Path(directory), recorded)
        whole = path.read_bytes()
        cut = data.draw(st.integers(ends[0], len(whole)))
        blank = data.draw(st.sampled_from([0, 5, 300]))  # a file system may have kept room for what never came
        path.write_bytes(whole[:cut] + bytes(blank if cut in ends else 0))
        count = max(number for number, end in enumerate(ends) if end <= cut)
        read = read_recording(path)
        assert sorted(read.requests(), key=repr) == sorted(recorded[:count], key=repr)
        assert read.cut_bytes == path.stat().st_size - ends[count]


@given(recorded=st.lists(RECORDED, min_size=1, max_size=3), data=st.data())
def test_a_changed_byte_is_an_error_or_cuts_the_end_and_never_another_request(
    recorded: list[RecordedRequest], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = written(Path(directory), recorded)
        content = bytearray(path.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        with pytest.raises(RequestError) as error:
            list(read_recording(path).requests())
        assert error.value.cure


def test_no_byte_can_change_unnoticed(tmp_path: Path) -> None:
    path = written(tmp_path, [RecordedRequest(0, GRPC, "/p", b"body")])
    content = path.read_bytes()
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(RequestError, match=r"damaged|is not a recorded file"):
            read_recording(path).request(1)


@settings(max_examples=200)
@given(content=st.binary(max_size=300), whole=st.booleans())
def test_other_bytes_are_refused_in_one_line(content: bytes, whole: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = written(Path(directory), [])
        path.write_bytes((b"" if whole else path.read_bytes()) + content)
        try:
            assert list(read_recording(path).requests()) == []
        except RequestError as error:
            assert "\n" not in error.what


def test_what_is_kept_before_a_damaged_place_is_read_by_the_cure(tmp_path: Path) -> None:
    one, two, three = (RecordedRequest(at, REST, "/v1/models/m:predict", b"{}" * 9) for at in (1, 2, 3))
    path = written(tmp_path, [one, two, three])
    content = bytearray(path.read_bytes())
    content[written(tmp_path, [one, two]).stat().st_size + 1] ^= 1
    path.write_bytes(content)
    with pytest.raises(RequestError, match="behind its request 2") as error:
        read_recording(path)
    command = error.value.cure.rpartition(": ")[2]
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
    assert list(read_recording(tmp_path / "whole.rec").requests()) == [one, two]


def test_a_request_that_is_not_there_is_refused_with_the_numbers_that_are(tmp_path: Path) -> None:
    path = written(tmp_path, [RecordedRequest(0, REST, "/", b"")])
    for number in (0, 2):
        with pytest.raises(RequestError, match=f"no request {number}") as error:
            read_recording(path).request(number)
        assert "from 1 to 1" in error.value.cure
    with pytest.raises(RequestError, match="no request 1"):
        read_recording(written(tmp_path, [])).request(1)


def test_only_the_owner_may_read_it_and_what_is_there_is_not_replaced(tmp_path: Path) -> None:
    path = written(tmp_path, [])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    with pytest.raises(RequestError, match="already"):
        RecordingWriter(path, HEADER)
    assert path.read_bytes() == before


def test_a_file_that_can_t_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileAccessError, match="file"):
        RecordingWriter(tmp_path / "file" / "x.rec", HEADER)
    with pytest.raises(NpuServingError, match=r"no\.rec"):
        read_recording(tmp_path / "no.rec")
    with pytest.raises(RequestError, match="device"):
        read_recording(Path(os.devnull))


def test_a_full_disk_leaves_the_requests_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.rec"
    writer = RecordingWriter(path, HEADER)
    kept = RecordedRequest(5, GRPC, "/p", b"x" * 1000)
    writer.add(kept)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    real = os.write

    def write(file: int, data: bytes) -> int:
        try:
            return real(file, data)
        except OSError as error:  # EFBIG, where a full disk has ENOSPC
            raise OSError(28, "No space left on device") from error

    monkeypatch.setattr(os, "write", write)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (writer.size_bytes + 500, before[1]))  # half of it fits
        with pytest.raises(DiskFullError, match=r"x\.rec"):
            writer.add(RecordedRequest(6, GRPC, "/p", b"y" * 1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, former)
    writer.close()
    read = read_recording(path)
    assert (list(read.requests()), read.cut_bytes) == ([kept], 0)


@pytest.mark.parametrize("change", [{"format": 2}, {"share": "x"}, {"seed": None}, {"redacted": 3}])
def test_a_header_of_another_kind_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    from npu_serving.asking import recorded_file

    document = {"format": 1, "begun": "", "target": "", "share": 1, "seed": 0, "redacted": [], "max_bytes": 0} | change
    path = tmp_path / "x.rec"
    path.write_bytes(recorded_file.MAGIC + recorded_file._framed(document, b""))
    with pytest.raises(RequestError, match="recorded file"):
        read_recording(path)
