"""TLS of a gRPC API: what a client proves itself and the server with, and what went wrong where that did not work.

TensorFlow Serving 1.15 has it for gRPC alone (--ssl_config_file); its REST API is never encrypted.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving import fsutil
from npu_serving.errors import NpuServingError, RequestError, UnreachableError
from npu_serving.writers.shell import command_line

if TYPE_CHECKING:
    import grpc

HANDSHAKE = ("handshake failed", "Verification Check failed", "CERTIFICATE_VERIFY_FAILED")


@dataclass(frozen=True)
class ClientTls:
    """The certificates that the server's is checked with, those of this machine without it; and a client's own pair."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags by which these were given."""
        return tuple(f"--{name}" for name in ("ca", "cert", "key") if getattr(self, name) is not None)

    def credentials(self) -> grpc.ChannelCredentials:
        """What a channel is made with. RequestError for files that are not what they should be, FileAccessError."""
        import grpc

        if (self.cert is None) != (self.key is None):
            given, lacking = ("cert", "key") if self.key is None else ("key", "cert")
            raise RequestError(
                f"--{given} was given without --{lacking}.",
                cause="a client proves itself with a certificate and the key that belongs to it",
                cure=f"name both, or leave --{given} out",
            )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ca = self.ca if self.ca is not None else _of_this_machine()
        roots = fsutil.read_bytes(ca) if ca is not None else None
        if self.ca is not None:
            try:
                context.load_verify_locations(self.ca)
            except (OSError, ValueError) as error:
                raise RequestError(
                    f"--ca {self.ca} has no certificate that can be read.",
                    cause="it is not PEM, or is damaged",
                    cure=f"{command_line(['openssl', 'x509', '-in', self.ca, '-noout'])} says what is wrong",
                ) from error
        if self.cert is None or self.key is None:
            return grpc.ssl_channel_credentials(roots)
        key, cert = fsutil.read_bytes(self.key), fsutil.read_bytes(self.cert)
        try:
            context.load_cert_chain(self.cert, self.key, lambda: "")
        except (OSError, ValueError) as error:
            raise RequestError(
                f"--cert {self.cert} and --key {self.key} are not a certificate and its key.",
                cause="they are not PEM, were not made together, or the key has a password",
                cure=f"{command_line(['openssl', 'pkey', '-in', self.key, '-noout'])} and "
                f"{command_line(['openssl', 'x509', '-in', self.cert, '-noout'])} say which one is not",
            ) from error
        return grpc.ssl_channel_credentials(roots, key, cert)


WITHOUT_FILES = ClientTls()


def _of_this_machine() -> Path | None:
    """The certificates that this machine trusts in one file; None where grpc's own are taken."""
    found = ssl.get_default_verify_paths().cafile
    return Path(found) if found is not None else None


def tls_error(address: str, said: str, tls: ClientTls) -> NpuServingError | None:
    """What went wrong with TLS, by what grpc said of it; None where it was something else."""
    if "WRONG_VERSION_NUMBER" in said:
        return UnreachableError(
            f"{address} does not speak TLS ({said}).",
            cause="the server was started without --ssl_config_file, or this is its REST port, which never has TLS",
            cure=f"ask without TLS: --url {address.replace('grpcs://', 'grpc://', 1)}",
        )
    if "Hostname Verification" in said or "is not in peer certificate" in said:
        return UnreachableError(
            f"The certificate of {address} is for another host ({said}).",
            cause="a certificate names the hosts that it is for",
            cure="write a host in --url that it names: openssl x509 -in SERVER_CERT -noout -text lists them",
        )
    if "CERTIFICATE_VERIFY_FAILED" in said:
        cause = f"it was not signed by one of {tls.ca}" if tls.ca else "its own authority is not one of this machine's"
        return UnreachableError(
            f"The certificate of {address} is not trusted ({said}).",
            cause=f"{cause}, or its time is over",
            cure="name the certificate of its authority, or a self-signed one itself: --ca FILE",
        )
    if any(sign in said for sign in HANDSHAKE):
        return UnreachableError(
            f"The TLS connection to {address} failed ({said}).",
            cause="the server refuses what this client offers",
            cure="look at the server's log, and at tls in its deployment.yaml",
        )
    if "Socket closed" in said or "Connection reset" in said:
        own = "one that its authority did not sign" if tls.cert is not None else "none"
        return UnreachableError(
            f"{address} closed the connection before it had answered ({said}).",
            cause=f"it may want a client's certificate (client_verify), and got {own}; or it has ended at this request",
            cure="name a certificate that its custom_ca signed, and its key: --cert FILE --key FILE",
        )
    return None
