"""--debug: what was started and where errors came from, without a secret in it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from npu_serving import process
from npu_serving.cli import answer
from npu_serving.debugging import DEBUG_VARIABLE, show_start
from npu_serving.errors import ProgramError, RequestError


@pytest.mark.parametrize("name", ["GPG_PASSPHRASE", "PASSWD", "npm_config_authToken", "AWS_SECRET_ACCESS_KEY"])
def test_a_variable_of_a_secret_name_is_hidden_whole(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(DEBUG_VARIABLE, "1")
    show_start(["true"], "/", {name: "ge heim"})
    assert f"{name}=***" in capsys.readouterr().err


def test_every_program_is_shown_with_its_environment_its_directory_and_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(DEBUG_VARIABLE, "1")
    env = {
        "PATH": "/usr/bin:/bin",
        "CI_JOB_TOKEN": "geheim1",
        "DB_PASSWORD": "geheim2",
        "MY_SECRET": "geheim3",
        "https_proxy": "http://me:geheim4@proxy:3128",
        "FLAGS": "-a 'b c'",
    }
    with pytest.raises(ProgramError):
        process.run(["/bin/sh", "-c", "exit 3", "--token=geheim5"], cwd=tmp_path, env=env)
    shown = capsys.readouterr().err
    assert "geheim" not in shown
    assert "debug: starts /bin/sh -c 'exit 3' '--token=***'\n" in shown
    assert f"debug:     in {tmp_path}\n" in shown
    assert "debug:     PATH=/usr/bin:/bin\n" in shown
    assert "debug:     CI_JOB_TOKEN=***\n" in shown
    assert "debug:     https_proxy='http://***@proxy:3128'\n" in shown
    assert all(line.startswith("debug: ") for line in shown.splitlines())
    (end,) = [line for line in shown.splitlines() if "ended with" in line]
    assert end.startswith("debug: /bin/sh ended with status 3 after 0.")


def test_a_program_that_runs_beside_is_shown_from_its_start_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(DEBUG_VARIABLE, "1")
    with process.running(["/bin/sleep", "100"], log_path=tmp_path / "log"):
        assert "starts /bin/sleep 100" in capsys.readouterr().err
    assert "/bin/sleep was ended by SIGTERM after" in capsys.readouterr().err


def test_a_handled_error_has_its_traceback_and_still_its_message_and_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_console: object) -> None:
        raise RequestError("The cache http://me:geheim@host does not answer.", cure="start it") from OSError("first")

    for value, with_traceback in (("1", True), ("0", False), ("", False)):
        monkeypatch.setenv(DEBUG_VARIABLE, value)
        with pytest.raises(SystemExit) as caught:
            answer(fail, as_json=False)
        said = capsys.readouterr().err
        assert caught.value.code == 2
        assert "\nNext: start it\n" in said
        assert ("debug: Traceback" in said and "in fail" in said and "debug: OSError: first" in said) == with_traceback
        assert "geheim" not in "".join(line for line in said.splitlines() if line.startswith("debug: "))


def test_nothing_is_shown_unless_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(DEBUG_VARIABLE, raising=False)
    process.run([sys.executable, "-c", ""])
    assert capsys.readouterr().err == ""
