"""TLS of the client library, by the names that its callers here had for it."""

from __future__ import annotations

from npu_serving.asking.grpc_client import WITHOUT_FILES
from npu_serving.client.tls import Tls as ClientTls

__all__ = ["WITHOUT_FILES", "ClientTls"]
