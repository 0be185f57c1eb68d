"""Every next step means the same as the call that named it: the flags that it takes are repeated, quoted."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
from invoke.context import Context

import tasks
from npu_serving.building.pipeline import AnalysisResult
from npu_serving.cli import answer
from npu_serving.commands import flags
from npu_serving.commands.flags import OFFERED, TAKEN, Call, command
from npu_serving.console import Console
from npu_serving.errors import BuildFailedError, RequestError
from npu_serving.repeated_flags import RepeatedFlags

assert tasks  # which fills the tables


def repeated(**typed: Any) -> RepeatedFlags:
    return RepeatedFlags({name.replace("_", "-"): value for name, value in typed.items()}, TAKEN)


def test_an_analysis_sends_on_to_the_build_that_it_analysed(capsys: pytest.CaptureFixture[str]) -> None:
    typed = repeated(source="/a tree", adapter="sample", runner="host", jobs="2", bazel_arg=["--copt=-O0", "-k"])
    with pytest.raises(SystemExit):
        answer(lambda _console: AnalysisResult("/a tree", "x", 1.0), as_json=False, repeated=typed)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Next: ")]
    words = shlex.split(line[len("Next: ") :])
    assert words[:2] == ["./inv", "build-serving"]
    assert words[words.index("--source") + 1] == "/a tree"
    assert words[words.index("--adapter") + 1] == "sample"
    assert {"--runner", "--jobs"} <= set(words)
    assert "--bazel-arg=--copt=-O0" in words
    assert "--bazel-arg=-k" in words


def test_a_checked_deployment_is_served_with_the_values_that_it_was_checked_with() -> None:
    typed = repeated(set=["server.port=9000", "environment.MY_TOKEN=hunter2"], overlay=["site b.yaml"])
    step = typed.in_step("./inv serve --deployment d.yaml")
    words = shlex.split(step)
    assert words[words.index("--set") + 1] == "server.port=9000"
    assert words[words.index("--overlay") + 1] == "site b.yaml"
    assert words.count("--deployment") == 1
    assert "hunter2" not in step


def test_what_is_laid_over_a_deployment_is_repeated_only_with_the_deployment() -> None:
    typed = repeated(set=["server.port=9000"])
    assert typed.in_step("./inv explain dump_path") == "./inv explain dump_path"
    assert "--set server.port=9000" in typed.in_step("./inv serve --deployment d.yaml")
    assert "--set server.port=9000" in typed.in_step("./inv check-deployment d.yaml")
    with_file = repeated(deployment="d.yaml", set=["server.port=9000"])
    assert with_file.in_step("./inv explain x") == "./inv explain --deployment d.yaml --set server.port=9000 x"
    step = "./inv explain x, without --deployment, explains it"
    assert with_file.in_step(step) == step


def test_a_request_is_recorded_without_the_deployment_that_smoke_would_refuse_beside_it() -> None:
    typed = repeated(deployment="d.yaml", set=["server.port=9000"], build="b")
    step = "./inv smoke --record --model-base-path PATH --request REQUEST"
    assert typed.in_step(step) == step.replace("smoke", "smoke --build b")


def test_a_step_with_a_hidden_secret_says_that_it_has_to_be_typed_and_is_refused_as_it_stands() -> None:
    values = ["environment={MY_TOKEN: hunter 2}", "server.port=9000"]
    step = repeated(set=values).in_step("./inv serve --deployment d.yaml")
    assert step.endswith("(type the secret in place of ***)")
    assert "hunter" not in step
    words = shlex.split(step.partition("   (")[0])
    copied = [words[index + 1] for index, word in enumerate(words) if word == "--set"]
    with pytest.raises(RequestError, match=r"--set has \*\*\* in it") as caught:
        repeated(set=copied).refuse_hidden()
    assert caught.value.cure == "type the secret in place of ***"
    repeated(set=values, source="/a*b**", toolchains=True).refuse_hidden()
    assert "(type" not in repeated(set=["server.port=9000"]).in_step("./inv serve --deployment d.yaml")


def test_a_command_that_was_copied_with_its_secret_hidden_is_not_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for table in ("OFFERED", "TAKEN"):  # the task of this test goes with it
        monkeypatch.setattr(flags, table, dict(getattr(flags, table)))

    @command()
    def run_it(_call: Call, set: tuple[str, ...] = ()) -> None:
        """Run it."""
        raise AssertionError(set)

    with pytest.raises(SystemExit) as ended:
        run_it(Context(), set=["environment.MY_TOKEN=***"], json=False)
    assert ended.value.code == 2
    assert "which stands for a secret" in capsys.readouterr().err


def test_an_error_sends_on_with_the_flags_too_for_a_person_and_for_a_program(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_console: Console) -> None:
        raise BuildFailedError("It failed.", cure="./inv build-serving --jobs 1 (or more memory)")

    with pytest.raises(SystemExit):
        answer(fail, as_json=True, repeated=repeated(source="it's mine", jobs="8"))
    printed = capsys.readouterr()
    wanted = "./inv build-serving --source 'it'\"'\"'s mine' --jobs 1 (or more memory)"
    assert f"Next: {wanted}" in printed.err
    assert json.loads(printed.out)["cure"] == wanted


@pytest.mark.parametrize(
    ("typed", "step", "wanted"),
    [
        ({"source": "x"}, "./inv fetch-deps", "./inv fetch-deps --source x"),
        ({"source": "x", "jobs": "2"}, "./inv fetch-deps", "./inv fetch-deps --source x"),
        ({"source": "x"}, "./inv list-builds", "./inv list-builds"),
        ({"source": "x"}, "./inv lock-deps --source y", "./inv lock-deps --source y"),
        ({"source": "x"}, "./inv no-such-task", "./inv no-such-task"),
        ({"offline": True}, "./inv fetch-deps where there is a network", "./inv fetch-deps where there is a network"),
        ({"offline": True}, "./inv build-serving", "./inv build-serving --offline"),
        ({"mirror": ["a", "b"]}, "./inv fetch-deps, then", "./inv fetch-deps --mirror a --mirror b, then"),
        ({"runner": "host"}, "./inv build-serving --runner docker", "./inv build-serving --runner docker"),
        ({"build": "b1"}, "./inv rebuild-after-cann", "./inv rebuild-after-cann --build b1"),
        ({"server": "/a b"}, "./inv verify-serving again", "./inv verify-serving --server '/a b' again"),
        ({"server": "/s"}, "./inv cann-info", "./inv cann-info"),
        ({"toolchains": True}, "./inv fetch-deps --verify", "./inv fetch-deps --toolchains --verify"),
        ({"url": "http://h:1", "version": "2"}, "./inv predict m", "./inv predict --url http://h:1 --version 2 m"),
        ({"url": "http://h:1"}, "./inv serve", "./inv serve"),
        ({}, "./inv build-serving", "./inv build-serving"),
    ],
)
def test_a_step_gets_the_flags_that_its_task_takes_and_it_does_not_name(
    typed: dict[str, Any], step: str, wanted: str
) -> None:
    assert repeated(**typed).in_step(step) == wanted


def test_a_flag_that_the_message_is_about_is_not_repeated() -> None:
    step = repeated(adapter="/nowhere").in_step("./inv build-serving", "--adapter can't be '/nowhere'.")
    assert step == "./inv build-serving"


def test_no_password_is_printed_in_a_next_step() -> None:
    url = "https://me:hush@mirror.example/x"
    for step in (
        repeated(mirror=[url]).in_step("./inv fetch-deps"),
        repeated(bazel_arg=[f"--remote_proxy={url}"]).in_step("./inv build-serving"),
    ):
        assert "hush" not in step
        assert "mirror.example" in step


def test_only_next_steps_are_touched_not_what_a_result_shows() -> None:
    flags = repeated(source="x")
    text = "+# written by ./inv build-serving\n    cure      ./inv fetch-deps\nThere is none. Next: ./inv build-serving"
    assert flags.in_text(text).splitlines() == [
        "+# written by ./inv build-serving",
        "    cure      ./inv fetch-deps --source x",
        "There is none. Next: ./inv build-serving --source x",
    ]
    shown = flags.in_json({"diff": "./inv build-serving", "findings": [{"cure": "./inv fetch-deps"}]})
    assert shown == {"diff": "./inv build-serving", "findings": [{"cure": "./inv fetch-deps --source x"}]}


def test_every_task_says_which_flags_a_next_step_may_repeat() -> None:
    assert set(TAKEN) == set(OFFERED)
    assert {"source", "adapter", "runner", "mirror", "offline", "bazel-arg"} <= set(TAKEN["build-serving"])
    assert "build" in TAKEN["verify-serving"]
