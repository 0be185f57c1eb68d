"""A real nginx and a real HAProxy in front of a model server, gRPC and REST: each place of theirs does one thing.

Both have the places `through`, `login` (401), `forbidden` (403), `often` (429 from the second request on), `dead` (502,
HAProxy 503), `down` (503), `slow` (504) and `tls`; nginx also `default`, whose limit of 1 MB for a request nobody has
raised (413), `moved` (302 to `through`), `page` (a sign-in page with 200) and `mtls`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

PLACES = "/usr/sbin:/usr/bin:/sbin:/bin"
GRPC, REST = "grpc", "rest"
_NGINX = {
    "through": "client_max_body_size 0; location / { PASS }",
    "default": "location / { PASS }",
    "login": 'location / { auth_basic "models"; auth_basic_user_file users; PASS }',
    "forbidden": "location / { deny all; PASS }",
    "often": "limit_req zone=few; limit_req_status 429; location / { PASS }",
    "dead": "location / { DEAD }",
    "down": "location / { return 503; }",
    "slow": "location / { grpc_read_timeout 200ms; proxy_read_timeout 200ms; SLOW }",
    "moved": "location / { return 302 http://127.0.0.1:THROUGH$request_uri; }",
    "page": 'location / { default_type text/html; return 200 "<html><head><title>Sign in</title></head></html>"; }',
    "tls": "client_max_body_size 0; ssl_certificate server.pem; ssl_certificate_key server.key; location / { PASS }",
    "mtls": (
        "ssl_certificate server.pem; ssl_certificate_key server.key; ssl_verify_client on;"
        " ssl_client_certificate client.pem; location / { PASS }"
    ),
}
_HAPROXY = {
    "through": "default_backend model",
    "login": "http-request deny deny_status 401\n  default_backend model",
    "forbidden": "http-request deny deny_status 403\n  default_backend model",
    "often": (
        "stick-table type ip size 10 expire 1m store http_req_cnt\n  http-request track-sc0 src\n"
        "  http-request deny deny_status 429 if { sc_http_req_cnt(0) gt 1 }\n  default_backend model"
    ),
    "dead": "default_backend dead",
    "down": "default_backend down",
    "slow": "default_backend slow",
    "tls": "default_backend model",
}


@dataclasses.dataclass(frozen=True)
class Gateway:
    """One that runs, and where each place of it is."""

    directory: Path
    """Its certificates: server.pem is to be trusted for localhost, client.pem and client.key are those `mtls` wants."""
    ports: Mapping[tuple[str, str], int]

    def grpc(self, place: str) -> str:
        return f"grpcs://localhost:{self.ports[place, GRPC]}" if _has_tls(place) else self._plain(place, GRPC, "grpc")

    def rest(self, place: str) -> str:
        return f"https://localhost:{self.ports[place, REST]}" if _has_tls(place) else self._plain(place, REST, "http")

    def _plain(self, place: str, api: str, scheme: str) -> str:
        return f"{scheme}://127.0.0.1:{self.ports[place, api]}"

    def statistics(self, column: str) -> dict[str, str]:
        """HAProxy: what its statistics say of each server, as backend/server."""
        with socket.socket(socket.AF_UNIX) as asked:
            asked.connect(str(self.directory / "stats"))
            asked.sendall(b"show stat\n")
            with asked.makefile() as answer:
                head, *rows = [line.rstrip("\n").split(",") for line in answer if line.strip()]
        place = head.index(column)
        return {f"{row[0]}/{row[1]}": row[place] for row in rows if row[1] not in ("FRONTEND", "BACKEND")}


@contextlib.contextmanager
def nginx(grpc_port: int, rest_port: int, directory: Path) -> Iterator[Gateway]:
    """nginx before a server with these ports; its files are in that directory."""
    with _silent() as silent:
        ports = dict(zip([(place, api) for place in _NGINX for api in (GRPC, REST)], spare_ports(2 * len(_NGINX))))
        servers = []
        for (place, api), port in ports.items():
            model = grpc_port if api == GRPC else rest_port
            listen = " ".join([*(["ssl"] if _has_tls(place) else []), *(["http2"] if api == GRPC else [])])
            body = _NGINX[place].replace("THROUGH", str(ports["through", api]))
            for word, to in (("PASS", model), ("DEAD", 1), ("SLOW", silent)):
                body = body.replace(word, _passed(api, to))
            servers.append(f"server {{ listen 127.0.0.1:{port} {listen}; {body} }}")
        temporary = " ".join(
            f"{name}_temp_path {name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config = (
            f"user {getpass.getuser()};\ndaemon off;\npid nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n"
            f"access_log off; {temporary} limit_req_zone $binary_remote_addr zone=few:1m rate=1r/m;\n"
            + "\n".join(servers)
            + "\n}\n"
        )
        (directory / "users").write_text("me:{PLAIN}secret\n")
        certificates(directory)
        with started("nginx", directory, config, ports.values()):
            yield Gateway(directory, ports)


@contextlib.contextmanager
def haproxy(grpc_port: int, rest_port: int, directory: Path) -> Iterator[Gateway]:
    """HAProxy before a server with these ports, which it takes out when its connections fail; its files are there."""
    with _silent() as silent:
        ports = dict(zip([(place, api) for place in _HAPROXY for api in (GRPC, REST)], spare_ports(2 * len(_HAPROXY))))
        lines = [
            f"global\n  stats socket {directory}/stats",
            "defaults\n  mode http\n  timeout connect 1s\n  timeout client 60s\n  timeout server 60s\n  retries 0",
        ]
        certificates(directory)
        for (place, api), port in ports.items():
            ssl = f" ssl crt {directory}/both.pem alpn h2" if _has_tls(place) else ""
            bind = f"bind 127.0.0.1:{port}" + (ssl or (" proto h2" if api == GRPC else ""))
            rules = _HAPROXY[place].replace("_backend ", f"_backend {api}-")
            lines.append(f"frontend {api}-{place}\n  {bind}\n  {rules}")
        for api, port in ((GRPC, grpc_port), (REST, rest_port)):
            h2 = " proto h2" if api == GRPC else ""
            strictly = " observe layer7 error-limit 5" if api == GRPC else ""  # a full queue over REST is a 503
            lines.append(f"backend {api}-model\n  server one 127.0.0.1:{port}{h2} check{strictly}")
            lines.append(f"backend {api}-down")
            lines.append(f"backend {api}-dead\n  server one 127.0.0.1:1{h2}")
            lines.append(f"backend {api}-slow\n  timeout server 200ms\n  server one 127.0.0.1:{silent}{h2}")
        with started("haproxy", directory, "\n".join(lines) + "\n", ports.values()):
            yield Gateway(directory, ports)


def _passed(api: str, port: int) -> str:
    return f"grpc_pass grpc://127.0.0.1:{port};" if api == GRPC else f"proxy_pass http://127.0.0.1:{port};"


def _has_tls(place: str) -> bool:
    return place in ("tls", "mtls")


def spare_ports(count: int) -> list[int]:
    """As many ports as that nobody listens at."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


@contextlib.contextmanager
def _silent() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


def certificates(directory: Path) -> None:
    """server, client: certificates for localhost that sign themselves, with their keys; both.pem is server's in one."""
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    named = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    for name in ("server", "client"):
        files = ["-keyout", f"{directory}/{name}.key", "-out", f"{directory}/{name}.pem"]
        subprocess.run(["openssl", "req", *kind, *named, *files], check=True, capture_output=True, timeout=60)
    both = (directory / "server.pem").read_text() + (directory / "server.key").read_text()
    (directory / "both.pem").write_text(both)


@contextlib.contextmanager
def started(name: str, directory: Path, config: str, ports: Iterable[int]) -> Iterator[None]:
    """nginx or HAProxy with this file, listening at all of these ports."""
    program = shutil.which(name, path=PLACES)
    if program is None:
        pytest.skip(f"there is no {name}")
    directory.chmod(0o755)
    (directory / "config").write_text(config)
    words = ["-p", str(directory), "-c", "config"] if name == "nginx" else ["-db", "-f", str(directory / "config")]
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen([program, *words], stdout=log, stderr=log)
    try:
        for port in ports:
            _await(port, server, directory)
        yield
    finally:
        server.terminate()
        server.wait()


def _await(port: int, server: subprocess.Popen[bytes], directory: Path) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        assert server.poll() is None, (directory / "log").read_text()
        time.sleep(0.05)
    raise AssertionError((directory / "log").read_text())
