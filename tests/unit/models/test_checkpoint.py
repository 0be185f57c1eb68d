"""Checkpoints of TensorFlow 1.15.0, read, verified and written."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_server import made_by_tensorflow
from tiers import examples

from npu_serving.errors import DiskFullError, ModelFileError, NpuServingError, RequestError
from npu_serving.models.checkpoint import checkpoint_prefix, open_checkpoint
from npu_serving.models.checkpoint_slices import VariableSlice, parsed_specification
from npu_serving.models.checkpoint_table import read_table, table_chunks
from npu_serving.models.checkpoint_writer import NewVariable, write_checkpoint

FULL = (0, -1)


@pytest.fixture(scope="module")
def made() -> Path:
    """The checkpoints of tests/support/tensorflow_checkpoints.py."""
    return made_by_tensorflow("tensorflow_checkpoints.py")


def whole(name: str, content: bytes, shape: tuple[int, ...] = (2,), dtype: str = "float32") -> NewVariable:
    return NewVariable(name, dtype, shape, [content])


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """A small checkpoint of ours: a (2), t of three texts, w (4, 2) in two parts."""
    place = tmp_path / "m.ckpt-7"
    write_checkpoint(
        place,
        [
            whole("a", numpy.array([1, 2], "<f4").tobytes()),
            NewVariable("t", "string", (3,), [b"one", b"", b"three"]),
            NewVariable("w", "int32", (4, 2), [bytes(16)], VariableSlice(((0, 2), FULL))),
            NewVariable("w", "int32", (4, 2), [b"\1\0\0\0" * 4], VariableSlice(((2, 2), FULL))),
        ],
    )
    return place


def test_variables_of_every_type_are_read_as_tensorflow_saved_them(made: Path) -> None:
    found = open_checkpoint(made / "all")
    values = numpy.load(made / "values.npz")
    assert set(found.variables) == {*values.files, "texts"}
    for name in values.files:
        array = found.read(name)
        assert isinstance(array, numpy.ndarray)
        assert (array.dtype, array.shape) == (values[name].dtype, values[name].shape), name
        assert array.tobytes() == values[name].tobytes(), name
        assert name in ("scalar", "empty") or found.variables[name].dtype == name
    assert found.variables["texts"].shape == (2, 3)
    assert found.read("texts") == [b"abc", b"", b"\xff\0", "模型".encode(), b"x" * 300, b"y"]
    assert found.verify() == ()


def test_an_index_of_many_blocks_is_read_whole(made: Path) -> None:
    found = open_checkpoint(made / "many")
    assert len(found.variables) == 15_000
    assert {each.describe() for each in found.variables.values()} == {"float32 [2]"}
    assert found.size_bytes == 120_000
    assert found.verify() == ()


def test_parts_of_a_variable_are_put_together(made: Path) -> None:
    found = open_checkpoint(made / "parts")
    for name, shape, parts in (("rows", (7, 3), 3), ("columns", (4, 6), 2), ("whole", (3,), 0)):
        variable, array = found.variables[name], found.read(name)
        assert isinstance(array, numpy.ndarray)
        assert (variable.shape, len(variable.slices)) == (shape, parts)
        assert variable.size_bytes == array.nbytes
        assert array.ravel().tolist() == list(range(array.size)) or name == "whole"
    part = found.read("rows", VariableSlice(((2, 3), FULL)))
    assert isinstance(part, numpy.ndarray) and part.ravel().tolist() == list(range(6, 15))
    assert found.verify() == ()


def test_what_lies_in_order_is_named_by_its_place_in_the_files(made: Path) -> None:
    found = open_checkpoint(made / "parts")

    def read(name: str, part: VariableSlice | None) -> list[int] | None:
        places = found.extents_of(name, part)
        if places is None:
            return None
        content = b"".join(place.file.read_bytes()[place.start : place.end] for place in places)
        return [int(number) for number in numpy.frombuffer(content, "<f4" if name == "rows" else "<i4")]

    assert read("whole", None) == [1, 2, 3]
    assert read("rows", None) == list(range(21))
    assert read("rows", VariableSlice((FULL, (0, 3)))) == list(range(21))
    assert read("rows", found.variables["rows"].slices[1]) == list(range(9, 15))
    assert read("rows", VariableSlice(((2, 4), FULL))) == list(range(6, 18))
    assert read("rows", VariableSlice(((0, 7), (0, 2)))) is None
    assert read("columns", None) is None
    assert read("columns", found.variables["columns"].slices[1]) == [3, 4, 5, 9, 10, 11, 15, 16, 17, 21, 22, 23]


def test_a_checkpoint_of_several_data_files_is_read(made: Path) -> None:
    found = open_checkpoint(made / "sharded-9")
    assert len(found.data_files()) == 2
    for number in range(4):
        array = found.read(f"v{number}")
        assert isinstance(array, numpy.ndarray) and array.tolist() == [number] * 5
    assert found.verify() == ()


def test_what_tensorflow_saves_by_objects_is_read_by_the_names_that_it_has_there(made: Path) -> None:
    found = open_checkpoint(made / "objects-1")
    array, objects = found.read("w/.ATTRIBUTES/VARIABLE_VALUE"), found.read("_CHECKPOINTABLE_OBJECT_GRAPH")
    assert isinstance(array, numpy.ndarray) and array.tolist() == [1.5, 2.5]
    assert isinstance(objects, list) and b"VARIABLE_VALUE" in objects[0]


def test_the_older_format_is_named_with_the_way_out(made: Path) -> None:
    with pytest.raises(ModelFileError, match="older format V1") as raised:
        open_checkpoint(made / "v1")
    assert "tf.train.Saver().save()" in raised.value.cure


@pytest.mark.parametrize("name", ["all", "many", "parts"])
def test_what_is_written_is_byte_for_byte_what_tensorflow_writes(made: Path, tmp_path: Path, name: str) -> None:
    source = open_checkpoint(made / name)
    places = []
    for variable in source.variables.values():
        for part, extent in zip(variable.slices or (None,), source.extents(variable.name)):
            values = source.read(variable.name, part)
            content = values if isinstance(values, list) else [values.tobytes()]
            new = NewVariable(variable.name, variable.dtype, variable.shape, content, part)
            places.append((extent.start, extent.end, new))
    write_checkpoint(tmp_path / name, [new for _, _, new in sorted(places, key=lambda place: place[:2])])
    for suffix in (".index", ".data-00000-of-00001"):
        assert (tmp_path / (name + suffix)).read_bytes() == (made / (name + suffix)).read_bytes(), suffix


VARIABLES = st.dictionaries(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20),
    st.one_of(
        st.lists(st.binary(max_size=200), max_size=5),
        st.tuples(st.sampled_from(["float32", "bfloat16", "complex128"]), st.lists(st.integers(0, 4), max_size=3)),
    ),
    max_size=8,
)


@given(variables=VARIABLES)
def test_every_checkpoint_that_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, variables: dict[str, list[bytes] | tuple[str, list[int]]]
) -> None:
    place = tmp_path_factory.mktemp("written") / "c"
    new: list[NewVariable] = []
    wanted: dict[str, bytes | list[bytes]] = {}
    for name, value in variables.items():
        if isinstance(value, list):
            new.append(NewVariable(name, "string", (len(value),), value))
            wanted[name] = value
        else:
            dtype, shape = value
            size = {"float32": 4, "bfloat16": 2, "complex128": 16}[dtype]
            content = os.urandom(size * int(numpy.prod(shape, dtype=int)))
            new.append(NewVariable(name, dtype, tuple(shape), [content[:3], content[3:]]))
            wanted[name] = content
    write_checkpoint(place, new)
    found = open_checkpoint(place)
    read = {name: found.read(name) for name in found.variables}
    assert {name: value if isinstance(value, list) else value.tobytes() for name, value in read.items()} == wanted
    assert found.verify() == ()
    shutil.rmtree(place.parent)


def test_every_changed_byte_of_the_data_is_found_and_named(prefix: Path) -> None:
    data = prefix.with_name("m.ckpt-7.data-00000-of-00001")
    good = data.read_bytes()
    for at in range(len(good)):
        data.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        (damage,) = open_checkpoint(prefix).verify()
        assert damage.variable == ("a" if at < 8 else "t" if at < 23 else "w")
        assert damage.file == data and damage.offset <= max(at, 11)  # the checksum of the lengths of texts
    data.write_bytes(good[:-10])
    found = open_checkpoint(prefix)
    (damage,) = found.verify()
    assert str(damage) == f"{data}, byte {len(good) - 10}: the file ends there, and 10 bytes are missing (variable w)"
    with pytest.raises(ModelFileError, match=rf"damaged at byte {len(good) - 10}: .*missing \(variable w\)"):
        found.read("w")
    data.unlink()
    assert [each.what for each in found.verify()] == ["the file is missing"]


def with_entry(prefix: Path, key: bytes, value: bytes | None) -> None:
    """Puts another entry into the index, or takes it out."""
    index = prefix.with_name(prefix.name + ".index")
    entries = {**dict(read_table(index)), key: value}
    index.write_bytes(b"".join(table_chunks(sorted((each, of) for each, of in entries.items() if of is not None))))


ANOTHER = bytes.fromhex("0801120412020802")  # float32 (2): 8 bytes


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (b"", None, "it has no header"),
        (b"", b"\x08\0", "there are 0 data files"),
        (b"", b"\x08\x01\x10\x01", "by a big-endian machine"),
        (b"", b"\x08\x01\x1a\x02\x10\x09", "readers need version 9"),
        (b"a", b"\x08\x63", "it has no type that TensorFlow 1.15 knows"),
        (b"a", ANOTHER + b"\x28\x09", r"it has 9 bytes, and float32 \[2\] needs 8"),
        (b"a", ANOTHER + b"\x28\x08\x18\x05", "in the data file 5, and there are 1"),
        (b"a", ANOTHER + b"\x28\x08\x20" + b"\xff" * 9 + b"\x01", "a number is negative"),
        (b"a", b"\x08\x01\x12\x02\x18\x01", "its shape is unknown"),
        (b"a", b"\x08\x01\x12" + b"\xff", "can't be so"),
        (b"a", bytes.fromhex("080712061204089fffff7f"), "can't be so|for .* texts"),
        (VariableSlice(((0, 2), FULL)).key("w"), None, "a part of the variable w is missing in it"),
        (
            VariableSlice(((0, 2), FULL)).key("w"),
            ANOTHER + b"\x28\x08",
            "is of the wrong type or shape",
        ),
    ],
)
def test_an_index_that_can_not_be_so_is_refused(prefix: Path, key: bytes, value: bytes | None, said: str) -> None:
    with_entry(prefix, key, value)
    with pytest.raises(ModelFileError, match=said) as raised:
        open_checkpoint(prefix)
    assert str(prefix) in raised.value.what and raised.value.cure


def test_an_entry_that_lies_where_another_does_or_beyond_the_file_is_damage(prefix: Path) -> None:
    with_entry(prefix, b"b", ANOTHER + b"\x28\x08\x20\x04")
    with_entry(prefix, b"z", ANOTHER + b"\x28\x08\x20\xff\xff\xff\xff\x07")
    found = {each.variable: each.what for each in open_checkpoint(prefix).verify()}
    assert found["b"] == "it lies where another variable does"
    assert "bytes are missing" in found["z"]
    with pytest.raises(ModelFileError, match="bytes are missing"):
        open_checkpoint(prefix).read("z")


def test_parts_that_are_not_the_whole_are_damage_and_are_not_read(tmp_path: Path) -> None:
    place = tmp_path / "p"
    write_checkpoint(place, [NewVariable("w", "int32", (4, 2), [bytes(16)], VariableSlice(((0, 2), FULL)))])
    found = open_checkpoint(place)
    assert [each.what for each in found.verify()] == ["its 1 parts have 4 values, and it has 8"]
    with pytest.raises(ModelFileError, match="its 1 parts have 4 values"):
        found.read("w")
    assert found.extents_of("w") is None


@settings(max_examples=examples(1000, 100_000))
@given(changes=st.lists(st.tuples(st.sampled_from([b"", b"a", b"t", b"w"]), st.binary(max_size=40)), min_size=1))
def test_an_index_of_any_bytes_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[bytes, bytes]]
) -> None:
    place = tmp_path_factory.getbasetemp() / "fuzzed"
    entries = {b"": b"\x08\x01", b"a": ANOTHER + b"\x28\x08", **{key: ANOTHER + value for key, value in changes}}
    place.with_name("fuzzed.index").write_bytes(b"".join(table_chunks(sorted(entries.items()))))
    place.with_name("fuzzed.data-00000-of-00001").write_bytes(bytes(64))
    try:
        found = open_checkpoint(place)
        for damage in found.verify():
            assert damage.what
        for name in found.variables:
            found.read(name)
    except NpuServingError as error:
        assert error.cure


def test_a_name_that_is_not_there_is_answered_with_those_near(prefix: Path) -> None:
    write_checkpoint(prefix.with_name("n"), [whole("layer/kernel", bytes(8))])
    with pytest.raises(RequestError, match="contains no variable layer/kernal") as raised:
        open_checkpoint(prefix.with_name("n")).read("layer/kernal")
    assert "layer/kernel" in raised.value.cause


def test_a_checkpoint_is_found_by_any_of_its_files_and_by_its_directory(made: Path, prefix: Path) -> None:
    for name in ("m.ckpt-7", "m.ckpt-7.index", "m.ckpt-7.meta", "m.ckpt-7.data-00000-of-00001"):
        assert checkpoint_prefix(prefix.with_name(name)) == prefix
    assert checkpoint_prefix(prefix.parent) == prefix
    assert checkpoint_prefix(made) == made / "v1"  # the last one that was saved, as the file `checkpoint` says
    saved_model = prefix.parent / "saved"
    (saved_model / "variables").mkdir(parents=True)
    write_checkpoint(saved_model / "variables" / "variables", [])
    assert checkpoint_prefix(saved_model) == checkpoint_prefix(saved_model / "variables")
    assert open_checkpoint(checkpoint_prefix(saved_model)).variables == {}
    write_checkpoint(prefix.with_name("another"), [])
    with pytest.raises(RequestError, match="contains 2 checkpoints"):
        checkpoint_prefix(prefix.parent)
    with pytest.raises(ModelFileError, match=re.escape("m.ckpt-8.index is missing")) as raised:
        open_checkpoint(prefix.with_name("m.ckpt-8"))
    assert raised.value.cure == f"name {prefix}"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("10 4 0,5:-", ((10, 4), ((0, 5), FULL))),
        ("3 -", ((3,), (FULL,))),
        ("", None),
        ("3 4 -", None),
        ("3 0,", None),
        ("x", None),
    ],
)
def test_the_text_of_a_part_is_understood(text: str, wanted: tuple[object, object] | None) -> None:
    found = parsed_specification(text)
    assert (found and (found[0], found[1].extents)) == wanted


def test_a_checkpoint_that_is_there_is_not_replaced(prefix: Path) -> None:
    before = prefix.with_name("m.ckpt-7.index").read_bytes()
    with pytest.raises(RequestError, match="is there already"):
        write_checkpoint(prefix, [])
    assert prefix.with_name("m.ckpt-7.index").read_bytes() == before


def test_nothing_stays_of_a_checkpoint_that_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def stops() -> list[NewVariable]:
        raise KeyboardInterrupt

    with pytest.raises(RequestError, match="'a' can't be written"):
        write_checkpoint(tmp_path / "c", [whole("a", bytes(8)), whole("a", bytes(8))])
    with pytest.raises(ValueError, match="7 bytes for float32"):
        write_checkpoint(tmp_path / "c", [whole("a", bytes(7))])
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path / "c", (whole("a", bytes(8)) for _ in stops()))
    assert os.listdir(tmp_path) == []
    real = os.fsync
    synced: list[int] = []
    for fails_at in range(4):  # the data, its directory, the index, its directory
        synced.clear()

        def fsync(descriptor: int, last: int = fails_at) -> None:
            if len(synced) == last:
                fails()
            synced.append(descriptor)
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(DiskFullError):
            write_checkpoint(tmp_path / "c", [whole("a", bytes(8))])
        assert not (tmp_path / "c.index").exists() or fails_at == 3
        left = [name for name in os.listdir(tmp_path) if name.startswith(".")]
        assert left == []
        for name in os.listdir(tmp_path):
            (tmp_path / name).unlink()


def test_a_large_variable_is_verified_and_written_without_being_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tracemalloc

    megabyte = bytes(1 << 20)
    tracemalloc.start()
    new = NewVariable("w", "uint8", (64 << 20,), (megabyte for _ in range(64)))
    write_checkpoint(tmp_path / "c", [new])
    told: list[int] = []
    assert open_checkpoint(tmp_path / "c").verify(told.append) == ()
    assert sum(told) == 64 << 20
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
