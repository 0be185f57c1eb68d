"""A file of flags is read back by the real bin/serve as it was."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

from npu_serving.errors import UnwritableValueError
from npu_serving.settings import PROJECT_ROOT
from npu_serving.writers.flag_file import flag_line

SERVE = (PROJECT_ROOT / "docker/runtime/serve").read_text(encoding="utf-8")
CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


def functions(*names: str) -> str:
    """Those functions of bin/serve, and one that stands for the check of a flag."""
    found = [re.search(rf"^{name}\(\) \{{\n.*?^\}}\n", SERVE, re.MULTILINE | re.DOTALL) for name in names]
    return "".join(match.group() for match in found if match) + "check_flag() { :; }\n"


def read_back(text: str, directory: Path) -> list[str]:
    file = directory / "flags"
    file.write_text(text, encoding="utf-8")
    script = (
        functions("refuse", "trim", "unquote", "read_flags") + 'flags=()\nread_flags "$1"\nprintf "%s\\0" "${flags[@]}"'
    )
    done = subprocess.run(["bash", "-c", script, "bash", str(file)], capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flags")


@given(
    value=some.text(some.characters(exclude_categories=["Cs"]), max_size=20) | some.text("\"'# \\$%={}é-a", max_size=9)
)
@example(value="'")
@example(value=' a # b" ')
@example(value="a\\")
@example(value="--port=1 --x=2")
@settings(max_examples=150)
def test_a_flag_is_read_back_by_bin_serve_or_refused(directory: Path, value: str) -> None:
    needs_both = '"' in value and "'" in value
    if CONTROL.search(value) or needs_both:
        with pytest.raises(UnwritableValueError):
            flag_line("name", value)
        return
    assert read_back(f"# head\n{flag_line('name', value)}\n--last=1\n", directory) == [f"--name={value}", "--last=1"]


@pytest.mark.parametrize("value", ["a\nb", "a\0", "\x7f", "\udc80", "\"'"])
def test_what_such_a_file_can_not_hold_is_refused(value: str) -> None:
    with pytest.raises(UnwritableValueError) as caught:
        flag_line("grpc_socket_path", value)
    assert "--grpc_socket_path=" in caught.value.what
