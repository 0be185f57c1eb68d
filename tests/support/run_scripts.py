"""Runs scripts of new-script in one process of TensorFlow 1.15.0, first without npu_bridge: run by its Python.

usage: PYTHON run_scripts.py CASES.json   (a list of {name, script, words, bridge}; prints what each did as JSON)

`bridge` is "" for no npu_bridge at all, "broken" for one whose libraries are not found, and "there".
"""

# mypy: ignore-errors

import contextlib
import importlib.util
import io
import json
import sys
import tempfile
import traceback
from pathlib import Path

STAND_IN = Path(__file__).with_name("npu_bridge_stand_in")


def run(case):
    spec = importlib.util.spec_from_file_location("script", case["script"])
    script = importlib.util.module_from_spec(spec)
    printed, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
        try:
            spec.loader.exec_module(script)
            code = script.main(case["words"])
        except SystemExit as end:  # argparse
            code = end.code
        except Exception:
            traceback.print_exc()
            code = "a traceback"
    return {"code": code, "printed": printed.getvalue(), "said": said.getvalue()}


def main(path):
    cases = json.loads(Path(path).read_text(encoding="utf-8"))
    found = {case["name"]: run(case) for case in cases if case["bridge"] == ""}
    with tempfile.TemporaryDirectory() as place:
        Path(place, "npu_bridge.py").write_text("raise ImportError(\"cannot import name 'npu_bridge_handle'\")")
        sys.path.insert(0, place)
        found.update((case["name"], run(case)) for case in cases if case["bridge"] == "broken")
        sys.path[0] = str(STAND_IN)
    importlib.invalidate_caches()
    for case in (case for case in cases if case["bridge"] == "there"):
        from npu_bridge import RUNS

        del RUNS[:]
        found[case["name"]] = {**run(case), "runs": list(RUNS)}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
