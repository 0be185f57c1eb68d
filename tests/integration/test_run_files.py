"""What the sample's server leaves behind when the options ask for it: said after its end, and listed by show-dump."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from pathlib import Path

import pytest
from model_server import Heard
from test_sample_server import base, npu, objects  # noqa: F401 - fixtures
from test_serve_status_predict import MODEL, SampleSite, config, site, wait_for  # noqa: F401 - fixtures

from npu_serving.asking.request import read_request
from npu_serving.asking.rest_client import predict
from npu_serving.console import Silent
from npu_serving.deploy.platform_config import PlatformEntry, render_platform_config
from npu_serving.results.dump_selection import DumpFilter
from npu_serving.results.show_dump import show_dump
from npu_serving.serving.readiness import ReadyTerms
from npu_serving.serving.server import serve_in_foreground
from npu_serving.serving.server_record import record_of

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="the sample server is compiled with g++")


def test_dumps_a_profile_and_the_graph_are_said_at_the_end_and_the_dump_is_listed(
    site: SampleSite,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, dumps, profiles = tmp_path / "here", tmp_path / "dumps", tmp_path / "profiles"
    for directory in (here, dumps, profiles):
        directory.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("DUMP_GE_GRAPH", "2")
    options: dict[str, bool | int | str] = {"enable_dump": True, "dump_path": str(dumps), "profiling_mode": True}
    options["profiling_options"] = json.dumps({"output": str(profiles), "task_trace": "on"})
    site.config.write_text(render_platform_config({"tensorflow": PlatformEntry(options)}))
    made, heard, build_root = site.on_npu(), Heard(), tmp_path / "build"
    url = f"http://127.0.0.1:{made.rest_api_port}"

    ended = threading.Event()

    def ask() -> None:
        request = read_request('{"instances": [1.0]}')
        wait_for(lambda: ended.is_set() or predict(url, MODEL, request).outputs is not None)
        if not ended.is_set():
            predict(url, MODEL, request)
        record = record_of(build_root, url)
        if record is not None:
            os.kill(record.pid, signal.SIGTERM)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        assert serve_in_foreground(made, heard, build_root, ReadyTerms()) == -signal.SIGTERM, heard.notes
    finally:
        ended.set()
        asking.join()
    said = heard.notes[-1]
    assert f"in {dumps};" in said
    assert f"./inv show-dump {dumps}" in said
    assert f"profiles: 1 file, 7 B, in {profiles}" in said
    assert "graphs of GE: 1 file, " in said

    report = show_dump(dumps, DumpFilter(operator=f"{MODEL}/Mul"), here, None, Silent())
    steps = [step.place.step for step in report.steps]
    assert steps == [str(number) for number in range(len(steps))]
    assert len(steps) >= 2
    assert all(step.place.model in report.graphs for step in report.steps)
    assert f"{MODEL}/Mul" in report.text()
