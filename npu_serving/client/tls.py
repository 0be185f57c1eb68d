"""TLS of a gRPC API: what a client proves itself and the server with, and what went wrong where that did not work.

TensorFlow Serving 1.15 has it for gRPC alone (--ssl_config_file); its REST API is never encrypted.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Union

from npu_serving.client.errors import ClientError, NotReachedError, NotSentError
from npu_serving.file_access import refused_at, whose
from npu_serving.shown_text import in_a_line

if TYPE_CHECKING:
    import grpc

Pem = Union[bytes, str, "os.PathLike[str]"]
"""A path, or what would be in the file."""
HANDSHAKE = ("handshake failed", "Verification Check failed", "CERTIFICATE_VERIFY_FAILED")


@dataclass(frozen=True)
class Tls:
    """The certificates that the server's is checked with, those of this machine without `ca`; and a client's own pair.

    Each is the path of a PEM file, or its content as bytes.
    """

    ca: Pem | None = None
    cert: Pem | None = None
    key: Pem | None = None

    @property
    def given(self) -> tuple[str, ...]:
        """The names of those that were given."""
        return tuple(name for name in ("ca", "cert", "key") if getattr(self, name) is not None)

    def pem(self, name: str) -> bytes:
        """What `ca`, `cert` or `key` holds; b"" where it was not given. NotSentError for a file that can't be read."""
        given: Pem | None = getattr(self, name)
        return _content(name, given) if given is not None else b""

    def credentials(self) -> grpc.ChannelCredentials:
        """What a channel is made with. NotSentError for files that can't be read or are not what they should be."""
        import grpc

        ca = self.ca if self.ca is not None else ssl.get_default_verify_paths().cafile
        roots = _content("ca", ca) if ca is not None else None
        self.context()
        if self.cert is None or self.key is None:
            return grpc.ssl_channel_credentials(roots)
        return grpc.ssl_channel_credentials(roots, _content("key", self.key), _content("cert", self.cert))

    def context(self) -> ssl.SSLContext:
        """The same for Python's own TLS. NotSentError as from credentials()."""
        if (self.cert is None) != (self.key is None):
            given, lacking = ("cert", "key") if self.key is None else ("key", "cert")
            raise NotSentError(
                f"The {given} of TLS was given without the {lacking} (--{given} without --{lacking}).",
                cause="a client proves itself with a certificate and the key that belongs to it",
                cure=f"name both, or leave {given} out",
                reason="tls-half-a-pair",
            )
        context = ssl.create_default_context()
        if self.ca is not None:
            roots = _content("ca", self.ca)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            try:  # what is not ASCII in a PEM file are comments, such as the name of an authority
                context.load_verify_locations(cadata=roots.decode("ascii", "ignore"))
            except (OSError, ValueError) as error:
                raise NotSentError(
                    f"The ca {_shown(self.ca)} has no certificate that can be read.",
                    cause="it is not PEM, or is damaged",
                    cure="openssl x509 -noout -in FILE says what is wrong",
                    reason="tls-ca",
                ) from error
        if self.cert is not None and self.key is not None:
            key, cert = _content("key", self.key), _content("cert", self.cert)
            try:
                with _as_file(self.cert, cert) as cert_file, _as_file(self.key, key) as key_file:
                    context.load_cert_chain(cert_file, key_file, lambda: "")
            except (OSError, ValueError) as error:
                raise NotSentError(
                    f"The cert {_shown(self.cert)} and the key {_shown(self.key)} are not a certificate and its key.",
                    cause="they are not PEM, were not made together, or the key has a password",
                    cure="openssl x509 -noout -in CERT and openssl pkey -noout -in KEY say which one is not",
                    reason="tls-pair",
                ) from error
        return context


def tls_error(address: str, said: str, tls: Tls) -> ClientError | None:
    """What went wrong with TLS, by what grpc said of it; None where it was something else."""
    if "WRONG_VERSION_NUMBER" in said:
        return NotReachedError(
            f"{address} does not speak TLS ({said}).",
            cause="the server was started without --ssl_config_file, or this is its REST port, which never has TLS",
            cure=f"ask without TLS: {address.replace('grpcs://', 'grpc://', 1)}",
            reason="tls-not-spoken",
        )
    if "Hostname Verification" in said or "is not in peer certificate" in said:
        return NotReachedError(
            f"The certificate of {address} is for another host ({said}).",
            cause="a certificate names the hosts that it is for",
            cure="ask a host that it names: openssl x509 -in SERVER_CERT -noout -text lists them",
            reason="tls-other-host",
        )
    if "CERTIFICATE_VERIFY_FAILED" in said:
        of_ca = "its own authority is not one of this machine's"
        if tls.ca is not None:
            of_ca = f"it was not signed by one of {_shown(tls.ca)}"
        return NotReachedError(
            f"The certificate of {address} is not trusted ({said}).",
            cause=f"{of_ca}, or its time is over",
            cure="name the certificate of its authority, or a self-signed one itself: Tls(ca=FILE)",
            reason="tls-not-trusted",
        )
    if any(sign in said for sign in HANDSHAKE):
        return NotReachedError(
            f"The TLS connection to {address} failed ({said}).",
            cause="the server refuses what this client offers",
            cure="look at the server's log, and at its --ssl_config_file",
            reason="tls-handshake",
        )
    if "Socket closed" in said or "Connection reset" in said:
        own = "one that its authority did not sign" if tls.cert is not None else "none"
        return NotReachedError(
            f"{address} closed the connection before it had answered ({said}).",
            cause=f"it may want a client's certificate (client_verify), and got {own}; or it has ended at this request",
            cure="name a certificate that its custom_ca signed, and its key: Tls(ca=FILE, cert=FILE, key=FILE)",
            reason="tls-client-verify",
        )
    return None


def _content(name: str, pem: Pem) -> bytes:
    if isinstance(pem, bytes):
        return pem
    try:
        return Path(pem).read_bytes()
    except OSError as error:
        refused = refused_at(Path(pem)) if isinstance(error, PermissionError) else None
        raise NotSentError(
            f"The {name} {_shown(pem)} of TLS can't be read: {(error.strerror or str(error)).lower()}.",
            cause=f"{in_a_line(str(refused))} refuses it: {whose(refused)}" if refused is not None else "",
            cure="correct the path, or have it opened for this user",
            reason="tls-file",
        ) from error
    except ValueError as error:  # a null byte in it
        raise NotSentError(
            f"The {name} {_shown(pem)} of TLS is not a path.", cure="give a path, or the content as bytes"
        ) from error


@contextlib.contextmanager
def _as_file(pem: Pem, content: bytes) -> Iterator[str]:
    """The path of a file with that content: Python's ssl reads a pair from files only, which here lasts a moment."""
    if not isinstance(pem, bytes):
        yield os.fspath(pem)
        return
    with tempfile.NamedTemporaryFile(prefix="npu-serving-", suffix=".pem") as file:  # of mode 0600
        file.write(content)
        file.flush()
        yield file.name


def _shown(pem: Pem) -> str:
    return f"(given as {len(pem)} bytes)" if isinstance(pem, bytes) else in_a_line(os.fspath(pem))
