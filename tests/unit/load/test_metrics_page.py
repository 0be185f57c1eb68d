"""Pages in Prometheus' text format: read whatever is on them, fetched within bounds."""

from __future__ import annotations

import http.server
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.load.metrics_page import MetricValue, fetch_metrics, read_metrics

PAGE = r"""# TYPE :tensorflow:core:graph_runs counter
:tensorflow:core:graph_runs{} 12
# TYPE :tensorflow:serving:request_example_count_total counter
:tensorflow:serving:request_example_count_total{model="a \"b\"\\",} 3e2
:tensorflow:serving:model_warmup_latency_bucket{model_path="/m",status="x",le="+Inf"} 1
plain 7 1700000000000
nothing NaN
endless +Inf
not a line of it
{} 3
"""


def test_names_with_colons_escapes_and_times_are_read_and_what_is_no_number_is_passed_over() -> None:
    assert [(each.series, each.value) for each in read_metrics(PAGE)] == [
        (":tensorflow:core:graph_runs", 12.0),
        (':tensorflow:serving:request_example_count_total{model="a "b"\\"}', 300.0),
        (':tensorflow:serving:model_warmup_latency_bucket{model_path="/m",status="x",le="+Inf"}', 1.0),
        ("plain", 7.0),
    ]


NAMES = st.from_regex(r"\A[A-Za-z_:][A-Za-z0-9_:]{0,20}\Z")
LABELS = st.lists(st.tuples(st.from_regex(r"\A[a-z_][a-z0-9_]{0,8}\Z"), st.text(max_size=20)), max_size=4)


def written(value: MetricValue) -> str:
    escaped = (
        (name, text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')) for name, text in value.labels
    )
    labels = ",".join(f'{name}="{text}"' for name, text in escaped)
    return f"{value.name}{{{labels}}} {value.value!r}"


@given(NAMES, LABELS, st.floats(allow_nan=False, allow_infinity=False))
def test_what_is_written_by_the_rules_is_read_as_it_was(
    name: str, labels: list[tuple[str, str]], number: float
) -> None:
    clean = tuple((label, "".join(text.splitlines())) for label, text in labels)
    value = MetricValue(name, clean, number)
    assert list(read_metrics(written(value))) == [value]


@given(st.text(max_size=200))
def test_no_text_whatever_raises(text: str) -> None:
    assert all(math.isfinite(each.value) for each in read_metrics(text))


@contextmanager
def page(body: bytes, status: int = 200) -> Iterator[str]:
    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/metrics"
        server.shutdown()
        thread.join()


def test_a_page_is_fetched_and_one_that_is_something_else_is_named() -> None:
    with page(PAGE.encode()) as url:
        assert len(fetch_metrics(url)) == 4
    with page(b"<html>", 404) as url, pytest.raises(ValueError, match="HTTP status 404"):
        fetch_metrics(url)
    with page(b"<html>hello") as url, pytest.raises(ValueError, match="not a page of metrics"):
        fetch_metrics(url)
    with pytest.raises(ValueError, match="not the URL"):
        fetch_metrics("ftp://x/")
    with pytest.raises(OSError, match="refused"):
        fetch_metrics(url)
