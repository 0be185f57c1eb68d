"""Which proxy the environment names for a host, held against what requests makes of the same variables."""

from __future__ import annotations

import os
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.utils import should_bypass_proxies

from npu_serving.client.proxy_rules import is_excepted, is_this_machine, proxy_variable, shown_variable

HOSTS = ("models.example", "example", "10.1.2.3", "192.168.7.7", "other.test")
ENTRIES = ("example", ".example", "models.example", "10.0.0.0/8", "10.1.2.3", "192.168.7.0/24", "test", "*", "no.such")


@given(st.sampled_from(HOSTS), st.lists(st.sampled_from(ENTRIES), max_size=3))
def test_no_proxy_means_what_it_means_to_requests(host: str, entries: list[str]) -> None:
    value = ", ".join(entries)
    with mock.patch.dict(os.environ, {"no_proxy": value, "http_proxy": "http://p"}):
        expected = should_bypass_proxies(f"http://{host}:80", None)
        if "*" not in entries or value == "*":  # requests knows the star alone only
            assert is_excepted(host, 80) == expected


@pytest.mark.parametrize(
    ("entry", "host", "port", "excepted"),
    [
        ("h:8500", "h", 8500, True),
        ("h:8500", "h", 8501, False),
        ("*.example", "a.example", None, True),
        ("::1", "::1", 1, True),
        ("[::1]:8500", "::1", 8500, True),
        ("fd00::/8", "fd12::1", None, True),
        ("", "h", None, False),
        (",,", "h", None, False),
    ],
)
def test_ports_stars_and_addresses_of_version_6_are_known(
    monkeypatch: pytest.MonkeyPatch, entry: str, host: str, port: int, excepted: bool
) -> None:
    monkeypatch.setenv("no_proxy", entry)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert is_excepted(host, port) == excepted


def test_lower_case_goes_first_and_an_empty_variable_switches_off(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert proxy_variable("http", "h", 80) == ""
    monkeypatch.setenv("ALL_PROXY", "http://p")
    assert proxy_variable("http", "h", 80) == "ALL_PROXY"
    monkeypatch.setenv("HTTP_PROXY", "http://p")
    assert proxy_variable("http", "h", 80) == "HTTP_PROXY"
    monkeypatch.setenv("http_proxy", "")
    assert proxy_variable("http", "h", 80) == "ALL_PROXY"
    assert proxy_variable("http", "localhost", 80) == ""


def test_this_machine_is_known_by_names_and_addresses() -> None:
    for host in ("localhost", "a.localhost.", "127.3.2.1", "::1", "0.0.0.0", "::ffff:127.0.0.1"):
        assert is_this_machine(host)
    for host in ("example", "10.0.0.1", "localhost.example"):
        assert not is_this_machine(host)


def test_a_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://user:pa#ss@proxy:3128")
    assert "pa#ss" not in shown_variable("https_proxy")
    assert "proxy:3128" in shown_variable("https_proxy")
