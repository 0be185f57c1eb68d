"""Tasks typed as a person would, in a process of their own, with an environment that the test chooses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import npu_serving

ROOT = Path(npu_serving.__file__).resolve().parents[1]
OF_PROXIES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy", "no_proxy")


class Ended:
    """The exit code, what was printed, and what was said besides."""

    def __init__(self, code: int, out: str, said: str) -> None:
        self.code, self.out, self.said = code, out, said

    @property
    def document(self) -> Any:
        """What `--json` printed: strictly JSON, without NaN."""

        def refuse(word: str) -> object:
            raise AssertionError(f"{word} is no JSON")

        return json.loads(self.out, parse_constant=refuse)

    def __repr__(self) -> str:
        return f"{self.code}\n{self.out}\n{self.said}"


def typed(
    *words: str, text: str = "", build_root: Path | None = None, environment: Mapping[str, str] | None = None
) -> Ended:
    """What a task ends with; no variable of a proxy is set but those that are given."""
    cleared = {name for word in OF_PROXIES for name in (word, word.upper())}
    kept = {name: value for name, value in os.environ.items() if name not in cleared}
    where = {}
    if build_root is not None:
        settings = build_root / "invoke.yaml"
        settings.write_text(json.dumps({"npu_serving": {"build_root": str(build_root)}}), encoding="utf-8")
        where["NPU_SERVING_SETTINGS"] = str(settings)
    ran = subprocess.run(
        [sys.executable, "-m", "npu_serving", *words],
        cwd=ROOT,
        env={**kept, **where, **(environment or {})},
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    return Ended(ran.returncode, ran.stdout, ran.stderr)
