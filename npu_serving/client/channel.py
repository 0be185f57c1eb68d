"""A channel to a server's gRPC API, with grpc's options as this library chooses them; and processes that fork."""

from __future__ import annotations

import json
import os
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from npu_serving.client.address import TLS_SCHEME, GrpcAddress
from npu_serving.client.errors import NotSentError
from npu_serving.client.proxy_rules import is_this_machine
from npu_serving.client.tls import Tls

if TYPE_CHECKING:
    import grpc

MOST_ANSWER_BYTES = 1 << 30  # grpc's own limit is 4 MiB
COMPRESSIONS = ("", "gzip", "deflate")
BALANCERS = ("round_robin", "pick_first")
_KEEPALIVE_TIMEOUT_MS = 20_000
_LOADED_IN: list[int] = []
"""The process in which grpc was first loaded: what is forked from it has a copy of grpc without its threads."""
CALLING: set[int] = set()
"""The threads that wait for an answer at this moment. While one does, grpc can't prepare itself for a fork."""
_OPENED: weakref.WeakSet[Any] = weakref.WeakSet()
_HIDDEN: list[Any] = []
"""Channels that grpc itself doesn't see during a fork; a process that was forked amid calls keeps them for good."""
_FORKED_AMID_CALLS: list[int] = []
"""The threads that waited when this process, or one that it comes from, was forked."""


@dataclass(frozen=True)
class ChannelSettings:
    """How a server is asked, whatever is asked of it."""

    address: GrpcAddress
    tls: Tls = field(default_factory=Tls)
    compression: str = ""
    max_message_bytes: int = MOST_ANSWER_BYTES
    keepalive_s: float | None = None
    load_balancing: str = "round_robin"

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("compression", self.compression, COMPRESSIONS),
            ("load_balancing", self.load_balancing, BALANCERS),
        ):
            if value not in allowed:
                raise NotSentError(
                    f"{name} can't be {value!r}.", cure=f"give one of {', '.join(map(repr, allowed))}", reason="setting"
                )
        if not 0 < self.max_message_bytes < 1 << 31:
            raise NotSentError(
                f"max_message_bytes can't be {self.max_message_bytes}.",
                cause="no message of protobuf has 2 GiB",
                cure=f"give a number of bytes up to {(1 << 31) - 1}",
                reason="setting",
            )
        if self.keepalive_s is not None and not self.keepalive_s >= 1:
            raise NotSentError(
                f"keepalive_s can't be {self.keepalive_s!r}.",
                cure="give seconds from 1 on; a server ends connections that are looked after more than each 300 s",
                reason="setting",
            )
        if self.tls.given and not self.address.has_tls:
            raise NotSentError(
                f"The {' and '.join(self.tls.given)} of TLS would have no effect.",
                cause=f"{self.address} is asked in plain text",
                cure=f"write {TLS_SCHEME}://{self.address.target}, or leave tls out",
                reason="tls-without-effect",
            )

    @property
    def options(self) -> list[tuple[str, Any]]:
        """The options of grpc itself."""
        # All addresses of this machine are one server, which may listen at some: an error is to be that of the last.
        balancing = "pick_first" if is_this_machine(self.address.host) else self.load_balancing
        options: list[tuple[str, Any]] = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.min_reconnect_backoff_ms", 5000),  # also how long a connection may take
            ("grpc.enable_retries", 0),
            ("grpc.service_config", json.dumps({"loadBalancingConfig": [{balancing: {}}]})),
        ]
        if self.address.is_direct:
            options.append(("grpc.enable_http_proxy", 0))
        if self.keepalive_s is not None:
            options += [
                ("grpc.keepalive_time_ms", int(1000 * self.keepalive_s)),
                ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
                ("grpc.http2.max_pings_without_data", 0),
            ]
        return options

    def open(self) -> grpc.Channel:
        """The channel. NotSentError where TLS's files are not what they should be, and where grpc can't be used."""
        import_grpc()
        import grpc

        compression = grpc_compression(self.compression)
        if self.address.has_tls:
            channel = grpc.secure_channel(
                self.address.target, self.tls.credentials(), options=self.options, compression=compression
            )
        else:
            channel = grpc.insecure_channel(self.address.target, options=self.options, compression=compression)
        _OPENED.add(channel)
        return channel

    def open_async(self) -> grpc.aio.Channel:
        """The same for asyncio."""
        import_grpc()
        from grpc import aio

        if self.address.has_tls:
            return aio.secure_channel(
                self.address.target,
                self.tls.credentials(),
                options=self.options,
                compression=grpc_compression(self.compression),
            )
        return aio.insecure_channel(
            self.address.target, options=self.options, compression=grpc_compression(self.compression)
        )


def import_grpc() -> None:
    """Loads grpc, so that it survives a fork, and writes no lines of its own beside ours.

    NotSentError in a process that was forked from one which had loaded grpc without that: it would wait for ever.
    """
    if not _LOADED_IN:
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its lines may hold a proxy's password
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "1")
    import grpc  # noqa: F401

    if not _LOADED_IN:
        _LOADED_IN.append(os.getpid())
        os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
    elif _FORKED_AMID_CALLS:
        raise NotSentError(
            "gRPC can't be used in this process.",
            cause="it was forked while another thread waited for an answer, and grpc would wait for ever here",
            cure="start processes before the first request or between requests, or by spawn "
            '(multiprocessing.get_context("spawn"))',
            reason="forked",
        )
    elif os.getpid() not in _LOADED_IN and not _survives_forks():
        raise NotSentError(
            "gRPC can't be used in this process.",
            cause="it was forked from a process that had used gRPC, whose threads it has not",
            cure="set GRPC_ENABLE_FORK_SUPPORT=1 before grpc is first imported, or start processes by spawn "
            '(multiprocessing.get_context("spawn"))',
            reason="forked",
        )


def grpc_compression(name: str) -> Any:
    """Grpc's own value for one of COMPRESSIONS."""
    import grpc

    return {"": None, "gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}[name]


def _before_fork() -> None:
    """Hides our channels from grpc where a call is under way: in the child it would wait for that one's lock."""
    from grpc._cython import cygrpc  # type: ignore[attr-defined]

    if CALLING:
        _HIDDEN.extend(_OPENED)
        for channel in _HIDDEN:
            cygrpc.fork_unregister_channel(channel)


def _after_fork() -> None:
    from grpc._cython import cygrpc  # type: ignore[attr-defined]

    while _HIDDEN:
        cygrpc.fork_register_channel(_HIDDEN.pop())


def _in_child() -> None:
    _FORKED_AMID_CALLS.extend(CALLING)
    CALLING.clear()


def _survives_forks() -> bool:
    from grpc._cython import cygrpc  # type: ignore[attr-defined]

    return bool(cygrpc.is_fork_support_enabled())
