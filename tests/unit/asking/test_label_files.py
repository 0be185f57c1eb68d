"""Files of labels: which kind one is, and what is wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.asking.label_files import Labels, read_labels
from npu_serving.errors import RequestError


def _labels(tmp_path: Path, *texts: str, offset: int = 0) -> Labels:
    paths = []
    for at, text in enumerate(texts):
        paths.append(tmp_path / f"labels-{at}.txt")
        paths[-1].write_text(text, encoding="utf-8")
    return read_labels(paths, offset)


def test_the_guides_file_of_images_is_read_with_exact_names_and_the_offset(tmp_path: Path) -> None:
    labels = _labels(tmp_path, "ILSVRC2012_val_1.JPEG 65\nILSVRC2012_val_11.JPEG 970 rest of the line\n", offset=1)
    assert labels.class_of(Path("/images/ILSVRC2012_val_1.JPEG")) == 66
    assert labels.class_of(Path("ILSVRC2012_val_11.JPEG")) == 971
    assert labels.class_of(Path("ILSVRC2012_val_111.JPEG")) is None


def test_a_name_without_its_ending_is_as_exact(tmp_path: Path) -> None:
    labels = _labels(tmp_path, "val_1 4\nval_11 5\n")
    assert [labels.class_of(Path(name)) for name in ("val_1.png", "val_11.png", "al_1.png")] == [4, 5, None]


def test_the_names_of_classes_stand_in_order_or_by_number_and_beside_the_images_labels(tmp_path: Path) -> None:
    in_order = _labels(tmp_path, "tench, Tinca tinca\ngoldfish\n")
    assert (in_order.name(0), in_order.name(1), in_order.name(2)) == ("tench, Tinca tinca", "goldfish", "")
    both = _labels(tmp_path, "1: goldfish\n0: tench\n", "a.png 1\n", offset=1)
    assert (both.name(0), both.name(1), both.name(2)) == ("", "tench", "goldfish")
    assert both.class_of(Path("a.png")) == 2
    both.check(3)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "has no label"),
        ("tench\n\ngoldfish\n", "Line 2 of .* is empty"),
        ("0 tench\n1 goldfish\n3 shark\n5 ray\n", "no name for 2 of the classes up to 5: 2, 4"),
        ("0 tench\n0 goldfish\n", "Line 2 of .* names the class 0, which line 1 has named"),
        ("0 tench\ngoldfish\n", "Line 2 of .* not the number of a class and its name"),
        ("-1 tench\n", "has the class -1"),
        ("a.png 1\nb.png\n", "Line 2 of .* not an image's name and the number of its class"),
        ("a.png 1\nb.png 1\na.png 2\n", "Line 3 of .* gives a.png the label 2, and line 1 1"),
    ],
)
def test_a_file_with_gaps_doubles_or_other_lines_is_refused_with_the_line(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(RequestError, match=what):
        _labels(tmp_path, text)


def test_two_files_of_one_kind_and_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="both hold the names of classes"):
        _labels(tmp_path, "tench\n", "goldfish\n")
    (tmp_path / "image.txt").write_bytes(b"\x89PNG\xff")
    with pytest.raises(RequestError, match="is not UTF-8 text: byte 1"):
        read_labels([tmp_path / "image.txt"])


def test_images_without_a_label_are_named_all_at_once(tmp_path: Path) -> None:
    labels = _labels(tmp_path, "a.png 1\n")
    with pytest.raises(RequestError, match=r"2 of 3 images have no label in .*: b.png, c.png"):
        labels.classes_of([Path("a.png"), Path("b.png"), Path("c.png")])


def test_labels_that_do_not_fit_the_models_classes_are_refused_and_the_cure_helps(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="answers with 3 scores") as error:
        _labels(tmp_path, "tench\ngoldfish\n").check(3)
    assert error.value.cure == "--label-offset 1"
    _labels(tmp_path, "tench\ngoldfish\n", offset=1).check(3)
    with pytest.raises(RequestError, match=r"a\.png in class 3, and the model has 3, 0 to 2"):
        _labels(tmp_path, "a.png 3\n").check(3)


@given(st.dictionaries(st.text("abcJPEG._-ä", min_size=1).filter(lambda name: name[0] not in "-"), st.integers(0, 999)))
def test_what_is_written_as_the_guide_writes_it_is_read(tmp_path_factory: pytest.TempPathFactory, wanted) -> None:
    wanted = {f"i{name}": number for name, number in wanted.items()} or {"i": 0}
    path = tmp_path_factory.mktemp("labels") / "val_label.txt"
    path.write_text("".join(f"{name} {number}\n" for name, number in wanted.items()), encoding="utf-8")
    assert read_labels([path]).of_images == wanted
