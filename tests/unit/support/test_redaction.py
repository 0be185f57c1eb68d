"""Secrets are taken out of texts, however a file quotes them; what is harmless stays as it is."""

from __future__ import annotations

import json
import shlex
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.documents.syntax import UnreadableError
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


FOUND = "hUnter2xyz"


@pytest.mark.parametrize(
    "line",
    [
        f"password: my {FOUND} phrase",
        f"password=ab'{FOUND}",
        f'"password": "ab\\"{FOUND}"',
        f"密码：{FOUND}",
        f"\x1b[1mpassword\x1b[0m={FOUND}",
        f"started with --password {FOUND}",
        f"curl -u me:{FOUND} http://host",
        f"Authorization: AWS4-HMAC-SHA256 Credential=x, SignedHeaders=host, Signature={FOUND}",
        f"got {{'headers': 'Bearer {FOUND}'}}",
        f"Set-Cookie: sid={FOUND}; Path=/",
        f"https://bucket.host/k?X-Amz-Signature={FOUND}&x=y",
        f"https://account.host/c?sv=1&sig={FOUND}",
        f"Server=x;Pwd={FOUND};",
        f"AccountKey={FOUND};",
        f"encryption_key: {FOUND}",
        f"token: |-\n  {FOUND}\n",
        f'token = ["{FOUND}"]',
        f"<password>{FOUND}</password>",
        f"https_proxy=me:{FOUND}@proxy:80",
        f"git clone me:{FOUND}@host/x",
        f"MII{FOUND}\n-----END PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_secret_goes_though_nobody_has_named_it(line: str) -> None:
    assert FOUND not in Redactor().text(f"an honest line\n{line}\nafter")
    assert "after" in Redactor().text(f"an honest line\n{line}\nafter")


@pytest.mark.parametrize(
    "key",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_0123456789abcdefghijABCDEFGHIJ012345",
        "glpat-0123456789abcdefghij",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdefghijkl",
    ],
)
def test_the_keys_of_services_are_known_by_how_they_begin(key: str) -> None:
    assert Redactor().text(f"rejected ({key})") == "rejected (***)"


@pytest.mark.parametrize(
    "line",
    [
        'parameter_map { key: "use_off_line" value { b: true } }',
        "2023-11-14 22:13:20.123: I tensorflow/core/x.cc:12] Loaded servable {name: m version: 1}",
        "[ERROR] GE(12,server):2023-11-14-22:13:20.123.456 [graph.cc:9]12 Run:EZ9999: Inner Error! at a.cc:10",
        "http://localhost:8501/v1/models/m",
        "author: me, keyboard: us",
    ],
)
def test_an_honest_line_stays_as_it_is(line: str) -> None:
    assert Redactor().text(line) == line


def test_whatever_stands_under_a_secret_key_goes() -> None:
    given_ = {
        "password": ["one", 2, None],
        "token": {"a": 5, "b": True},
        "env": [{"name": "X_TOKEN", "value": "three"}],
        "argv": ["x", 1, "--token", "y"],
    }
    assert Redactor().document(given_) == {
        "password": ["***", "***", None],
        "token": {"a": "***", "b": True},
        "env": [{"name": "X_TOKEN", "value": "***"}],
        "argv": ["x", 1, "--token", "***"],
    }


@pytest.mark.parametrize(
    "value",
    ["environment={MY_OWN: swordfish}", 'environment.MY_OWN="sword\\x66ish"', "environment.MY_OWN='swordfish'"],
)
def test_values_of_set_are_secret_however_they_are_typed(value: str) -> None:
    redactor = Redactor()
    redactor.learn_values([value])
    assert "ish" not in redactor.text(f"typed {value.partition('=')[2]}, read swordfish")


def test_a_file_of_variables_tells_what_is_secret_when_its_deployment_is_gone() -> None:
    redactor = Redactor()
    redactor.learn_variables_of("# A\nexport MY_OWN='sword fish'\nOTHER=\"tuna fish\"\nTF_X=12345678\nON=true\n")
    assert redactor.text("sword fish, tuna fish, 12345678, true") == "***, ***, 12345678, true"


@pytest.mark.parametrize(
    "text",
    [
        "environment:\n  MY_OWN: >-\n    sword\n    fish\n  TF_X: '3'\nversion: 1\n",
        'environment: {MY_OWN: "sword\\\n  fish", TF_X: 3}\nversion: 1\n',
        'environment:\n  TF_X: 3\n  MY_OWN: "swor\\x64"  # fish\nversion: 1\n',
        'version: 1\nenvironment: {"TF_X": 3, "MY_OWN": sword}',
        "version: 1\nenvironment: {TF_X: 3}\n---\n",
    ],
)
def test_of_a_deployment_go_the_values_of_its_environment_however_many_lines_they_span(text: str) -> None:
    if text.endswith("---\n"):
        with pytest.raises(UnreadableError):
            Redactor().deployment(text)
        return
    redacted = Redactor().deployment(text)
    assert "swor" not in redacted
    assert "fish" not in redacted
    assert "version: 1" in redacted
    assert "TF_X" in redacted
