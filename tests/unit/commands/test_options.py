"""What `explain` prints and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from invoke.context import Context

from npu_serving.commands.options import explain

NOT_GIVEN: dict[str, object] = {
    **{"name": "", "all": False, "json": False, "cann_root": None, "adapter": None},
    **{"deployment": None, "set": None, "overlay": None},
}


def run(capsys: pytest.CaptureFixture[str], **flags: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        explain(Context(), **{**NOT_GIVEN, **flags})
    printed = capsys.readouterr()
    return int(str(ended.value)), printed.out, printed.err


def test_a_name_is_explained_as_text_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, name="graph_run_mode")
    assert (code, out.splitlines()[0]) == (0, "graph_run_mode (session option)")
    code, out, _ = run(capsys, name="graph_run_mode", json=True)
    (entry,) = json.loads(out)["entries"]
    assert (code, entry["always"], entry["kinds"], entry["section"]) == (0, 0, {"r1.8.0": "i"}, "7.1.2 基础功能, 3")


def test_all_explains_each_family(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, all=True)
    assert code == 0
    for line in (
        "use_off_line (session option)",
        "l2 (profiling key)",
        "JOB_ID (environment variable)",
        "port (server flag)",
    ):
        assert f"\n{line}\n" in out


def test_a_word_that_finds_nothing_and_a_name_beside_all_end_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, name="zzz")[0] == 2
    code, _, err = run(capsys, name="port", all=True)
    assert (code, "leave out --name" in err) == (2, True)


def test_the_lines_of_a_deployment_are_explained_and_flags_for_one_need_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "d.yaml"
    file.write_text("version: 1\nmodels: [{name: m, base_path: /m}]\n")
    code, out, _ = run(capsys, name="port", deployment=str(file), set=["server.port=9000"])
    assert (code, "server.port: 9000  (--set server.port)" in out) == (0, True)
    code, _, err = run(capsys, name="port", set=["server.port=9000"])
    assert (code, "--deployment FILE" in err) == (2, True)
    code, _, err = run(capsys, all=True, deployment=str(file))
    assert (code, "leave out --all" in err) == (2, True)
