"""What is the address of a gRPC server, and what isn't."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.client.address import grpc_address, is_grpc
from npu_serving.client.errors import NotSentError


@pytest.mark.parametrize(
    ("text", "target", "has_tls"),
    [
        ("h", "h:8500", False),
        ("h:1", "h:1", False),
        ("grpc://h", "h:8500", False),
        ("GRPC://h:1/", "h:1", False),
        ("grpcs://h:1", "h:1", True),
        ("[::1]:9", "[::1]:9", False),
        ("grpc://[fe80::1%eth0]:9", "[fe80::1%eth0]:9", False),
        ("dns:///h:8500", "dns:///h:8500", False),
        ("dns://8.8.8.8/h:8500", "dns://8.8.8.8/h:8500", False),
        ("unix:/run/s.sock", "unix:/run/s.sock", False),
        ("unix-abstract:name", "unix-abstract:name", False),
        ("ipv4:10.0.0.1:8500,10.0.0.2:8500", "ipv4:10.0.0.1:8500,10.0.0.2:8500", False),
        ("ipv6:[::1]:8500", "ipv6:[::1]:8500", False),
    ],
)
def test_an_address_is_read(text: str, target: str, has_tls: bool) -> None:
    found = grpc_address(text)
    assert (found.target, found.has_tls) == (target, has_tls)


@pytest.mark.parametrize(
    "text",
    ["", "grpc://", "grpc://h:0", "h:x", "h:99999", "grpc://[::1", "grpc://h/v1", "grpc://u:secret@h:1", "u:secret@h:1",
     "grpc://h?x", "a,b:1", "http://u:secret@h", "dns:///", "dns:///h/x", "ipv4:", "ipv4:1.2.3.4:0", "h h:1", "h:1\n"],
)  # fmt: skip
def test_what_is_no_address_is_refused_and_no_password_shown(text: str) -> None:
    with pytest.raises(NotSentError, match="not the address of a gRPC server") as caught:
        grpc_address(text)
    assert "secret" not in str(caught.value)
    assert ("RestClient" in caught.value.cause) == text.startswith("http")


@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        found = grpc_address(text)
    except NotSentError:
        return
    assert found.target
    assert is_grpc(str(found)) or found.target == text


@pytest.mark.parametrize(
    ("text", "no_proxy", "is_direct"),
    [
        ("localhost:1", "", True),
        ("127.0.0.9:1", "", True),
        ("unix:/s", "", True),
        ("ipv4:10.0.0.1:1,10.0.0.2:1", "", True),
        ("10.1.2.3:8500", "", False),
        ("10.1.2.3:8500", "10.0.0.0/8", True),
        ("dns:///models.example:8500", "example", True),
        ("dns:///models.example:8500", "ample", False),
    ],
)
def test_no_proxy_is_asked_for_this_machine_sockets_lists_and_excepted_networks(
    monkeypatch: pytest.MonkeyPatch, text: str, no_proxy: str, is_direct: bool
) -> None:
    for name in ("no_grpc_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", no_proxy)
    assert grpc_address(text).is_direct == is_direct
