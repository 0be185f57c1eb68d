"""Variables are read back by bash, by systemd's own reader and as docker takes them: as they were."""

from __future__ import annotations

import re
import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

from npu_serving.errors import UnwritableValueError
from npu_serving.writers.environment_file import environment_line, export_line

TEXTS = some.text(some.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@given(TEXTS)
@example('it\'s $HOME `x` "y" \\ \n!')
@settings(max_examples=100)
def test_an_exported_variable_is_read_back_by_bash(value: str) -> None:
    script = f"{export_line('NAME', value)}\nexec env -0"
    done = subprocess.run(["bash", "-c", script], env={"PATH": "/usr/bin:/bin"}, capture_output=True, check=True)
    assert f"NAME={value}" in done.stdout.decode().split("\0")


def systemd_reads(text: str) -> dict[str, str]:
    """As systemd 252 reads an EnvironmentFile= (src/basic/env-file.c), for lines of NAME=VALUE."""
    found = {}
    for line in text.split("\n"):
        if not line or line[0] in "#;":
            continue
        name, _, value = line.partition("=")
        value = value.lstrip(" \t")
        if value[:1] in ("'", '"'):
            end = value.find(value[0], 1)
            value = value[1:end]
        found[name] = re.sub(r"\\(.)", r"\1", value).rstrip(" \t")
    return found


@given(TEXTS | some.text("\"'# \\$%={}é-a;", max_size=9))
@example('{"output":"/tmp/profiling","task_trace":"on"}')
@example("a # b")
@example("$HOME %h")
def test_a_line_means_the_same_to_docker_and_to_systemd_or_is_refused(value: str) -> None:
    try:
        line = environment_line("NAME", value)
    except UnwritableValueError:
        return
    assert "\n" not in line
    as_docker_reads_it = line.lstrip().partition("=")[2]
    assert as_docker_reads_it == value
    assert systemd_reads(f"# head\n{line}\n") == {"NAME": value}


@pytest.mark.parametrize("value", ["a\nb", "a\\b", " a", "a ", "'a'", '"a"', "\0", "\udc80"])
def test_what_the_two_would_read_differently_is_refused(value: str) -> None:
    with pytest.raises(UnwritableValueError):
        environment_line("NAME", value)


@pytest.mark.parametrize("value", ['{"output":"/tmp"}', "a=b", "a b", "#a", "$HOME", "é", ""])
def test_what_they_read_alike_is_written(value: str) -> None:
    assert environment_line("NAME", value) == f"NAME={value}"


def test_a_value_that_is_refused_is_not_shown_because_it_may_be_a_password() -> None:
    with pytest.raises(UnwritableValueError) as caught:
        environment_line("AWS_SECRET_ACCESS_KEY", "hunter2\\")
    assert "AWS_SECRET_ACCESS_KEY" in caught.value.what
    assert "hunter2" not in f"{caught.value.what}{caught.value.cause}{caught.value.cure}"
