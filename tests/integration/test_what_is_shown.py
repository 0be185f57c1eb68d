"""What a person typed comes back in a message without its password, and without what a terminal would obey."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _inv(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return subprocess.run(
        [ROOT / "inv", *words],
        cwd=ROOT,
        env={**environment, "NPU_SERVING_VENV": sys.prefix, **variables},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("json_too", [False, True])
@pytest.mark.parametrize(
    "words",
    [
        ["status", "m", "--url", "http://me:gehe#im@127.0.0.1:1"],
        ["status", "m", "--url", "http:/me:geheim@127.0.0.1:1"],
        ["predict", "m", "--url", "http://me:geheim@127.0.0.1:1", "--request", '{"instances": [1]}'],
        ["fetch-deps", "--source", "sample", "--mirror", "me:geheim@mirror/dir"],
        ["fetch-deps", "--source", "sample", "--mirror", "https//me:ge/heim@mirror/dir"],
        ["build-serving", "--dry-run", "--remote-cache", "http//me:geheim@cache:80"],
        ["build-serving", "--http://me:geheim@host"],
        ["http://me:geheim@host"],
    ],
    ids=lambda words: " ".join(words[:1] + words[-1:]),
)
def test_no_message_shows_the_password_of_a_url(words: list[str], json_too: bool) -> None:
    done = _inv(*words, *(["--json"] if json_too else []))
    assert done.returncode != 0
    assert done.stderr
    assert "eim" not in done.stdout + done.stderr


OBEYED = "\x1b[31m\x07\u202e\r\x9b"


@pytest.mark.parametrize(
    "words",
    [
        [OBEYED],
        ["doctor", f"--{OBEYED}"],
        ["doctor", "--source", OBEYED],
        ["status", OBEYED, "--url", "http://127.0.0.1:1"],
        ["status", "m", "--url", f"http://{OBEYED}"],
        ["verify-serving", "--server", OBEYED],
        ["fetch-deps", "--source", "sample", "--mirror", OBEYED],
        ["--help", OBEYED],
        ["--list", OBEYED],
        ["--print-completion-script", OBEYED],
    ],
    ids=lambda words: words[0] if words[0].isascii() and words[0].isprintable() else "task",
)
def test_what_a_terminal_would_obey_in_a_value_is_never_printed_as_it_is(words: list[str]) -> None:
    done = _inv(*words)
    assert done.returncode != 0
    assert not {"\x1b", "\x07", "\u202e", "\r", "\x9b"} & set(done.stdout + done.stderr), done.stderr
    assert "Traceback" not in done.stderr


def test_a_socks_proxy_is_named_and_the_url_is_not_called_wrong() -> None:
    done = _inv("status", "m", "--url", "http://192.0.2.1:8501", ALL_PROXY="socks5://me:geheim@127.0.0.1:1080")
    assert done.returncode == 2
    assert "ALL_PROXY is 'socks5://***@127.0.0.1:1080', a SOCKS proxy" in done.stderr
    here = _inv("status", "m", "--url", "http://127.0.0.1:1", ALL_PROXY="socks5://127.0.0.1:1080")
    assert "Nothing listens at http://127.0.0.1:1" in here.stderr, "this machine is never asked through a proxy"
