"""Keys and certificates at which a server would end after its models are loaded; each cure is what openssl takes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from npu_serving.deploy.deployment_sections import MonitoringOptions, ServerOptions, TlsOptions
from npu_serving.deploy.tls_checks import check_tls, check_unencrypted

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the keys")


def openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tls")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    for name in ("one", "two"):
        files = ("-keyout", f"{directory}/{name}.key", "-out", f"{directory}/{name}.pem")
        openssl("req", "-x509", *curve, "-nodes", "-subj", "/CN=x", "-days", "2", *files)
    locked = ("-aes256", "-passout", "pass:secret")
    openssl("pkey", "-in", f"{directory}/one.key", "-out", f"{directory}/locked.key", *locked)
    (directory / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nbm8=\n-----END CERTIFICATE-----\n")
    return directory


def found(pair: Path, key: str, certificate: str, custom_ca: str = "one.pem") -> list[tuple[str, str]]:
    tls = TlsOptions(f"{pair}/{key}", f"{pair}/{certificate}", f"{pair}/{custom_ca}")
    return [(finding.where, finding.what) for finding in check_tls(tls)]


def test_a_key_and_its_certificate_are_fine(pair: Path) -> None:
    assert found(pair, "one.key", "one.pem") == []
    assert [*check_tls(TlsOptions(f"{pair}/one.key", f"{pair}/one.pem"))] == []


@pytest.mark.parametrize(
    ("key", "certificate", "said"),
    [
        ("two.key", "one.pem", "two.key is not that of the certificate"),
        ("one.pem", "one.key", "are not a key and a certificate that can be read"),
        ("one.key", "broken.pem", "are not a key and a certificate that can be read"),
        ("locked.key", "one.pem", "locked.key is locked with a password"),
    ],
)
def test_what_the_server_would_end_at_is_named(pair: Path, key: str, certificate: str, said: str) -> None:
    ((where, what),) = found(pair, key, certificate)
    assert where == "server.tls"
    assert said in what


def test_certificates_that_clients_are_checked_with_have_to_be_some(pair: Path) -> None:
    ((where, _),) = found(pair, "one.key", "one.pem", "broken.pem")
    assert where == "server.tls.custom_ca"


def test_what_stays_in_plain_text_beside_tls_is_said_and_the_cure_helps() -> None:
    tls = TlsOptions("/key", "/cert")
    (finding,) = check_unencrypted(ServerOptions(tls=tls, monitoring=MonitoringOptions()))
    assert "the REST API at port 8501 stays in plain text, the metrics too" in finding.what
    assert finding.where == "server.rest_api_port"
    assert [*check_unencrypted(ServerOptions(tls=tls, rest_api_port=0, grpc_socket_path="/run/s"))] == []
    assert [*check_unencrypted(ServerOptions())] == []
