"""Passwords and what a terminal would obey are kept out of what is shown."""

from __future__ import annotations

import string
import unicodedata

import pytest
import tiers
from hypothesis import given, settings
from hypothesis import strategies as st

from npu_serving.shown_text import (
    fit_to_show,
    masked,
    masked_setting,
    masked_variable,
    masked_words,
    printable,
    shown_url,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:pass@word@host/x?y=1", "https://***@host/x?y=1"),
        ("--remote_cache=http://me:geheim@host:1/a --x", "--remote_cache=http://***@host:1/a --x"),
        ("'grpc://token@host:1'", "'grpc://***@host:1'"),
        ("--auth-token=geheim next", "--auth-token=*** next"),
        ("GITHUB_TOKEN=geheim", "GITHUB_TOKEN=***"),
        ("Authorization: Bearer geheim", "Authorization: ***"),
        ("--remote_header=x-buildbuddy-api-key=geheim", "--remote_header=x-buildbuddy-api-key=***"),
        ("http://bob:it's@host/", "http://***@host/"),
        ("PASSWORD='ge heim' next", "PASSWORD=*** next"),
        ('{"token": "geheim"}', '{"token": ***}'),
        ("https://host/a@b", "https://host/a@b"),
        ("--jobs=4 a@b.c", "--jobs=4 a@b.c"),
        ("http://me:ge/he#im?@host:1/x", "http://***@host:1/x"),
        ("socks5h://me:g@h@127.0.0.1:1080 next", "socks5h://***@127.0.0.1:1080 next"),
        ("http://mirror:8081/npm/@scope/a.tgz", "http://mirror:8081/npm/@scope/a.tgz"),
        ("https://me:geheim@my.mirror/=https://host/a@b", "https://***@my.mirror/=https://host/a@b"),
        ("['https://me:geheim@host/', 'a@b']", "['https://***@host/', 'a@b']"),
        ("debian:12@sha256:abc git@host:path", "debian:12@sha256:abc git@host:path"),
        ("/srv/http:/me:geheim@host/x does not exist", "/srv/http:/***@host/x does not exist"),
        ("C:/a/b:c@d and file:/a/b@c", "C:/a/b:c@d and file:/a/b@c"),
    ],
)
def test_what_is_secret_in_a_text_is_masked_and_nothing_else(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("environment.MY_TOKEN=geheim", "environment.MY_TOKEN=***"),
        ("environment={AWS_SECRET_ACCESS_KEY: ge heim}", "environment=***"),
        (r'environment={"AWS_SECRET_ACCESS_KEY": "ge\"heim"}', "environment=***"),
        (r'environment={"AWS_\u0053ECRET_ACCESS_KEY": "geheim"}', "environment=***"),
        (r'environment={"\x50ASSWORD" : "geheim"}', "environment=***"),
        ("models.0.base_path=s3://key:geheim@bucket", "models.0.base_path=s3://***@bucket"),
        ("models.0.base_path=/models/token_classifier", "models.0.base_path=/models/token_classifier"),
        ("server.port=9000", "server.port=9000"),
        ("MY_TOKEN", "MY_TOKEN"),
    ],
)
def test_a_value_that_is_set_is_hidden_whole_however_its_secret_is_written(text: str, shown: str) -> None:
    assert masked_setting(text) == shown


@pytest.mark.parametrize("text", ["x" * 300_000, "a." * 150_000, "a-" * 150_000])
def test_a_word_without_an_end_is_looked_through_once(text: str) -> None:
    """It would not come back from a pattern that is tried again at each letter."""
    assert masked(text) == fit_to_show(text) == text


@pytest.mark.parametrize("before", ["PROXY_", "9", "q" * 50])
def test_a_password_is_hidden_whatever_stands_before_the_scheme(before: str) -> None:
    assert fit_to_show(f"{before}http://me:geheim@host/") == f"{before}http://***@host/"


def test_the_words_of_a_command_are_masked_before_they_are_quoted() -> None:
    words = ["curl", "--token", "ge heim", "--password=se 'cret", "http://bob:it's@host/", "--jobs", "4"]
    assert masked_words(words) == ["curl", "--token", "***", "--password=***", "http://***@host/", "--jobs", "4"]


# Blanks and quotes end a URL in a text; what a URL should have as %40, %2F, %23, %3F, %3A and %25 stands as it is.
PASSWORDS = st.text(string.ascii_letters + string.digits + "@/:#?%&=+;,.-_~!$*()[]|^<>{}\\`", min_size=3, max_size=30)
SCHEMES = st.sampled_from(["http", "https", "socks5", "socks5h", "grpc", "grpcs", "ftp", "HTTPS"])


@settings(max_examples=tiers.examples(300, 20000))
@given(SCHEMES, PASSWORDS, st.sampled_from(["{}", "'{}'", "see {} for it", "--url={}", "http_proxy={}", "({})."]))
def test_no_part_of_a_password_is_shown_whatever_it_holds(scheme: str, password: str, around: str) -> None:
    shown = masked(around.format(f"{scheme}://me:\u00e4{password}\u00e4@proxy.example:3128/x"))
    assert "\u00e4" not in shown
    assert "proxy.example:3128/x" in shown


@settings(max_examples=tiers.examples(300, 20000))
@given(st.sampled_from(["", "http:/", "http:", "//", "htp//", "http//", "http://", "x=http://"]), PASSWORDS)
def test_a_value_that_was_meant_for_a_url_shows_no_password_be_it_a_url_or_not(begin: str, password: str) -> None:
    assert "\u00e4" not in shown_url(f"{begin}me:\u00e4{password}\u00e4@host:1/x")
    assert "\u00e4" not in shown_url(f"{begin}me:\u00e4 {password}\n'\u00e4@host:1/x")
    assert "\u00e4" not in masked_variable("ALL_PROXY", f"{begin}me:\u00e4{password}\u00e4@host:1")


@given(st.text())
def test_nothing_that_a_terminal_would_obey_is_left_in_what_is_shown(text: str) -> None:
    shown = printable(text)
    left = {letter for letter in shown if unicodedata.category(letter) == "Cc"}
    assert left <= {"\n", "\t"}
    assert not {"\u202e", "\u2066", "\u2028"} & set(shown)
    assert printable(shown) == shown


def test_what_a_terminal_would_obey_is_written_as_python_writes_it() -> None:
    assert fit_to_show("a\x1b[31mred\x07\u202e\r\x9b") == "a\\x1b[31mred\\x07\\u202e\\r\\x9b"
    assert fit_to_show("two\n\tlines, 中文") == "two\n\tlines, 中文"
