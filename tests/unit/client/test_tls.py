"""Asking over TLS: a real handshake with a server that is not ours, and each way in which it fails, with its cure."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_server import ModelServer, serving

from npu_serving.asking.grpc_client import predict
from npu_serving.asking.request import read_request
from npu_serving.client.model_spec import ModelSpec
from npu_serving.client.tls import Tls
from npu_serving.errors import RequestError, UnreachableError

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the keys")
ROWS = read_request('{"instances": [[1.0, 2.0]]}')


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tls")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    named = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    for name in ("server", "client", "other"):
        files = ("-keyout", f"{directory}/{name}.key", "-out", f"{directory}/{name}.pem")
        words = ["openssl", "req", "-x509", *curve, "-nodes", *named, "-days", "2", *files]
        subprocess.run(words, check=True, capture_output=True, timeout=60)
    (directory / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nbm8=\n-----END CERTIFICATE-----\n")
    return directory


@contextmanager
def tls_server(made: Path, *, client_verify: bool = False) -> Iterator[ModelServer]:
    pair = ((made / "server.key").read_bytes(), (made / "server.pem").read_bytes())
    ca = (made / "client.pem").read_bytes() if client_verify else None
    with serving(credentials=grpc.ssl_server_credentials([pair], ca, client_verify)) as server:
        yield server


def asked(server: ModelServer, tls: Tls, url: str = "") -> object:
    return predict(url or server.url, ModelSpec("m"), ROWS, timeout_s=20, tls=tls).outputs


def client(made: Path, name: str = "client") -> Tls:
    return Tls(made / "server.pem", made / f"{name}.pem", made / f"{name}.key")


def test_an_encrypted_server_answers_and_one_that_wants_a_certificate_too(made: Path) -> None:
    with tls_server(made) as server:
        assert asked(server, Tls(made / "server.pem")) == [[2.0, 4.0]]
    with tls_server(made, client_verify=True) as server:
        assert asked(server, client(made)) == [[2.0, 4.0]]


def test_comments_beside_a_certificate_may_be_in_any_language_and_other_bytes_are_refused(made: Path) -> None:
    (made / "commented.pem").write_bytes("# 华为\n".encode() + (made / "server.pem").read_bytes())
    (made / "noise.pem").write_bytes(bytes(range(256)))
    with tls_server(made) as server:
        assert asked(server, Tls(made / "commented.pem")) == [[2.0, 4.0]]
        with pytest.raises(RequestError, match=r"noise\.pem has no certificate"):
            asked(server, Tls(made / "noise.pem"))


def test_a_certificate_that_nobody_trusts_is_refused_and_the_cure_helps(made: Path) -> None:
    with tls_server(made) as server:
        for tls in (Tls(), Tls(made / "other.pem")):
            with pytest.raises(UnreachableError, match="is not trusted") as caught:
                asked(server, tls)
            assert "--ca FILE" in caught.value.cure
        assert server.requests == []


def test_a_certificate_of_another_host_is_refused(made: Path) -> None:
    with tls_server(made) as server, pytest.raises(UnreachableError, match="is for another host") as caught:
        asked(server, Tls(made / "server.pem"), server.url.replace("localhost", "127.0.0.1"))
    assert "-noout -text" in caught.value.cure


@pytest.mark.parametrize("own", ["", "other"])
def test_a_server_that_wants_another_certificate_of_the_client_is_told(made: Path, own: str) -> None:
    tls = client(made, own) if own else Tls(made / "server.pem")
    with tls_server(made, client_verify=True) as server, pytest.raises(UnreachableError) as caught:
        asked(server, tls)
    assert "client_verify" in caught.value.cause
    assert ("did not sign" in caught.value.cause) == bool(own)
    assert "--cert FILE --key FILE" in caught.value.cure


def test_plain_and_encrypted_are_told_from_each_other_and_the_cures_help(made: Path) -> None:
    with serving() as plain:
        url = plain.url.replace("grpc://", "grpcs://")
        with pytest.raises(UnreachableError, match="does not speak TLS") as caught:
            asked(plain, Tls(made / "server.pem"), url)
        assert caught.value.cure.endswith(f"--url {plain.url}")
        assert asked(plain, Tls()) == [[2.0, 4.0]]
    with tls_server(made) as server:
        address = server.url.replace("grpcs://", "grpc://")
        with pytest.raises(UnreachableError) as caught:
            asked(server, Tls(), address)
        assert f"--url {server.url} --ca FILE" in caught.value.cure


@pytest.mark.parametrize(
    ("files", "what"),
    [
        (("broken.pem", None, None), r"The ca .* has no certificate that can be read"),
        (("server.pem", "client.pem", None), r"The cert of TLS was given without the key \(--cert without --key\)"),
        (("server.pem", None, "client.key"), "--key without --cert"),
        (("server.pem", "client.pem", "other.key"), "are not a certificate and its key"),
        (("server.pem", "client.key", "client.pem"), "are not a certificate and its key"),
    ],
)
def test_files_that_do_not_fit_are_refused_before_anything_is_sent(
    made: Path, files: tuple[str | None, ...], what: str
) -> None:
    tls = Tls(*(made / name if name is not None else None for name in files))
    with pytest.raises(RequestError, match=what):
        predict("grpcs://localhost:9", ModelSpec("m"), ROWS, tls=tls)


def test_a_missing_file_is_named_and_files_without_tls_are_refused(made: Path) -> None:
    with pytest.raises(RequestError, match=r"none\.pem"):
        predict("grpcs://localhost:9", ModelSpec("m"), ROWS, tls=Tls(made / "none.pem"))
    with pytest.raises(RequestError, match="The ca of TLS would have no effect") as caught:
        predict("grpc://localhost:9", ModelSpec("m"), ROWS, tls=Tls(made / "server.pem"))
    assert "grpcs://localhost:9" in caught.value.cure
