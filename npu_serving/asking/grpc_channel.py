"""Addresses of the client library, by the names that its callers here had for them."""

from __future__ import annotations

from npu_serving.client.address import SCHEME, grpc_address, is_grpc

__all__ = ["SCHEME", "grpc_address", "is_grpc"]
