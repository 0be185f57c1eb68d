"""Secrets are taken out of texts, however a file quotes them; what is harmless stays as it is."""

from __future__ import annotations

import json
import shlex
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.support.redaction import SHORTEST_SECRET, Redactor, is_shown

SECRET = "hunter2'\"\\$%& ü"


@pytest.mark.parametrize(
    "line",
    [
        SECRET,
        json.dumps({"value": SECRET}),
        f"export THING={shlex.quote(SECRET)}",
        json.dumps(shlex.quote(SECRET)),
        "Environment=" + json.dumps(SECRET, ensure_ascii=False).replace("%", "%%").replace("$", "$$"),
        f"thing: '{SECRET}'".replace("'\"", "''\""),
        f"http://host/?q={urllib.parse.quote(SECRET, safe='')}",
    ],
)
def test_a_known_secret_is_found_however_it_is_quoted(line: str) -> None:
    redacted = Redactor([SECRET]).text(line)
    assert "hunter2" not in redacted
    assert "***" in redacted


def test_each_line_of_a_secret_is_one() -> None:
    redactor = Redactor(["first-line\nsecond-line"])
    assert redactor.text("a first-line b") == "a *** b"
    assert redactor.text("second-line") == "***"


def test_a_private_key_goes_whole_also_without_its_end() -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----"
    assert Redactor().text(f"a\n{key}\nb") == "a\n(***: a private key)\nb"
    assert "MIIE" not in Redactor().text(f"a\n{key[:40]}")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("ASCEND_HOME_PATH", True),
        ("TF_CPP_MIN_LOG_LEVEL", True),
        ("LD_LIBRARY_PATH", True),
        ("AWS_REGION", False),
        ("AWS_SECRET_ACCESS_KEY", False),
        ("TF_API_KEY", False),
        ("ASCEND_TOKEN", False),
        ("NPU_SERVING_PASSWORD", False),
        ("HOME_OF_OTHERS", False),
        ("MY_OWN", False),
    ],
)
def test_only_variables_of_the_list_are_shown_and_none_that_is_called_like_a_secret(name: str, shown: bool) -> None:
    assert is_shown(name) is shown
    found = Redactor().shown_environment({name: "value-of-it"})
    assert (found["shown"], found["names_only"]) == (({name: "value-of-it"}, []) if shown else ({}, [name]))


def test_a_login_in_a_url_of_the_environment_is_a_secret_everywhere() -> None:
    redactor = Redactor()
    redactor.learn_environment({"https_proxy": "http://me:pa55word@proxy:3128"})
    assert redactor.text("proxy said: bad password pa55word") == "proxy said: bad password ***"


def test_paths_and_short_values_are_not_taken_for_secrets_elsewhere() -> None:
    redactor = Redactor()
    redactor.learn_environment({"SSL_KEY_FILE": "/etc/ssl", "X_TOKEN": "1", "A_KEY": "/begins+like/a/path"})
    assert redactor.text("1 of /etc/ssl") == "1 of /etc/ssl"
    assert redactor.text("it is /begins+like/a/path") == "it is ***"


def test_what_a_deployment_puts_into_the_environment_is_secret_unless_it_is_known() -> None:
    redactor = Redactor()
    redactor.learn_deployment({"environment": {"MY_OWN": "swordfish", "TF_NUM": "12345678"}})
    assert redactor.text("swordfish 12345678") == "*** 12345678"
    odd_ones: list[object] = [None, [], {"environment": 7}, {"environment": ["a"]}, "text"]
    for odd in odd_ones:
        redactor.learn_deployment(odd)


def test_values_of_set_and_arguments_are_secret_too() -> None:
    redactor = Redactor()
    redactor.learn_values(["environment.MY_OWN=swordfish", "server.port=9000", "environment.TF_X=87654321"])
    redactor.learn_arguments(["server", "--token", "flagged-one", "--api_key=flagged-two", "--port=8500"])
    text = "swordfish 9000 87654321 flagged-one flagged-two 8500"
    assert redactor.text(text) == "*** 9000 87654321 *** *** 8500"


def test_a_document_keeps_its_form() -> None:
    redactor = Redactor(["swordfish"])
    given_ = {"password": "x", "a": [1, None, "swordfish"], "argv": ["s", "--token", "y"], "b": {"c": True}}
    assert redactor.document(given_) == {
        "password": "***",
        "a": [1, None, "***"],
        "argv": ["s", "--token", "***"],
        "b": {"c": True},
    }


@given(
    st.text(min_size=SHORTEST_SECRET, max_size=30).filter(lambda text: len(text.strip()) >= SHORTEST_SECRET),
    st.text(max_size=30),
)
def test_no_secret_is_left_whatever_it_looks_like(secret: str, around: str) -> None:
    lines = [line.strip() for line in secret.splitlines() if len(line.strip()) >= SHORTEST_SECRET]
    redacted = Redactor([secret]).text(f"{around}{secret.strip()}{around}")
    assert all(line not in redacted.replace("***", "\0") for line in [*lines, secret.strip()])
