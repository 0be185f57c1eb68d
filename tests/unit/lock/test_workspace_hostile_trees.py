"""Trees that were made to harm, or are damaged: each ends in one error that names the file, and none hangs."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from npu_serving.errors import WorkspaceError
from npu_serving.lock.workspace import lock_tree

SHA = "a" * 64
VERSION = "".join(
    f"#define TF_MODELSERVER_{part}_VERSION {number}\n" for part, number in (("MAJOR", 1), ("MINOR", 15), ("PATCH", 0))
)


def tree(root: Path, **files: str) -> Path:
    for name, text in {"tensorflow_serving/model_servers/version.h": VERSION, **files}.items():
        path = root / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root / "tree"


def refused(path: Path, complaint: str, **archives: Path) -> WorkspaceError:
    with pytest.raises(WorkspaceError, match=complaint) as caught:
        lock_tree(path, lambda archive: archives[archive.name])
    assert caught.value.cure
    assert caught.value.what.count("\n") == 0
    return caught.value


def loading(root: Path, text: str) -> Path:
    return tree(root, WORKSPACE='load("//sub:m.bzl", "more")\nmore()\n', **{"sub/m.bzl": text})


@pytest.mark.parametrize(
    "body",
    [
        "    for _ in range(10000000):\n        for _ in range(10000000):\n            pass",
        "    return [1 for _ in range(10000000) for _ in range(10000000)]",
        "    x = [1]\n    for _ in range(10000000):\n        x = x + x[:1]",
    ],
    ids=["loops", "comprehension", "memory"],
)
def test_a_loop_that_would_never_end_is_ended_by_its_steps(tmp_path, body):
    refused(loading(tmp_path, f"def more():\n{body}\n"), r"Gave up evaluating //.* after 20,000,000 steps")


def test_a_rule_whose_implementation_never_ends_is_named(tmp_path):
    rule = (
        "def _i(ctx):\n    for _ in range(10000000):\n        for _ in range(10000000):\n            pass\n"
        "r = repository_rule(implementation = _i)\ndef more():\n    r(name = 'thing')\n"
    )
    refused(loading(tmp_path, rule), "Gave up evaluating the rule r of thing")


@pytest.mark.parametrize("text", ["def more():\n    more()\n", "def a():\n    more()\ndef more():\n    a()\n"])
def test_recursion_ends(tmp_path, text):
    refused(loading(tmp_path, text), "sub:m.bzl, line [24]: ")


@pytest.mark.parametrize("text", ["sorted(range(2000000000))", "list(range(1000000000))", "max(range(99999999))"])
def test_a_range_that_fills_the_memory_is_refused(tmp_path, text):
    refused(loading(tmp_path, f"def more():\n    return {text}\n"), r"range\(\) of \d+ numbers")


@pytest.mark.parametrize(
    "text",
    ["[" * 9000 + "]" * 9000, "-" * 100000 + "1", "+".join(["1"] * 20000), "a" + ".b" * 20000, "not " * 9000 + "1",
     "f" + "()" * 20000, "(" * 600 + "1" + ")" * 600, "{1: " * 5000 + "1" + "}" * 5000, "[" * 1000000],
    ids=["lists", "signs", "sums", "dots", "nots", "calls", "brackets", "dicts", "open"],
)  # fmt: skip
def test_nesting_that_would_kill_the_parser_is_told_with_its_line(tmp_path, text):
    refused(
        loading(tmp_path, f"def more():\n    pass\n\nx = {text}\n"),
        "//sub:m.bzl, line 4: expressions are nested too deeply",
    )


def test_much_that_is_not_deep_is_no_nesting(tmp_path):
    long = "".join(f'    "k{number}": ["https://a.example/{number}.zip", ("a", -1 + 2)],\n' for number in range(5000))
    statements = "".join(f"x{number} = (1 + 2) * 3 if True else [4][0]\n" for number in range(2000))
    brackets = '# (((((\n"""' + "(" * 2000 + '"""\n' + "'''" + "[" * 2000 + "'''\n" + f'y = "{"{" * 2000}"\n'
    text = f"T = {{\n{long}}}\n{statements}{brackets}def more():\n    pass\n"
    lock_tree(loading(tmp_path, text), lambda archive: tmp_path)


def test_files_that_load_each_other_are_told_as_a_circle(tmp_path):
    path = tree(
        tmp_path,
        WORKSPACE='load("//:a.bzl", "x")\n',
        **{"a.bzl": 'load("//:b.bzl", "x")\n', "b.bzl": 'load("//:a.bzl", "x")\n'},
    )
    refused(path, r"//:a\.bzl loads itself: //:a\.bzl -> //:b\.bzl -> //:a\.bzl")


def test_a_file_of_ten_megabytes_is_refused_by_name(tmp_path):
    refused(loading(tmp_path, "# " + "x" * 10_000_000), r"sub/m\.bzl has 1000000[0-9] bytes")
    with zipfile.ZipFile(tmp_path / "dep.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m.bzl", "# " + "x" * 10_000_000)
    path = tree(
        tmp_path,
        WORKSPACE=f'http_archive(name = "dep", url = "https://a.example/dep.zip", sha256 = "{SHA}")\n'
        'load("@dep//:m.bzl", "more")\n',
    )
    refused(path, r"dep\.zip: m\.bzl has", dep=tmp_path / "dep.zip")


@pytest.mark.parametrize("label", ["//..:m.bzl", "//../..:m.bzl", "//sub/../..:m.bzl", "//:../m.bzl", "//:/etc/passwd"])
def test_a_label_that_leads_out_of_the_tree_is_not_followed(tmp_path, label):
    (tmp_path / "m.bzl").write_text("def more():\n    fail('it was read')\n")
    refused(tree(tmp_path, WORKSPACE=f'load("{label}", "more")\nmore()\n'), "does not exist|is not a label")


@pytest.mark.parametrize("name", ["sub/m.bzl", "sub"])
def test_a_link_that_leads_out_of_the_tree_is_not_followed(tmp_path, name):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "m.bzl").write_text("def more():\n    fail('it was read')\n")
    path = loading(tmp_path, "")
    (path / "sub/m.bzl").unlink()
    if name == "sub":
        (path / "sub").rmdir()
    (path / name).symlink_to(outside / "m.bzl" if name.endswith(".bzl") else outside)
    refused(path, r"sub/m\.bzl is a link that points outside")


def test_a_link_within_the_tree_is_followed(tmp_path):
    path = loading(tmp_path, "")
    (path / "sub/m.bzl").unlink()
    (path / "other.bzl").write_text("def more():\n    pass\n")
    (path / "sub/m.bzl").symlink_to("../other.bzl")
    lock_tree(path, lambda archive: tmp_path)


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path):
    import os

    path = loading(tmp_path, "")
    (path / "sub/m.bzl").unlink()
    os.mkfifo(path / "sub/m.bzl")
    refused(path, "does not exist")
