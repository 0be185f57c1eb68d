"""pip gets its sources from the person, and nothing that would put packages elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from npu_serving.pip_environment import KEPT, main, missing_packages, pip_environment

NEWER_THAN_SOME_PIPS = ("keyring-provider",)
"""Of pip 23.1; the pip of an older Python passes over the variable."""


@pytest.fixture
def configured(tmp_path: Path) -> dict[str, str]:
    """An environment whose pip.conf names a mirror, and a target."""
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://mirror.example/simple\nextra-index-url =\n  https://a.example\n"
        "  https://b.example\ntarget = /elsewhere\ntimeout = 7\n[install]\nuser = true\ntimeout = 9\n"
    )
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}


def test_the_sources_of_a_configuration_file_stay_and_nothing_else_does(configured: dict[str, str]) -> None:
    made = pip_environment(configured)
    assert made["PIP_INDEX_URL"] == "https://mirror.example/simple"
    assert made["PIP_EXTRA_INDEX_URL"].split() == ["https://a.example", "https://b.example"]
    assert made["PIP_TIMEOUT"] == "9", "what stands under [install] overrides [global]"
    assert made["PIP_CONFIG_FILE"] == os.devnull
    assert not {"PIP_TARGET", "PIP_USER"} & made.keys()


def test_a_variable_overrides_the_configuration_file(configured: dict[str, str]) -> None:
    made = pip_environment({**configured, "PIP_INDEX_URL": "https://mine.example", "PIP_CERT": "/ca.pem"})
    assert (made["PIP_INDEX_URL"], made["PIP_CERT"]) == ("https://mine.example", "/ca.pem")


def test_proxies_and_certificates_stay_and_pythons_own_variables_go() -> None:
    given = {"https_proxy": "http://p", "SSL_CERT_FILE": "/c", "PYTHONPATH": "/x", "PYTHONHOME": "/y", "PATH": "/bin"}
    made = pip_environment(given)
    assert (made["https_proxy"], made["SSL_CERT_FILE"]) == ("http://p", "/c")
    assert not [name for name in made if name.startswith("PYTHON")]


def test_pip_itself_understands_what_is_kept(configured: dict[str, str]) -> None:
    listed = subprocess.run(
        [sys.executable, "-I", "-m", "pip", "config", "list"],
        env=pip_environment(configured),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert ":env:.index-url='https://mirror.example/simple'" in listed
    assert "target" not in listed
    for key in set(KEPT) - {"no-index", *NEWER_THAN_SOME_PIPS}:
        argv = [sys.executable, "-I", "-m", "pip", "install", f"--{key}", "1", "--help"]
        assert subprocess.run(argv, capture_output=True, check=False).returncode == 0, key


def test_packages_that_are_missing_or_of_another_version_are_named_and_those_for_other_pythons_are_not() -> None:
    from importlib import metadata

    present = metadata.version("invoke")
    text = (
        f"# a comment\ninvoke=={present} \\\n    --hash=sha256:{'0' * 64}\nno-such-package==1.0 \\\n"
        f"    --hash=sha256:{'0' * 64}\nother==2 ; python_version < '3'\npip==0.0.1\n"
    )
    assert missing_packages(text) == ["no-such-package==1.0", "pip==0.0.1"]


def test_packages_that_pip_did_not_put_here_are_an_error_although_pip_succeeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.txt").write_text("no-such-package==1.0\n")
    monkeypatch.setattr("subprocess.run", lambda *_args, **_rest: subprocess.CompletedProcess([], 0, "", ""))
    assert main(["install", "--requirement", str(tmp_path / "r.txt")]) == 1
    assert "no-such-package==1.0 is not in" in capsys.readouterr().err
