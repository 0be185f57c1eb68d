"""The address of a gRPC API; what makes a server unreachable is proved by those who ask it, with real connections."""

from __future__ import annotations

import pytest

from npu_serving.asking.grpc_channel import grpc_address, is_grpc
from npu_serving.errors import RequestError


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("grpc://h", "h:8500"),
        ("GRPC://h:1/", "h:1"),
        ("grpc://[::1]:9", "[::1]:9"),
        ("grpc://10.0.0.1:8500", "10.0.0.1:8500"),
    ],
)
def test_an_address_is_read(url: str, target: str) -> None:
    assert is_grpc(url)
    assert grpc_address(url).target == target


@pytest.mark.parametrize(
    "url",
    ["grpc://", "grpc://h:0", "grpc://h:x", "grpc://h:99999", "grpc://[::1", "grpc://h/v1", "grpc://u:secret@h:1",
     "grpc://h?x", "grpc://a,b:1", "http://h"],
)  # fmt: skip
def test_what_is_no_address_is_refused_and_no_password_shown(url: str) -> None:
    with pytest.raises(RequestError, match="not the address of a gRPC server") as caught:
        grpc_address(url)
    assert "secret" not in str(caught.value)
