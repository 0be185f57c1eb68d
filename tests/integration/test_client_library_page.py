"""docs/client-library.md and the distribution's README, snippet by snippet, against real models in TensorFlow."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tensorflow_server import TensorFlowServer

ROOT = Path(__file__).parents[2]
PAGES = ("docs/client-library.md", "templates/client-readme.md")
SNIPPETS = [
    (page, code)
    for page in PAGES
    for code in re.findall(
        r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
]


@pytest.mark.parametrize(("page", "code"), SNIPPETS)
def test_each_snippet_runs_and_prints_what_it_says(tensorflow_server: TensorFlowServer, page: str, code: str) -> None:
    typed = code.replace("localhost:8500", tensorflow_server.target)
    typed = typed.replace("http://localhost:8501", tensorflow_server.rest_url)
    ran = subprocess.run([sys.executable, "-c", typed], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{page}:\n{ran.stderr}"
    for promised in re.findall(r"print\(.*\) +# (\S.*)", code):
        assert promised in ran.stdout or promised.startswith("what happened"), page


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_have_snippets(page: str) -> None:
    assert [code for of, code in SNIPPETS if of == page]
