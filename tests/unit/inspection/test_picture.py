"""The picture, as Graphviz lays it out and a real Chromium shows it."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Page, chromium, why_not
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageStat

from npu_serving import process
from npu_serving.errors import MissingToolError, ProgramError, RequestError
from npu_serving.inspection import picture_layout
from npu_serving.inspection.folded_graph import PictureNode, folded
from npu_serving.inspection.picture import (
    CPU,
    NPU,
    OPERATOR_KINDS,
    SIDES,
    UNKNOWN,
    check_picture_path,
    draw_overview,
    operator_kind,
    write_picture,
)

pytestmark = pytest.mark.skipif(process.find_program("dot") is None, reason="graphviz is not installed")
HOSTILE = (
    "</script><script>hacked=1</script>",
    "<img src=x onerror=hacked=1>",
    "\"'><svg onload=hacked=1>",
    "]]><!-- {{ 7*7 }} \u2028 \u0000 漢字 \U0001f600",
    '"]; b0 -> b1 [label="x',
)


def network(blocks: int = 4) -> list[PictureNode]:
    """A network whose odd blocks have an operator for the CPU."""
    nodes = [PictureNode("image", "Placeholder", [], UNKNOWN)]
    for block in range(blocks):
        odd = block % 2
        nodes.append(PictureNode(f"net/block{block}/Conv2D", "Conv2D", [nodes[-1].name], NPU))
        nodes.append(
            PictureNode(f"net/block{block}/post", "Unique" if odd else "Relu", [nodes[-1].name], CPU if odd else NPU)
        )
    return nodes


def by_operator(names: list[str]) -> list[PictureNode]:
    return [
        PictureNode(name, "MatMul", [names[index - 1]] if index else [], operator_kind("MatMul"))
        for index, name in enumerate(names)
    ]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if why_not():
        pytest.skip(why_not())
    with chromium(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "a model.html"
    write_picture(draw_overview(network(), title="model", legend=SIDES, most_boxes=5), path)
    return path


def test_the_boxes_and_the_legend_say_in_words_where_the_nodes_run(page: Page, page_file: Path) -> None:
    page.open(page_file)
    assert page.texts("#boxes .name") == ["image", "block0/", "block1/", "block2/", "block3/"]
    assert "NPU 1 · CPU 1" in page.texts("#boxes text")
    assert [text.split() for text in page.texts("#legend li")] == [["NPU", "6"], ["CPU", "2"], ["not", "known", "1"]]
    assert page.count("#edges [data-edge]") == 4
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith("file:")] == []
    assert len(page.requests) == 1


def test_a_search_finds_boxes_by_operator_and_a_click_shows_what_is_joined(page: Page, page_file: Path) -> None:
    page.open(page_file)
    page.value(
        "{ const s = document.getElementById('search'); s.value = 'uniq'; s.dispatchEvent(new Event('input')); }"
    )
    assert page.texts("#boxes .found .name") == ["block1/", "block3/"]
    assert page.texts("#found") == ["2 of 5 boxes"]
    page.value(
        "document.querySelector('[data-box=\"1\"] rect').dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    )
    assert page.texts("#boxes .box:not(.dimmed) .name") == ["image", "block0/", "block1/"]
    assert "net/block0/" in page.texts("#details")[0] and "Conv2D 1" in page.texts("#details")[0]


def test_it_can_be_zoomed_and_shown_whole_again(page: Page, page_file: Path) -> None:
    page.open(page_file)
    before = page.value("document.getElementById('graph').getAttribute('viewBox')")
    page.value("document.getElementById('in').click()")
    assert page.value("document.getElementById('graph').viewBox.baseVal.width") < float(before.split()[2])
    page.value("document.getElementById('all').click()")
    assert page.value("document.getElementById('graph').getAttribute('viewBox')") == before


def test_it_is_light_or_dark_as_the_reader_prefers_and_can_be_read_in_both(page: Page, page_file: Path) -> None:
    page.open(page_file)
    for scheme, is_light in (("light", True), ("dark", False)):
        page.prefer(scheme)
        assert (ImageStat.Stat(page.screenshot().convert("L")).mean[0] > 128) == is_light
        ink = page.value("getComputedStyle(document.querySelector('#boxes .name')).fill")
        for kind in SIDES.kinds:
            assert contrast(ink, kind.light if is_light else kind.dark) >= 4.5
        for kind in OPERATOR_KINDS.kinds:
            assert contrast(ink, kind.light if is_light else kind.dark) >= 4.5
        for place in ("header .soft", "#details", "#legend li"):
            colours = page.value(INK_AND_GROUND % json.dumps(place))
            assert contrast(*colours) >= 4.5, (scheme, place)


INK_AND_GROUND = """((found) => {
    let behind = found;
    while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
    return [getComputedStyle(found).color, getComputedStyle(behind).backgroundColor];
})(document.querySelector(%s))"""


def contrast(*colours: str) -> float:
    """Of two colours, as WCAG 2 defines it."""
    high, low = sorted(map(luminance, colours), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    numbers = re.findall(r"[\d.]+", colour) if "(" in colour else [str(each) for each in bytes.fromhex(colour[1:])]
    parts = [float(number) / 255 for number in numbers[:3]]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_no_name_of_a_model_becomes_a_part_of_the_page(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "hostile.html"
    nodes = [PictureNode(name, name, [HOSTILE[0]], UNKNOWN) for name in HOSTILE]
    write_picture(draw_overview(nodes, title=HOSTILE[1], legend=SIDES), path)
    page.open(path)
    assert page.value("typeof hacked") == "undefined"
    assert page.count("img, iframe, #boxes svg") == 0
    assert page.complaints == []
    assert page.count("[data-box]") == len(HOSTILE)
    page.value(
        "document.querySelector('[data-box=\"0\"] rect').dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    )
    assert HOSTILE[0] in page.texts("#details")[0]


def test_an_svg_is_well_formed_and_the_same_whatever_the_names_are() -> None:
    def shape(names: list[str]) -> list[str]:
        return [
            each.tag for each in ET.fromstring(draw_overview(by_operator(names), title=names[0]).text(".svg")).iter()
        ]

    @settings(deadline=None, max_examples=10)
    @given(st.lists(st.text(st.characters(exclude_characters="/^:"), min_size=1), min_size=3, max_size=3, unique=True))
    def holds(names: list[str]) -> None:
        assert shape(names) == shape(["a", "b", "c"])

    holds()


def test_loops_and_nodes_without_edges_are_drawn() -> None:
    loop = [PictureNode("a", "Merge", ["b:1", "x"], "flow"), PictureNode("b", "NextIteration", ["a"], "flow")]
    found = draw_overview([*loop, PictureNode("alone", "NoOp", [], "other")], title="loop")
    assert len(found.graph.edges) == len([curve for curve in found.layout.curves if len(curve) >= 5]) == 2
    assert len(set(found.layout.middles)) == 3
    assert draw_overview([], title="nothing").graph.boxes == ()


def test_the_page_ends_as_its_name_says_and_another_is_refused_with_one_that_works(tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        check_picture_path(tmp_path / "model.png")
    cure = caught.value.cure.rpartition(" ")[2]
    write_picture(draw_overview(network(), title="m", legend=SIDES), check_picture_path(Path(cure)))
    assert Path(cure).read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    write_picture(draw_overview(network(), title="m", legend=SIDES), tmp_path / "model.SVG")
    assert (tmp_path / "model.SVG").read_text(encoding="utf-8").startswith("<svg")


def test_a_variable_in_the_scope_of_its_own_name_is_named() -> None:
    nodes = [
        PictureNode("conv/kernel", "Const", [], "weights"),
        PictureNode("conv/kernel/read", "Identity", [], "other"),
    ]
    assert ">kernel</text>" in draw_overview(nodes, title="m").text(".svg").partition('id="boxes"')[2]


def test_without_graphviz_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match="dot") as caught:
        draw_overview(network(), title="m", legend=SIDES)
    assert "graphviz" in caught.value.cure


def test_where_graphviz_stumbles_over_frames_the_boxes_are_drawn_without(monkeypatch: pytest.MonkeyPatch) -> None:
    real = process.run

    def stumbling(argv: list[object], **options: object) -> process.Finished:
        if "cluster_" in Path(str(argv[-1])).read_text(encoding="ascii"):
            raise ProgramError("dot was ended by signal 11.")
        return real(argv, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(process, "run", stumbling)
    graph = folded(network())
    found = picture_layout.laid_out(graph, [(80.0, 40.0)] * len(graph.boxes))
    assert found.scopes == ()
    assert len(set(found.middles)) == len(graph.boxes)


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("Placeholder", "input"),
        ("Conv2D", "matrix"),
        ("VarHandleOp", "weights"),
        ("LookupTableFindV2", "text"),
        ("StatelessWhile", "flow"),
        ("Relu", "other"),
    ],
)
def test_an_operator_has_the_colour_of_its_kind(operator: str, kind: str) -> None:
    assert operator_kind(operator) == kind
