"""The report, as a real Chromium shows it: charts, colours, hostile names, no network."""

from __future__ import annotations

import html.parser
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from chromium import Page, chromium, why_not
from hypothesis import given, settings
from hypothesis import strategies as st
from load_runs import level, run
from PIL import ImageStat

from npu_serving.errors import MissingToolError
from npu_serving.load import report
from npu_serving.load.figures import COLOURS
from npu_serving.load.report import report_html
from npu_serving.load.results import LoadRun, MarkedEvent, Sample
from npu_serving.load.tables import ms_text
from npu_serving.load.thresholds import hold_against, parse_threshold

HOSTILE = (
    "</script><script>hacked=1</script>",
    "<img src=x onerror=hacked=1>",
    "\"'><svg onload=hacked=1>",
    "<b>bold</b> &amp; <a href='javascript:hacked=1'>%{x} $1$ link</a>",
    "]]><!-- {{ 7*7 }} \u2028 \u0000 漢字 \U0001f600",
)
CHARTS = ["sweep", "percentiles", "timeline", "server"]


def sweep() -> LoadRun:
    levels = [level(c, middle_ms=3 + c * 0.4, throughput=240.0 + 40 * c, windows=3, seed=c) for c in (1, 2, 4)]
    events = (MarkedEvent(1.0, "warm-up over"), MarkedEvent(2.4, "publish-model begun"))
    levels[2] = replace(levels[2], events=events, errors={"busy": 7})
    found = run(*levels)
    return replace(found, thresholds=tuple(hold_against([parse_threshold("p99>9ms")], found)))


def hostile() -> LoadRun:
    """A run with one of these texts wherever a text of somebody else's can stand."""
    texts = iter(HOSTILE * 10)
    events = tuple(MarkedEvent(1.0 + number, next(texts)) for number in range(len(HOSTILE)))
    samples = (
        Sample(1.0, 1.0, 1 << 20, {next(texts): 1.0}, {next(texts): 2.0}),
        Sample(2.0, None, None, {HOSTILE[0]: 3.0}),
    )
    bad = replace(level(rate=5.0, events=events), arrivals=next(texts), samples=samples)
    bad = replace(bad, generator=replace(bad.generator, bottleneck=next(texts)))
    found = run(
        level(1), bad, valid=False, reasons=(next(texts), next(texts)), golden={"names": [next(texts)], "compared": 3}
    )
    names = {name: next(texts) for name in ("id", "begun", "target", "model", "version", "signature", "request")}
    return replace(found, **names)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if why_not():
        pytest.skip(why_not())
    with chromium(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report of a test.html"
    path.write_text(report_html(sweep()), encoding="utf-8")
    return path


def test_every_chart_is_drawn_without_a_complaint_or_a_request(page: Page, report_file: Path) -> None:
    page.open(report_file)
    assert [page.value("Array.from(document.querySelectorAll('[data-figure]'), (e) => e.dataset.figure)")] == [CHARTS]
    assert [page.count(f"[data-figure={name}] .scatterlayer path.js-line") for name in CHARTS] == [2, 3, 4, 3]
    assert page.count("[data-figure=timeline] .bars .point") > 0
    assert page.texts("[data-figure=timeline] .annotation-text") == ["warm-up over", "publish-model begun"]
    assert page.complaints == []
    assert {url.split(":")[0] for url in page.requests} <= {"file", "data", "blob"}
    assert len([url for url in page.requests if url.startswith("file")]) == 1


def test_it_is_light_or_dark_as_the_reader_prefers_and_can_be_read_in_both(page: Page, report_file: Path) -> None:
    page.open(report_file)
    brightness = {}
    for scheme in ("light", "dark"):
        page.prefer(scheme)
        image = page.screenshot()
        brightness[scheme] = ImageStat.Stat(image.convert("L")).mean[0]
        drawn = {f"#{bytes(pixel).hex()}" for pixel in numpy.unique(numpy.asarray(image).reshape(-1, 3), axis=0)}
        assert set(COLOURS[:4]) <= drawn  # the charts' lines
        ground = page.value("getComputedStyle(document.querySelector('section')).backgroundColor")
        axis = page.value("getComputedStyle(document.querySelector('[data-figure=percentiles] .xtick text')).fill")
        assert contrast(axis, ground) >= 4.5
        for place in ("body", ".verdict.bad", ".card .name", "summary", ".pill.good", "#levels th"):
            assert contrast(*page.value(INK_AND_GROUND % json.dumps(place))) >= 4.5, (scheme, place)
    assert brightness["light"] > 200
    assert brightness["dark"] < 70


INK_AND_GROUND = """((found) => {
    let behind = found;
    while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
    return [getComputedStyle(found).color, getComputedStyle(behind).backgroundColor];
})(document.querySelector(%s))"""


def contrast(ink: str, ground: str) -> float:
    """Of two colours, as WCAG 2 defines it."""
    high, low = sorted((luminance(ink), luminance(ground)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [float(number) / 255 for number in re.findall(r"[\d.]+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_value_under_the_mouse_is_shown(page: Page, report_file: Path) -> None:
    page.open(report_file)
    chart = "document.querySelector('[data-figure=percentiles] .nsewdrag')"
    page.value(f"{chart}.scrollIntoView()")
    x, y, width, height = page.value(
        f"(({{x, y, width, height}}) => [x, y, width, height])({chart}.getBoundingClientRect())"
    )
    page.move_mouse(x + width / 2, y + height / 2)
    page.move_mouse(x + width / 2 + 3, y + height / 2)
    page.wait_for("document.querySelectorAll('[data-figure=percentiles] .hoverlayer text').length > 2")
    shown = page.texts("[data-figure=percentiles] .hoverlayer text")
    assert [text for text in shown if re.search(r"p\d+\.?\d*: \d+\.?\d* ms", text)]


def test_values_are_in_tables_and_follow_the_load_that_is_chosen(page: Page, report_file: Path) -> None:
    found = sweep()
    page.open(report_file)
    cells = page.texts("#percentiles tbody td")
    assert cells[::9] == ["1 at once", "2 at once", "4 at once"]
    assert cells[5] == ms_text(found.levels[0].percentile_ms(99))
    assert page.count("[data-level='2']:not([hidden]) .seconds tbody tr") == len(found.levels[2].timeline)
    assert page.count("[data-level]:not([hidden])") == 2  # over time, and the server
    page.value("{ const s = document.getElementById('level'); s.value = '0'; s.dispatchEvent(new Event('change')); }")
    page.wait_for("!document.querySelector('[data-level=\"0\"]').hidden")
    p50_ms = found.levels[0].timeline[0].p50_ms
    page.wait_for(f"document.querySelector('[data-figure=timeline]').data[2].y[0] === {p50_ms}")
    assert page.count("[data-level]:not([hidden])") == 2


def test_no_name_from_outside_becomes_a_part_of_the_page(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(report_html(hostile()), encoding="utf-8")
    page.open(path)
    assert page.value("typeof hacked") == "undefined"
    assert page.count("img, iframe, main svg a, main b b") == 0
    assert page.complaints == []
    (text,) = page.texts("body")
    assert [each for each in HOSTILE if each.replace("\0", "\ufffd") not in text] == []
    notes = page.texts("[data-figure=timeline] .annotation-text")
    assert [" ".join(note.split()) for note in notes[:3]] == [*HOSTILE[:3]]


class Texts(html.parser.HTMLParser):
    """The texts and the elements of a page; scripts whole."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.elements = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements += 1

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


NAME = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)


@settings(deadline=None, max_examples=10)
@given(st.lists(NAME, min_size=5, max_size=5))
def test_a_page_has_the_same_elements_whatever_the_names_are(names: list[str]) -> None:
    plain, ours = page_named(["x"] * 5), page_named(names)
    assert ours.elements == plain.elements
    assert len(ours.texts) == len(plain.texts)
    assert set(names) <= set(ours.texts)


def page_named(names: list[str]) -> Texts:
    """The page of a run whose texts from outside are these."""
    texts = dict(zip(("target", "id", "version", "signature", "request"), names))
    one = level(windows=1, events=(MarkedEvent(1.0, names[0]),))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "_plotly", lambda: "")
        return parsed(report_html(replace(run(one), model=names[1], **texts)))  # type: ignore[arg-type]


def parsed(text: str) -> Texts:
    found = Texts()
    found.feed(text)
    found.close()
    return found


def test_without_plotly_the_next_step_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingToolError, match="plotly is not installed"):
        report_html(run())
