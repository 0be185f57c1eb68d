"""The bundle as a file: the same members give the same bytes, and whatever isn't exactly that is refused by name."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiers import examples

from npu_serving.bundle import writer as form
from npu_serving.bundle.placing import place_in_store, place_wheels
from npu_serving.bundle.reader import Bundle, member_bytes, read_bundle
from npu_serving.bundle.writer import BundleMember, Manifest, parse_manifest, places, render_manifest, write_bundle
from npu_serving.console import Silent
from npu_serving.errors import (
    DiskFullError,
    FileAccessError,
    NpuServingError,
    PinMismatchError,
    RequestError,
    UnsafeArchiveError,
)
from npu_serving.fetch.content_store import ContentStore
from npu_serving.tar_writer import END, padding

FILES = {
    "archive/v1.15.0.tar.gz": b"the source\n" * 700,
    "archive/3.8.0.zip": b"",
    "archive/block.zip": b"b" * 1024,
    f"archive/{'long-' * 30}.tar.gz": b"a name that ustar has no room for",
    "tool/bazel-0.24.1-linux-x86_64": b"\x7fELF bazel" * 999,
    "wheel/invoke-3.0.3-py3-none-any.whl": b"PK wheel",
}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def member(name: str, data: bytes) -> BundleMember:
    kind, _, file_name = name.partition("/")
    return BundleMember(kind, file_name, sha256(data), len(data))


def manifest_of(files: dict[str, bytes]) -> Manifest:
    members = tuple(member(name, data) for name, data in files.items())
    return Manifest("1.15.0", "x86_64", "3.11", members)


def sources(directory: Path, files: dict[str, bytes]) -> dict[str, Path]:
    directory.mkdir(parents=True, exist_ok=True)
    paths = {}
    for data in files.values():
        paths[sha256(data)] = directory / sha256(data)[:8]
        paths[sha256(data)].write_bytes(data)
    return paths


def written(directory: Path, files: dict[str, bytes] = FILES) -> Path:
    path = directory / "site.bundle"
    write_bundle(path, manifest_of(files), sources(directory / "files", files), Silent())
    return path


def unpacked(path: Path, store: ContentStore) -> Bundle:
    bundle = read_bundle(path)
    place_in_store(bundle, bundle.places, store, lambda _: None)
    return bundle


def names_below(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


# ---- the same bytes


def test_a_bundle_is_a_tar_that_any_tar_reads(tmp_path: Path) -> None:
    with tarfile.open(written(tmp_path)) as tar:
        assert {(info.mtime, info.uid, info.gid, info.uname, info.mode) for info in tar} == {(0, 0, 0, "", 0o644)}
        found = {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
    first, *others = found
    assert first == "MANIFEST.json"
    assert {name.split("/")[0] + "/" + name.split("/")[2]: found[name] for name in others} == FILES


def test_the_digest_that_is_told_is_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bundle"
    told = write_bundle(path, manifest_of(FILES), sources(tmp_path / "files", FILES), Silent())
    assert told == sha256(path.read_bytes())
    assert places(manifest_of(FILES))[1] == path.stat().st_size


def test_order_time_umask_and_path_leave_no_trace(tmp_path: Path) -> None:
    one = written(tmp_path)
    turned = dict(reversed(FILES.items()))
    elsewhere = tmp_path / "an ünusual 'place'\n"
    paths = sources(elsewhere, turned)
    for path in paths.values():
        os.utime(path, (1, 1))
        path.chmod(0o600)
    former = os.umask(0o077)
    try:
        write_bundle(elsewhere / "b", manifest_of(turned), paths, Silent())
    finally:
        os.umask(former)
    assert (elsewhere / "b").read_bytes() == one.read_bytes()
    assert (elsewhere / "b").stat().st_mode & 0o777 == 0o644


FILE_NAMES = st.from_regex(r"[A-Za-z0-9_@%+=:,~][A-Za-z0-9_@%+=:,.~-]{0,120}", fullmatch=True)


@settings(max_examples=examples(20, 10_000), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.dictionaries(st.tuples(st.sampled_from(form.KINDS), FILE_NAMES), st.binary(max_size=2000), max_size=6))
def test_whatever_goes_in_comes_out(tmp_path: Path, files: dict[tuple[str, str], bytes]) -> None:
    named = {"/".join(key): data for key, data in files.items()}
    bundle = read_bundle(written(tmp_path, named))
    out = {place.member: b"".join(member_bytes(bundle, place)) for place in bundle.places}
    assert {f"{item.kind}/{item.file_name}": data for item, data in out.items()} == named


# ---- writing


def test_a_source_with_other_bytes_leaves_no_bundle(tmp_path: Path) -> None:
    paths = sources(tmp_path / "files", FILES)
    for wrong in (b"", b"the Source\n" * 700, b"the source\n" * 701):
        paths[sha256(FILES["archive/v1.15.0.tar.gz"])].write_bytes(wrong)
        with pytest.raises(PinMismatchError, match=r"v1\.15\.0\.tar\.gz"):
            write_bundle(tmp_path / "a.bundle", manifest_of(FILES), paths, Silent())
        assert names_below(tmp_path) == {"files", *(f"files/{path.name}" for path in paths.values())}


def test_a_failure_leaves_the_former_bundle(tmp_path: Path) -> None:
    path = written(tmp_path)
    before = path.read_bytes()
    with pytest.raises(FileAccessError, match="nowhere"):
        write_bundle(path, manifest_of({"archive/a": b"x"}), {sha256(b"x"): tmp_path / "nowhere"}, Silent())
    assert path.read_bytes() == before


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = sources(tmp_path / "files", FILES)

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match=r"site\.bundle"):
        write_bundle(tmp_path / "out" / "site.bundle", manifest_of(FILES), paths, Silent())
    assert list((tmp_path / "out").iterdir()) == []


def test_a_killed_run_leaves_no_half_bundle_and_the_next_one_clears_up(tmp_path: Path) -> None:
    """One source is a pipe: the run is killed while it waits for the second half of it."""
    paths = sources(tmp_path / "files", FILES)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    slow = {**paths, sha256(FILES["tool/bazel-0.24.1-linux-x86_64"]): pipe}
    given_data = json.dumps({key: str(path) for key, path in slow.items()})
    program = (
        "import json, sys\nfrom pathlib import Path\nfrom npu_serving.console import Silent\n"
        "from npu_serving.bundle.writer import parse_manifest, write_bundle\n"
        "files = {key: Path(path) for key, path in json.loads(sys.argv[2]).items()}\n"
        "manifest = parse_manifest(sys.stdin.buffer.read(), 'stdin')\n"
        "write_bundle(Path(sys.argv[1]), manifest, files, Silent())\n"
    )
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(out / "site.bundle"), given_data], stdin=subprocess.PIPE
    ) as run:
        assert run.stdin is not None
        run.stdin.write(render_manifest(manifest_of(FILES)))
        run.stdin.close()
        with pipe.open("wb") as feed:  # opens when the run has come to this member
            feed.write(b"\x7fELF")
            feed.flush()
            run.send_signal(signal.SIGKILL)
            run.wait()
    left = [path.name for path in out.iterdir()]
    assert len(left) == 1
    assert left[0].startswith(".site.bundle.")
    write_bundle(out / "site.bundle", manifest_of(FILES), paths, Silent())
    assert [path.name for path in out.iterdir()] == ["site.bundle"]


# ---- what is refused: each by name, and nothing written


def spoiled(path: Path, change: Callable[[bytearray], bytes | bytearray]) -> Path:
    path.write_bytes(change(bytearray(path.read_bytes())))
    return path


def refusal(path: Path, tmp_path: Path) -> NpuServingError:
    """The error of taking it apart; nothing outside the store's directory for unfinished files was made."""
    before = names_below(tmp_path)
    store = ContentStore(tmp_path / "store")
    with pytest.raises(NpuServingError) as caught:
        unpacked(path, store)
    after = names_below(tmp_path) - before
    assert {name for name in after if not name.startswith("store")} == set()
    assert store.check([sha256(data) for data in FILES.values()]).damaged == ()
    return caught.value


@pytest.mark.parametrize("missing", [1, 511, 512, 1024, 3000, 8000])
def test_a_truncated_bundle_says_how_many_bytes_are_missing(tmp_path: Path, missing: int) -> None:
    error = refusal(spoiled(written(tmp_path), lambda data: data[:-missing]), tmp_path)
    assert isinstance(error, UnsafeArchiveError)
    assert f"{missing} bytes are missing" in error.what
    assert not (tmp_path / "store").exists()


def test_a_bundle_that_was_cut_in_its_manifest_says_so(tmp_path: Path) -> None:
    assert "at least 412 bytes are missing" in refusal(
        spoiled(
            written(tmp_path), lambda data: data[: 512 + len(render_manifest(manifest_of(FILES))) - 412]
        ),
        tmp_path,
    ).what  # fmt: skip


def test_appended_data_is_refused(tmp_path: Path) -> None:
    error = refusal(spoiled(written(tmp_path), lambda data: data + b"\0" * 512), tmp_path)
    assert "512 bytes follow its end" in error.what


def test_nothing_can_be_hidden_between_the_members(tmp_path: Path) -> None:
    path = written(tmp_path)
    true = path.read_bytes()
    standing, total = places(manifest_of(FILES))
    behind_members = [place.data_at + place.member.size_bytes for place in standing if place.member.size_bytes % 512]
    behind_manifest = 512 + len(render_manifest(manifest_of(FILES)))
    for position in (behind_manifest, *behind_members, total - 1024, total - 1):
        path.write_bytes(true[:position] + b"x" + true[position + 1 :])
        assert "bytes other than the zeros" in refusal(path, tmp_path).what, position


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"\0" * 5000, b"x" * 5000], ids=["empty", "short", "zeros", "other"]
)
def test_what_is_no_bundle_is_called_that(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    error = refusal(tmp_path / "file", tmp_path)
    assert isinstance(error, RequestError)
    assert "is not a bundle of this project" in error.what


def test_a_missing_file_a_directory_and_a_pipe_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "nothing", tmp_path, tmp_path / "pipe"):
        with pytest.raises((RequestError, FileAccessError)):
            read_bundle(path)


def first_header(kind: bytes, **changes: str) -> bytes:
    """A header that there is where the first member's has to be."""
    info = tarfile.TarInfo("archive/x")
    info.type = kind
    for key, value in changes.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.PAX_FORMAT)


@pytest.mark.parametrize(
    ("header", "named"),
    [
        (first_header(tarfile.SYMTYPE, linkname="/etc"), "a symbolic link"),
        (first_header(tarfile.LNKTYPE, linkname="../../etc/passwd"), "a hard link"),
        (first_header(tarfile.CHRTYPE), "a device"),
        (first_header(tarfile.FIFOTYPE), "a pipe"),
        (first_header(tarfile.DIRTYPE), "a directory"),
        (first_header(tarfile.REGTYPE, name="../../../etc/passwd"), "a file '../../../etc/passwd'"),
        (first_header(tarfile.REGTYPE, name="/etc/passwd"), "a file '/etc/passwd'"),
        (b"\xff" * 512, "no file header"),
    ],
    ids=["symlink", "hardlink", "device", "pipe", "directory", "traversal", "absolute", "garbage"],
)
def test_a_member_that_the_manifest_does_not_list_is_named(tmp_path: Path, header: bytes, named: str) -> None:
    at = places(manifest_of(FILES))[0][0].header_at

    def put(data: bytearray) -> bytearray:
        data[at : at + len(header)] = header
        return data

    error = refusal(spoiled(written(tmp_path), put), tmp_path)
    assert isinstance(error, UnsafeArchiveError)
    assert f"at byte {at} there is {named}" in error.what
    assert not (tmp_path / "store").exists()


def test_a_member_with_other_bytes_never_gets_its_name(tmp_path: Path) -> None:
    def put(data: bytearray) -> bytearray:
        at = data.index(b"the source")
        data[at] ^= 1
        return data

    error = refusal(spoiled(written(tmp_path), put), tmp_path)
    assert isinstance(error, PinMismatchError)
    assert "v1.15.0.tar.gz has sha256" in error.what
    assert not ContentStore(tmp_path / "store").has(sha256(FILES["archive/v1.15.0.tar.gz"]))


@settings(max_examples=examples(40, 100_000), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_flipped_bit_never_comes_out_as_something_else(tmp_path: Path, position: float, bit: int) -> None:
    """It is refused; but for one in the words that say what the bundle was made for, which decide nothing here."""
    path = written(tmp_path)

    def flip(data: bytearray) -> bytearray:
        data[int(position * len(data))] ^= 1 << bit
        return data

    store = ContentStore(tmp_path / f"store-{random.random()}")
    with contextlib.suppress(NpuServingError):
        assert (
            unpacked(spoiled(path, flip), store).manifest.members
            == parse_manifest(render_manifest(manifest_of(FILES)), "").members
        )
    assert store.check([sha256(data) for data in FILES.values()], verify=True).damaged == ()


@settings(max_examples=examples(40, 100_000), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.sampled_from(["bundle", "nothing"]), noise=st.binary(max_size=3000), at=st.integers(0, 3000))
def test_whatever_stands_in_a_file_is_an_error_of_ours_or_a_bundle(
    tmp_path: Path, start: str, noise: bytes, at: int
) -> None:
    path = written(tmp_path)
    data = path.read_bytes() if start == "bundle" else b""
    path.write_bytes(data[:at] + noise + data[at + len(noise) :])
    with contextlib.suppress(NpuServingError):
        read_bundle(path)


# ---- the manifest


def with_field(path: tuple[str | int, ...], value: object) -> bytes:
    document = json.loads(render_manifest(manifest_of(FILES)))
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


MEMBER = {"kind": "archive", "file_name": "a", "sha256": "0" * 64, "size_bytes": 1}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (with_field(("format",), 2), "format: is 2"),
        (with_field(("members", 0, "file_name"), "../../x"), "file_name"),
        (with_field(("members", 0, "file_name"), ".hidden"), "file_name"),
        (with_field(("members", 0, "file_name"), "a/b"), "file_name"),
        (with_field(("members", 0, "file_name"), "\x1b[2J"), "file_name"),
        (with_field(("members", 0, "kind"), "../.."), "kind"),
        (with_field(("members", 0, "sha256"), "0" * 63), "sha256"),
        (with_field(("members", 0, "size_bytes"), -1), "size"),
        (with_field(("members", 0, "size_bytes"), True), "size"),
        (with_field(("members", 0, "size_bytes"), 1 << 70), "size"),
        (with_field(("members", 0, "link"), "/etc"), "link"),
        (with_field(("machine",), "x\ny"), "machine"),
        (with_field(("members",), [MEMBER, MEMBER]), "twice"),
        (with_field(("members",), [{**MEMBER, "kind": "wheel", "sha256": digit * 64} for digit in "01"]), "twice"),
        (with_field(("members",), [{**MEMBER, "file_name": f"f{n}"} for n in range(10_001)]), "10001 files"),
        (with_field(("more",), "x"), "more"),
        (with_field(("members",), None), ""),
        (b"[]", ""),
        (b"[" * 100_000, ""),
        (b'{"format": 1, "format": 1}', ""),
        (render_manifest(manifest_of(FILES)) + b" ", "not written the way"),
    ],
)
def test_a_manifest_that_this_project_would_not_write_is_refused(content: bytes, named: str) -> None:
    with pytest.raises(UnsafeArchiveError, match="manifest is not valid") as caught:
        parse_manifest(content, "a.bundle")
    assert named in caught.value.what
    assert "\x1b" not in str(caught.value)


def test_a_manifest_too_large_to_read_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(form.header(form.MANIFEST_NAME, 1 << 30))
    assert isinstance(refusal(tmp_path / "file", tmp_path), UnsafeArchiveError)


def test_a_lie_about_a_size_is_noticed(tmp_path: Path) -> None:
    """The manifest and the header of a member agree on a size that the bytes don't have."""
    true = manifest_of(FILES)
    for change in (-1, 1, -512, 512):
        members = tuple(
            dataclasses.replace(item, size_bytes=item.size_bytes + change) if item.kind == "tool" else item
            for item in true.members
        )
        lie = dataclasses.replace(true, members=members)
        buffer = io.BytesIO()
        content = render_manifest(lie)
        buffer.write(form.header(form.MANIFEST_NAME, len(content)) + content + padding(len(content)))
        data = {sha256(value): value for value in FILES.values()}
        for item in sorted(lie.members, key=lambda member: member.name):
            value = data[item.sha256]
            buffer.write(form.header(item.name, item.size_bytes) + value + padding(len(value)))
        buffer.write(END)
        (tmp_path / "lie").write_bytes(buffer.getvalue())
        assert isinstance(refusal(tmp_path / "lie", tmp_path), (PinMismatchError, UnsafeArchiveError))


# ---- going on


def test_an_interrupted_run_is_gone_on_with_and_nothing_is_written_twice(tmp_path: Path) -> None:
    path = written(tmp_path)
    program = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from npu_serving.bundle.reader import read_bundle\nfrom npu_serving.fetch.content_store import ContentStore\n"
        "from npu_serving.bundle.placing import place_in_store\n"
        "left = int(sys.argv[3])\n"
        "def count(size):\n"
        "    global left\n"
        "    left -= 1\n"
        "    if left == 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "bundle = read_bundle(Path(sys.argv[1]))\n"
        "place_in_store(bundle, bundle.places, ContentStore(Path(sys.argv[2])), count)\n"
    )
    for pieces in (1, 3, 5):
        root = tmp_path / f"store-{pieces}"
        killed = subprocess.run([sys.executable, "-c", program, str(path), str(root), str(pieces)], check=False)
        assert killed.returncode == -signal.SIGKILL
        store = ContentStore(root)
        bundle = read_bundle(path)
        digests = [place.member.sha256 for place in bundle.places]
        there = store.check(digests)
        assert there.damaged == ()
        assert there.missing
        before = {sha: store.path(sha).stat() for sha in there.present}
        missing = [place for place in bundle.places if place.member.sha256 in there.missing]
        place_in_store(bundle, missing, store, lambda _: None)
        assert store.check(digests, verify=True).missing == ()
        assert {sha: store.path(sha).stat().st_ino for sha in before} == {
            sha: status.st_ino for sha, status in before.items()
        }
        assert list(store.partial.iterdir()) == []


def test_wheels_that_no_requirement_pins_are_refused_and_none_is_written(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    wheel = FILES["wheel/invoke-3.0.3-py3-none-any.whl"]
    (project / "requirements.txt").write_text(f"invoke==3.0.3 \\\n    --hash=sha256:{'0' * 64}\n")
    (project / "requirements-dev.txt").write_text("")
    bundle = read_bundle(written(tmp_path))
    with pytest.raises(PinMismatchError, match=r"invoke-3\.0\.3"):
        place_wheels(bundle, project, lambda _: None)
    assert not (project / "wheels").exists()
    (project / "requirements.txt").write_text(f"invoke==3.0.3 \\\n    --hash=sha256:{sha256(wheel)}\n")
    place_wheels(bundle, project, lambda _: None)
    assert names_below(project / "wheels") == {"invoke-3.0.3-py3-none-any.whl"}


def test_what_runs_before_there_is_an_environment_needs_the_standard_library_only(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import npu_serving.bootstrap, sys; print(sorted(sys.modules))"],
        env={"PYTHONPATH": str(root), "PATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "site" not in done.stdout.split("'")
