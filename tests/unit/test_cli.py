"""What is printed around a task's work: results and errors, whole for a program and fit for a screen."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from npu_serving.asking.answers import ShownPrediction
from npu_serving.cli import Interrupted, answer, errors_shown
from npu_serving.console import Console
from npu_serving.errors import RequestError


class Told:
    """A result that names where something was fetched from, as a lock or a dry run does."""

    def to_json(self) -> dict[str, object]:
        return {"archives": [{"name": "zz", "urls": ["https://me:geheim@host/x.tgz", "https://host/@a/b"]}]}

    def text(self) -> str:
        return "to fetch:\n  zz: https://me:geheim@host/x.tgz\nsource http:/me:geheim@host/y"


def printed(work: Callable[[Console], object], capsys: pytest.CaptureFixture[str], *, as_json: bool) -> tuple[int, str]:
    with pytest.raises(SystemExit) as left:
        answer(work, as_json=as_json)  # type: ignore[arg-type]
    assert isinstance(left.value.code, int)
    return left.value.code, "".join(capsys.readouterr())


@pytest.mark.parametrize("as_json", [False, True])
def test_no_result_shows_the_password_of_a_url_and_all_else_stays(
    capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    code, shown = printed(lambda console: Told(), capsys, as_json=as_json)
    assert code == 0
    assert "geheim" not in shown
    assert "https://***@host/x.tgz" in shown
    if as_json:
        assert json.loads(shown)["archives"][0]["urls"][1] == "https://host/@a/b"
    else:
        assert "source http:/***@host/y" in shown, "a URL that was taken for a path has lost a slash"


@pytest.mark.parametrize("as_json", [False, True])
def test_what_a_model_answers_is_shown_as_it_is(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    text = "write to ftp://you:me@host/"
    _, shown = printed(lambda console: ShownPrediction("m", None, "predictions", [text], 0.1), capsys, as_json=as_json)
    assert text in shown


@pytest.mark.parametrize(
    ("what_happens", "code", "said"),
    [(RecursionError(), 2, "nested too deeply"), (MemoryError(), 1, "memory that this program may use is used up")],
)
def test_what_is_too_deep_or_too_large_is_told_wherever_it_is_noticed(
    what_happens: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(console: Console) -> None:
        raise what_happens

    left, shown = printed(work, capsys, as_json=False)
    assert (left, "Traceback" in shown) == (code, False)
    assert said in shown
    assert "Next: ./inv --debug" in shown


def test_a_value_that_no_screen_holds_is_cut_off_in_a_message_and_whole_in_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit), errors_shown(as_json=True):
        raise RequestError(f"The server {'a' * 10_000} does not exist.", cure="name another one")
    out, shown = capsys.readouterr()
    assert f"The server {'a' * 200}... does not exist." in shown
    assert "a" * 10_000 in json.loads(out)["what"]


def test_an_interruption_says_of_nothing_but_what_was_started_that_it_does_not_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A server that was there before, which restart or status is about, goes on."""

    def work(_console: Console) -> None:
        raise Interrupted

    with pytest.raises(SystemExit) as ended:
        answer(work, as_json=False)
    assert ended.value.code == 130
    said = "\nInterrupted; nothing that this command started keeps running. Run it again to continue.\n"
    assert capsys.readouterr().err == said
