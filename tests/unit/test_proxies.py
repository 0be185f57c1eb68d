"""Which proxy counts for a URL, and which hosts are this machine."""

from __future__ import annotations

import pytest

from npu_serving.client.proxy_rules import is_this_machine
from npu_serving.proxies import proxy_problem, proxy_variable

NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("host", "is_it"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("a.localhost", True),
        ("127.3.2.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", True),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("", False),
    ],
)
def test_this_machine_is_known_by_every_name_of_the_loopback(host: str, is_it: bool) -> None:
    assert is_this_machine(host) is is_it


def test_the_schemes_own_variable_comes_before_all_proxy_and_an_empty_one_switches_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert proxy_problem("http://host.example/") == ""
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    assert "ALL_PROXY" in proxy_problem("https://host.example/")
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    assert proxy_problem("https://host.example/") == ""
    assert "SOCKS" in proxy_problem("http://host.example/")
    monkeypatch.setenv("all_proxy", "")
    assert proxy_problem("http://host.example/") == ""


@pytest.mark.parametrize("url", ["http://127.0.0.1:8501", "http://[::1]:8501", "http://inside.example/"])
def test_no_problem_where_no_proxy_is_asked(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    monkeypatch.setenv("NO_PROXY", "inside.example")
    assert proxy_problem(url) == ""


@pytest.mark.parametrize("text", ["http://host:99999/x", "http://host:port/x", "http://[::1/x"])
def test_what_is_malformed_is_left_to_whoever_is_asked_for_it(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "elsewhere.example")
    assert proxy_problem(text) == ""


@pytest.mark.parametrize("value", ["localhost:3128", "me:geheim@proxy.example:3128", "http://a b:1", "http://%zz:1"])
def test_a_proxy_that_requests_does_not_read_is_told_and_the_cure_helps(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", value)
    problem = proxy_problem("http://host.example/")
    assert "lacks http:// in front of it, or a valid host" in problem
    assert "geheim" not in problem
    monkeypatch.setenv("http_proxy", "http://localhost:3128")
    assert proxy_problem("http://host.example/") == ""


def test_the_variable_whose_proxy_is_asked_is_named_and_none_where_none_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    assert proxy_variable("http://host.example/") == "http_proxy"
    for url in ("https://host.example/", "http://inside.example/", "http://127.0.0.1/", "http://[::1/"):
        assert proxy_variable(url) == ""
