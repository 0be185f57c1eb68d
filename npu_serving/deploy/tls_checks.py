"""The key and the certificates of a deployment, as a server's TLS would find them: it ends at them after its models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from npu_serving.findings import WARNING, Finding

if TYPE_CHECKING:
    from npu_serving.deploy.deployment_sections import ServerOptions, TlsOptions

KIND, UNENCRYPTED = "tls", "unencrypted"
WHERE = "server.tls"
_EFFECT = "the server would load its models and then end: Failed to BuildAndStart gRPC server"


def check_tls(tls: TlsOptions) -> Iterator[Finding]:
    """What is wrong with files that are there and are PEM: a key of another certificate, one with a password."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    asked: list[str] = []

    def password() -> str:
        asked.append("")  # without this function, a terminal would be asked
        return ""

    try:
        context.load_cert_chain(tls.server_cert, tls.server_key, password)
    except (OSError, ValueError) as error:
        if asked:
            what = f"The key {tls.server_key} is locked with a password, for which the server has no setting"
            cure = f"openssl pkey -in {tls.server_key} -out KEY writes it without one, for server_key: KEY"
        elif getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
            what = f"The key {tls.server_key} is not that of the certificate {tls.server_cert}"
            cure = "name the two that were made together; where the certificate is one of several, it stands first"
        else:
            what = f"{tls.server_key} and {tls.server_cert} are not a key and a certificate that can be read"
            cure = "openssl pkey -in SERVER_KEY -noout and openssl x509 -in SERVER_CERT -noout say which one is not"
        yield Finding(f"{what}: {_EFFECT}.", cure, kind=KIND, where=WHERE)
    if tls.custom_ca is not None:
        try:
            context.load_verify_locations(tls.custom_ca)
        except (OSError, ValueError):
            what = f"{tls.custom_ca} has no certificate that can be read: {_EFFECT}"
            cure = f"openssl x509 -in {tls.custom_ca} -noout says what is wrong"
            yield Finding(f"{what}.", cure, kind=KIND, where=f"{WHERE}.custom_ca")


def check_unencrypted(server: ServerOptions) -> Iterator[Finding]:
    """What stays in plain text beside TLS: in 1.15 --ssl_config_file counts for gRPC's port and socket only."""
    if server.tls is None or not server.rest_api_port:
        return
    metrics = ", the metrics too" if server.monitoring is not None else ""
    what = f"TLS is for gRPC alone: the REST API at port {server.rest_api_port} stays in plain text{metrics}"
    cure = "leave it out with rest_api_port: 0, or let nobody reach it but a proxy that has TLS"
    yield Finding(f"{what}, and takes requests from anybody.", cure, WARNING, UNENCRYPTED, "server.rest_api_port")
