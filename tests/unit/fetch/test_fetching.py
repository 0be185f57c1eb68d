"""The fetch engine against a server that misbehaves: what it must survive, and what it must never believe."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import email.utils
import errno
import gzip
import hashlib
import io
import json
import os
import random
import re
import shutil
import socket
import subprocess
import tarfile
import threading
import zipfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import fault_server as faults
import pytest

from npu_serving.console import Silent, SilentProgress
from npu_serving.errors import DiskFullError, FetchError, FileAccessError, PinMismatchError, RequestError
from npu_serving.fetch.attempts import Attempts
from npu_serving.fetch.content_store import ContentStore
from npu_serving.fetch.fetching import fetch, fetch_file, plan_fetch
from npu_serving.fetch.http import LONGEST_RETRY_AFTER_S, _retry_after
from npu_serving.fetch.mirrors import Candidate, HostRecord, Places, parse_mirror, places_of
from npu_serving.fetch.transfer import WantedFile
from npu_serving.fetch.tuning import Tuning
from npu_serving.lock.lockfile import Archive

# Impatient, and with small ranges, so that small files go through all of the engine.
TUNING = Tuning(
    files_at_once=4,
    rounds=3,
    backoff_s=0.01,
    outage_s=0.0,
    connect_timeout_s=5.0,
    silence_timeout_s=0.5,
    slowest_bytes_per_s=1e3,
    ranges_from_bytes=1_000_000,
    range_bytes=200_000,
    ranges_at_once=3,
)
SMALL = random.Random(1).randbytes(300_000)
LARGE = random.Random(2).randbytes(2_500_000)


@pytest.fixture
def server():
    with faults.serving() as running:
        yield running


@pytest.fixture
def store(tmp_path):
    return ContentStore(tmp_path / "store")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def wanted(*urls: str, data: bytes, size: int | None = -1, label: str = "thing") -> WantedFile:
    return WantedFile(label, urls[0].rsplit("/", 1)[-1], urls, sha256(data), len(data) if size == -1 else size)


def bring(store: ContentStore, *files: WantedFile, **options):
    options.setdefault("tuning", TUNING)
    return fetch(plan_fetch(files, store), store, **options)


def held(store: ContentStore, data: bytes) -> bool:
    return store.path(sha256(data)).exists() and store.path(sha256(data)).read_bytes() == data


def leftovers(store: ContentStore) -> list[str]:
    return sorted(path.name for path in store.partial.iterdir()) if store.partial.is_dir() else []


# ---- what goes well


def test_files_are_fetched_and_kept_under_their_digest(server, store):
    one, two = server.put("/one.zip", SMALL), server.put("/two.zip", LARGE)
    report = bring(store, wanted(one, data=SMALL), wanted(two, data=LARGE))
    assert held(store, SMALL)
    assert held(store, LARGE)
    assert report.fetched_bytes == len(SMALL) + len(LARGE)
    assert leftovers(store) == []
    assert {file.mirror for file in report.fetched} == {server.url.removeprefix("http://")}


def test_what_is_there_is_not_fetched_again(server, store):
    url = server.put("/one.zip", SMALL)
    bring(store, wanted(url, data=SMALL))
    report = bring(store, wanted(url, data=SMALL))
    assert report.fetched == ()
    assert len(server.requests) == 1
    assert "nothing was fetched" in report.text()


def test_files_come_in_at_once_over_connections_that_are_kept(server, store):
    all_there = threading.Barrier(TUNING.files_at_once, timeout=20)

    def waits_for_the_others(handler, data):
        all_there.wait()  # breaks, and fails the request, unless so many requests are under way
        handler.serve(data)

    contents = [SMALL + bytes([number]) for number in range(3 * TUNING.files_at_once)]
    urls = [server.put(f"/{number}.zip", data, always=waits_for_the_others) for number, data in enumerate(contents)]
    report = bring(store, *(wanted(url, data=data) for url, data in zip(urls, contents)))
    assert sum(file.retries for file in report.fetched) == 0
    assert server.connections == TUNING.files_at_once


def test_a_large_file_comes_in_several_ranges_each_byte_once(server, store):
    url = server.put("/large.bin", LARGE)
    report = bring(store, wanted(url, data=LARGE))
    assert held(store, LARGE)
    assert len(server.requests) == 13  # ranges of 200,000 bytes
    assert report.fetched_bytes == len(LARGE)


def test_a_large_file_of_unknown_size_comes_in_ranges_too(server, store):
    url = server.put("/large.bin", LARGE)
    bring(store, wanted(url, data=LARGE, size=None))
    assert held(store, LARGE)
    assert len(server.requests) == 13


def test_a_file_without_a_pinned_digest_is_left_alone_and_named(server, store):
    url = server.put("/one.zip", SMALL)
    report = bring(store, Archive("unpinned_thing", "http_archive", (url,), None))  # type: ignore[arg-type]
    assert report.unpinned == ("unpinned_thing",)
    assert "unpinned_thing" in report.text()
    assert server.requests == []


def test_fetch_file_returns_the_path_of_the_verified_file(server, store):
    url = server.put("/tool", SMALL)
    assert fetch_file(wanted(url, data=SMALL), store).read_bytes() == SMALL


# ---- connections that break


def test_a_truncated_download_is_resumed_not_restarted(server, store):
    url = server.put("/one.zip", SMALL, faults.truncated(100_000))
    report = bring(store, wanted(url, data=SMALL))
    assert held(store, SMALL)
    assert [request.range for request in server.requests] == ["", "bytes=100000-"]
    assert report.fetched_bytes == len(SMALL)
    assert report.fetched[0].retries == 1


def test_a_connection_that_is_reset_again_and_again_gets_there_bit_by_bit(server, store):
    url = server.put("/one.zip", SMALL, *[faults.truncated(20_000)] * 12)
    bring(store, wanted(url, data=SMALL))
    assert held(store, SMALL)


def test_a_reset_connection_is_survived(server, store):
    url = server.put("/one.zip", SMALL, faults.truncated(50_000, reset=True), faults.truncated(0, reset=True))
    bring(store, wanted(url, data=SMALL))
    assert held(store, SMALL)


def test_a_server_that_falls_silent_is_left_and_the_file_goes_on(server, store):
    url = server.put("/one.zip", SMALL, faults.stalls(100_000))
    bring(store, wanted(url, data=SMALL))
    assert held(store, SMALL)
    assert server.requests[1].range == "bytes=100000-"


def test_a_server_that_only_drips_is_left_for_the_next(server, store):
    slow = server.put("/slow.zip", SMALL, always=faults.drips(0.05))
    fast = server.put("/fast.zip", SMALL)
    report = bring(store, wanted(slow, fast, data=SMALL))
    assert held(store, SMALL)
    assert report.fetched[0].url == fast


def test_a_broken_range_is_fetched_again_alone(server, store):
    url = server.put("/large.bin", LARGE, faults.good, faults.status(503), faults.good, faults.status(500))
    report = bring(store, wanted(url, data=LARGE))
    assert held(store, LARGE)
    assert len(server.requests) == 15
    assert report.fetched_bytes == len(LARGE)


def test_a_file_that_changes_between_two_ranges_is_fetched_again_in_one_piece(server, store):
    def old_version(handler, data):
        handler.serve(b"\0" * len(data), etag='"old"')

    url = server.put("/large.bin", LARGE, old_version, always=faults.good)
    bring(store, wanted(url, data=LARGE))
    assert held(store, LARGE)


def test_ranges_that_hold_other_bytes_are_found_out_by_the_digest(server, store):
    url = server.put("/large.bin", LARGE, faults.good, faults.other_bytes(bytes(len(LARGE))), always=faults.good)
    bring(store, wanted(url, data=LARGE))
    assert held(store, LARGE)


@pytest.mark.parametrize(
    "fault",
    [faults.ignores_range, faults.chunked, faults.without_length, faults.gzip_encoded],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_servers_with_manners_of_their_own_are_understood(server, store, fault, data):
    url = server.put("/one.zip", data, always=fault)
    bring(store, wanted(url, data=data))
    assert held(store, data)


def test_a_resumed_file_whose_server_ignores_ranges_begins_anew(server, store):
    url = server.put("/one.zip", SMALL, faults.truncated(100_000), always=faults.ignores_range)
    report = bring(store, wanted(url, data=SMALL))
    assert held(store, SMALL)
    assert report.fetched_bytes == len(SMALL) + 100_000


def test_the_beginning_that_an_earlier_run_left_is_used(server, store):
    store.partial.mkdir(parents=True)
    (store.partial / sha256(SMALL)).write_bytes(SMALL[:250_000])
    url = server.put("/one.zip", SMALL)
    report = bring(store, wanted(url, data=SMALL))
    assert held(store, SMALL)
    assert report.fetched_bytes == 50_000


def test_a_beginning_that_is_not_of_this_file_is_found_out(server, store):
    store.partial.mkdir(parents=True)
    (store.partial / sha256(SMALL)).write_bytes(b"<html>" * 100)
    url = server.put("/one.zip", SMALL)
    bring(store, wanted(url, data=SMALL))
    assert held(store, SMALL)


def test_a_beginning_longer_than_the_file_is_found_out(server, store):
    store.partial.mkdir(parents=True)
    (store.partial / sha256(SMALL)).write_bytes(SMALL + b"more")
    url = server.put("/one.zip", SMALL)
    bring(store, wanted(url, data=SMALL))
    assert held(store, SMALL)


def test_a_finished_file_that_was_not_renamed_yet_needs_no_request(server, store):
    store.partial.mkdir(parents=True)
    (store.partial / sha256(SMALL)).write_bytes(SMALL)
    url = server.put("/one.zip", SMALL)
    bring(store, wanted(url, data=SMALL))
    assert held(store, SMALL)
    assert server.requests == []


def test_finished_ranges_of_an_earlier_run_are_not_fetched_again(server, store):
    url = server.put("/large.bin", LARGE, *[faults.good] * 6, always=faults.status(404))
    with pytest.raises(FetchError):
        bring(store, wanted(url, data=LARGE))
    assert leftovers(store) == [sha256(LARGE), sha256(LARGE) + ".ranges"]
    server.resources["/large.bin"].always = None
    report = bring(store, wanted(url, data=LARGE))
    assert held(store, LARGE)
    assert report.fetched_bytes == len(LARGE) - 6 * 200_000


@pytest.mark.parametrize("journal", ["", "x", "2500000", "2500000\n0 999999999\n", "2500000\n5 1\n", "7\n0 7\n"])
def test_a_damaged_journal_of_ranges_costs_time_but_never_right_bytes(server, store, journal):
    store.partial.mkdir(parents=True)
    (store.partial / sha256(LARGE)).write_bytes(bytes(len(LARGE)))
    (store.partial / (sha256(LARGE) + ".ranges")).write_text(journal)
    url = server.put("/large.bin", LARGE)
    bring(store, wanted(url, data=LARGE))
    assert held(store, LARGE)


# ---- answers that are no file


def test_a_404_is_not_tried_again_but_the_next_mirror_is(server, store):
    gone, there = server.url + "/gone.zip", server.put("/one.zip", SMALL)
    report = bring(store, wanted(gone, there, data=SMALL))
    assert held(store, SMALL)
    assert len(server.requests_for("/gone.zip")) == 1
    assert report.fetched[0].retries == 1


def test_each_round_waits_longer_than_the_one_before(server, store, monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr(Attempts, "_pause", lambda self, seconds: pauses.append(seconds))
    url = server.put("/one.zip", SMALL, *[faults.status(500)] * 4)
    with pytest.raises(FetchError, match="500"):
        bring(store, wanted(url, data=SMALL), tuning=dataclasses.replace(TUNING, rounds=4, backoff_s=10.0))
    assert [pause for pause in pauses if pause > 1] == pytest.approx([10, 20, 40], rel=0.2)
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("served", "said"),
    [
        (b"", "empty"),
        (b"<HTML><body>sign in</body></HTML>", "an HTML page, 33 bytes, not the expected"),
        (b"version https://git-lfs.github.com/spec/v1\noid x", "a Git LFS pointer, not the file"),
        (b'{"message": "rate limit"}', "apparently an error message from the server"),
        (b"<?xml version='1.0'?><Error>", "apparently an error message from the server"),
        ("gzip cut off", "a gzip archive that is cut off or damaged, 5000 bytes, not the expected"),
        ("zip cut off", "a zip archive that is cut off or damaged, 200 bytes, not the expected"),
        ("other gzip", "a gzip archive, "),
        (b"something else", "14 bytes, not the expected"),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else "",
)
def test_a_wrong_file_is_told_by_what_it_is(server, store, served, said):
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as packed:
        packed.writestr("file", bytes(300))
    named = {
        "gzip cut off": PINNED[:5000],
        "zip cut off": zipped.getvalue()[:200],
        "other gzip": gzip.compress(archive({"thing-1.0/file": b"evil"})),
    }
    url = server.put("/thing.tar.gz", named.get(served, served), always=lambda handler, data: handler.serve(data))
    with pytest.raises(PinMismatchError) as caught:
        bring(store, wanted(url, data=PINNED))
    assert f"{url}: wrong bytes: {said}" in caught.value.what


@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_is_waited_for(server, store, code):
    import time

    url = server.put("/one.zip", SMALL, faults.status(code, Retry_After="1"))
    began = time.monotonic()
    bring(store, wanted(url, data=SMALL))
    assert held(store, SMALL)
    assert time.monotonic() - began >= 1.0


def test_retry_after_may_be_a_date_and_has_its_limits():
    def asked(seconds: float) -> str:
        return email.utils.format_datetime(datetime.now(timezone.utc) + timedelta(seconds=seconds), usegmt=True)

    assert _retry_after(asked(50)) == pytest.approx(50, abs=2)
    assert _retry_after(asked(-50)) == 0
    assert _retry_after(asked(10**6)) == _retry_after("999999") == LONGEST_RETRY_AFTER_S
    endless = "Wed, 21 Oct 2015 07:28:00 +9999999999999"
    assert {_retry_after(value) for value in ("", "soon", "-1", "1.5", "\xb2", "9" * 5000, endless)} == {0.0}


@pytest.mark.parametrize("value", ["\xb2", "9" * 5000])
@pytest.mark.parametrize("header", ["Retry-After", "Content-Length", "Content-Range"])
def test_a_header_whose_number_is_none_spoils_one_place_not_the_run(server, store, header, value):
    def nonsense(handler, _data):
        value_there = f"bytes 0-1/{value}" if header == "Content-Range" else value
        code = {"Retry-After": "503 Busy", "Content-Length": "200 OK", "Content-Range": "206 Partial Content"}[header]
        handler.wfile.write(f"HTTP/1.1 {code}\r\n{header}: {value_there}\r\n\r\n".encode("latin-1"))
        handler.close_connection = True

    bad = server.put("/bad.zip", SMALL, always=nonsense)
    bring(store, wanted(bad, server.put("/good.zip", SMALL), data=SMALL))
    assert held(store, SMALL)


def test_while_one_mirror_asks_for_patience_another_is_asked(server, store):
    busy = server.put("/busy.zip", SMALL, always=faults.status(503, Retry_After="100"))
    free = server.put("/free.zip", SMALL, faults.status(500))
    report = bring(store, wanted(busy, free, data=SMALL))
    assert report.fetched[0].url == free


def test_an_html_page_with_200_is_called_one(server, store):
    url = server.put("/one.zip", SMALL, always=faults.html)
    with pytest.raises(FetchError, match="HTML page"):
        bring(store, wanted(url, data=SMALL))


def test_an_html_page_under_a_false_content_type_is_called_one(server, store):
    url = server.put("/one.zip", SMALL, always=faults.other_bytes(b"<!DOCTYPE html><html>no</html>"))
    with pytest.raises(PinMismatchError, match="an HTML page"):
        bring(store, wanted(url, data=SMALL))
    assert not held(store, SMALL)


def test_wrong_bytes_are_never_used_and_each_mirror_is_told_apart(server, store):
    first = server.put("/one.zip", SMALL, always=faults.other_bytes(b"x" * len(SMALL)))
    second = server.put("/two.zip", SMALL, always=faults.other_bytes(b"y" * 7))
    with pytest.raises(PinMismatchError) as caught:
        bring(store, wanted(first, second, data=SMALL))
    assert sha256(b"x" * len(SMALL)) in caught.value.what
    assert sha256(b"y" * 7) in caught.value.what
    assert first in caught.value.what
    assert caught.value.exit_code == 5
    assert not store.path(sha256(SMALL)).exists()


def test_wrong_bytes_from_one_mirror_are_made_good_by_the_next(server, store):
    bad = server.put("/one.zip", SMALL, always=faults.other_bytes(b"x" * len(SMALL)))
    good = server.put("/two.zip", SMALL)
    bring(store, wanted(bad, good, data=SMALL))
    assert held(store, SMALL)
    assert leftovers(store) == []


def test_a_file_longer_than_the_pinned_one_is_not_even_begun(server, store):
    url = server.put("/one.zip", SMALL, always=faults.other_bytes(bytes(len(SMALL) * 2)))
    with pytest.raises(FetchError, match="600000 bytes, not the expected 300000"):
        bring(store, wanted(url, data=SMALL))


def test_a_body_without_end_is_cut_off_at_the_size_that_is_right(server, store):
    url = server.put("/one.zip", SMALL * 3, always=faults.chunked)
    with pytest.raises(FetchError, match="sent more than the expected 300000 bytes"):
        bring(store, wanted(url, data=SMALL))
    assert (store.partial / sha256(SMALL)).stat().st_size == 0


def test_a_length_that_lies_is_found_out(server, store):
    url = server.put("/one.zip", SMALL, faults.length_says(len(SMALL) - 5))
    bring(store, wanted(url, data=SMALL))
    assert held(store, SMALL)


# ---- redirects


def test_redirects_are_followed(server, store):
    url = server.put("/old.zip", SMALL, always=faults.redirect("/new.zip"))
    server.put("/new.zip", SMALL)
    bring(store, wanted(url, data=SMALL))
    assert held(store, SMALL)


def test_a_redirect_to_a_name_in_utf_8_is_followed(server, store):
    def redirects(handler, _data):
        handler.answer(302, b"", {"Location": "/n\xe9w.zip".encode().decode("latin-1")})

    url = server.put("/old.zip", SMALL, always=redirects)
    server.put("/n%C3%A9w.zip", SMALL)
    bring(store, wanted(url, data=SMALL))
    assert held(store, SMALL)


def test_endless_redirects_end(server, store):
    url = server.put("/loop.zip", SMALL, always=faults.redirect("/loop.zip"))
    with pytest.raises(FetchError, match="more than 10 redirects"):
        bring(store, wanted(url, data=SMALL))


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "",
        "javascript:x",
        "http://[::1/x",
        "http://h:port/",
        "http://h:99999/",
    ],
)
def test_a_redirect_off_the_web_is_refused(server, store, target):
    url = server.put("/one.zip", SMALL, always=faults.redirect(target))
    with pytest.raises(FetchError, match=r"not followed|Invalid IPv6 URL"):
        bring(store, wanted(url, data=SMALL))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "10.0.0.7", "169.254.169.254", "[::1]", "192.168.1.1", "0.0.0.0"]
)
def test_a_redirect_from_a_public_host_to_a_private_address_is_refused(server, store, monkeypatch, host):
    # The server stands in as a proxy, so that it can answer for a host of the public internet.
    monkeypatch.setenv("http_proxy", server.url)
    server.put("/one.zip", SMALL, always=faults.redirect(f"http://{host}/secret"))
    with pytest.raises(FetchError, match="private address"):
        bring(store, wanted("http://93.184.216.34/one.zip", data=SMALL))
    assert server.requests_for("/secret") == []


def test_a_proxy_from_the_environment_is_used(server, store, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    server.put("/one.zip", SMALL)
    bring(store, wanted("http://archives.example/one.zip", data=SMALL))
    assert held(store, SMALL)


def test_hosts_of_no_proxy_are_asked_directly(server, store, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "internal.example,127.0.0.1")
    bring(store, wanted(server.put("/one.zip", SMALL), data=SMALL))
    assert held(store, SMALL)


def test_a_socks_proxy_is_called_what_it_is_and_this_machine_needs_no_proxy(server, store, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://me:ge#heim@127.0.0.1:1080")
    with pytest.raises(FetchError, match="a SOCKS proxy, and this program uses HTTP proxies only") as caught:
        bring(store, wanted("http://archives.example/one.zip", data=SMALL))
    assert "heim" not in str(caught.value) + json.dumps(caught.value.to_json())
    bring(store, wanted(server.put("/one.zip", SMALL), data=SMALL))
    assert held(store, SMALL)


def test_a_proxy_that_is_down_is_named_as_the_cause(store, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with pytest.raises(FetchError, match="proxy"):
        bring(store, wanted("http://archives.example/one.zip", data=SMALL))


LOGIN = "Basic " + base64.b64encode(b"me:secret").decode()


def test_a_login_from_netrc_goes_to_its_host_and_to_no_other(server, store, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    elsewhere = server.url.replace("127.0.0.1", "localhost")
    url = server.put("/one.zip", SMALL, always=faults.redirect(f"{elsewhere}/two.zip"))
    server.put("/two.zip", SMALL)
    bring(store, wanted(url, data=SMALL))
    assert held(store, SMALL)
    assert server.requests_for("/one.zip")[0].headers["Authorization"] == LOGIN
    assert "Authorization" not in server.requests_for("/two.zip")[0].headers


def test_a_login_in_a_mirrors_url_goes_to_that_mirror_only_and_is_shown_nowhere(server, store):
    mirror = server.url.replace("//", "//me:secret@")
    elsewhere = server.url.replace("127.0.0.1", "localhost")
    server.put("/one.zip", SMALL, faults.status(500), always=faults.redirect(f"{elsewhere}/two.zip"))
    server.put("/two.zip", SMALL)
    gone = wanted("https://127.0.0.1:1/gone.zip", data=LARGE, label="gone")
    with pytest.raises(FetchError) as caught:
        bring(store, wanted("https://127.0.0.1:1/one.zip", data=SMALL), gone, mirrors=[mirror])
    assert held(store, SMALL)
    assert {request.headers["Authorization"] for request in server.requests_for("/one.zip")} == {LOGIN}
    assert "Authorization" not in server.requests_for("/two.zip")[0].headers
    shown = f"{caught.value}{json.dumps(caught.value.to_json())}"
    assert server.url in shown
    assert "secret" not in shown


# ---- TLS


def certificate_for(name: str, directory: Path) -> tuple[Path, Path]:
    """A certificate for `name`, signed by itself, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is needed to make a certificate")
    made, key = directory / "certificate.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=test", "-addext", f"subjectAltName={name}", "-keyout", str(key), "-out", str(made)],
        check=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return made, key


@pytest.fixture
def certificate(tmp_path):
    return certificate_for("IP:127.0.0.1", tmp_path)


CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


@pytest.mark.parametrize("variable", CA_VARIABLES)
def test_a_ca_of_ones_own_is_taken_from_the_usual_variables(server, store, monkeypatch, certificate, variable):
    for name in CA_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    server.speak_tls(*certificate)
    monkeypatch.setenv(variable, str(certificate[0]))
    bring(store, wanted(server.put("/one.zip", SMALL), data=SMALL))
    assert held(store, SMALL)


@pytest.mark.parametrize("variable", [*CA_VARIABLES, "PYTHONHTTPSVERIFY", "GIT_SSL_NO_VERIFY"])
@pytest.mark.parametrize("value", ["", "0"])
def test_an_unknown_certificate_is_refused_whatever_the_environment_says(
    server, store, monkeypatch, certificate, variable, value
):
    for name in CA_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    server.speak_tls(*certificate)
    monkeypatch.setenv(variable, value)
    with pytest.raises(FetchError):
        bring(store, wanted(server.put("/one.zip", SMALL), data=SMALL))
    assert not held(store, SMALL)
    assert server.requests == []


def test_a_certificate_for_another_host_is_refused(server, store, monkeypatch, tmp_path):
    made = certificate_for("DNS:other.example", tmp_path)
    server.speak_tls(*made)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(made[0]))
    with pytest.raises(FetchError, match=r"TLS error: .*127\.0\.0\.1"):
        bring(store, wanted(server.put("/one.zip", SMALL), data=SMALL))
    assert server.requests == []


@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY", "ALL_PROXY"])
def test_https_goes_through_the_tunnel_of_a_proxy_which_alone_gets_its_login(
    server, store, monkeypatch, tmp_path, variable
):
    made = certificate_for("DNS:archives.example", tmp_path)
    server.speak_tls(*made)
    server.put("/large.bin", LARGE)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(made[0]))
    with faults.serving() as proxy:
        proxy.tunnel_to = server.server_address
        monkeypatch.setenv(variable, proxy.url.replace("//", "//me:secret@"))
        bring(store, wanted("https://archives.example/large.bin", data=LARGE))
    assert held(store, LARGE)
    assert {request.path for request in proxy.requests} == {"CONNECT archives.example:443"}
    assert {request.headers["Proxy-Authorization"] for request in proxy.requests} == {LOGIN}
    assert not any("Proxy-Authorization" in request.headers for request in server.requests)
    assert len(server.requests) == 13


def test_a_proxy_that_refuses_is_told(store, monkeypatch):
    with faults.serving() as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with pytest.raises(FetchError, match="403 Forbidden"):
            bring(store, wanted("https://archives.example/one.zip", data=SMALL))


def test_a_proxy_cannot_stand_in_for_the_host_with_a_certificate_of_its_own(server, store, monkeypatch, certificate):
    server.speak_tls(*certificate)  # one that nobody trusts
    with faults.serving() as proxy:
        proxy.tunnel_to = server.server_address
        monkeypatch.setenv("https_proxy", proxy.url)
        with pytest.raises(FetchError, match="TLS error: "):
            bring(store, wanted("https://archives.example/one.zip", data=SMALL))
    assert server.requests == []


# ---- mirrors


def test_a_place_that_was_measured_to_be_much_slower_is_asked_after_a_fast_one(server, store):
    with faults.serving() as slow:
        slow.bytes_per_s = 200_000
        contents = [random.Random(number).randbytes(200_000 - number) for number in range(5)]
        files = []
        for number, data in enumerate(contents):
            path = f"/{number}.zip"
            if number not in (0, 1):  # two that only the fast one has, so that it is measured
                slow.put(path, data)
            files.append(wanted(slow.url + path, server.put(path, data), data=data))
        one_at_a_time = dataclasses.replace(TUNING, files_at_once=1)
        report = bring(store, *files, tuning=one_at_a_time)
    came_from = [file.url for file in sorted(report.fetched, key=lambda file: file.url.rsplit("/", 1)[-1])]
    assert came_from == [
        server.url + "/0.zip", server.url + "/1.zip", slow.url + "/2.zip", slow.url + "/3.zip", server.url + "/4.zip"
    ]  # fmt: skip


def test_a_base_mirror_is_asked_by_host_and_path_then_by_name(server, store):
    server.put("/mirror/one.zip", SMALL)
    report = bring(store, wanted("https://github.example/a/b/one.zip", data=SMALL), mirrors=[server.url + "/mirror/"])
    assert [request.path for request in server.requests] == ["/mirror/github.example/a/b/one.zip", "/mirror/one.zip"]
    assert report.fetched[0].mirror == server.url + "/mirror/"


def test_a_rewriting_mirror_replaces_the_beginning_of_a_url(server, store):
    server.put("/gh/a/b/one.zip", SMALL)
    bring(
        store,
        wanted("https://github.example/a/b/one.zip", data=SMALL),
        mirrors=[f"{server.url}/gh/=https://github.example/"],
    )
    assert held(store, SMALL)


@pytest.mark.parametrize("name", ["one.zip", "{sha}", "content_addressable/sha256/{sha}/file"])
def test_a_directory_is_a_mirror_by_name_digest_or_store(store, tmp_path, name):
    file = tmp_path / "a directory, ünd" / name.format(sha=sha256(SMALL))
    file.parent.mkdir(parents=True)
    file.write_bytes(SMALL)
    mirror = (tmp_path / "a directory, ünd").as_uri()
    bring(store, wanted("https://github.example/one.zip", data=SMALL), mirrors=[mirror])
    assert held(store, SMALL)
    assert file.read_bytes() == SMALL


def test_wrong_bytes_in_a_directory_mirror_are_not_used(store, tmp_path):
    (tmp_path / "one.zip").write_bytes(b"x" * len(SMALL))
    with pytest.raises(PinMismatchError):
        bring(store, wanted("http://127.0.0.1:1/one.zip", data=SMALL), mirrors=[tmp_path.as_uri()])


@pytest.mark.parametrize(
    "text",
    [
        *("", "github.com", "ftp://x/", "/srv/mirror", "https://", "https://a b/", "x=https://y/", "file:///a b/"),
        *("http://[::1/", "http://x:y/", "http://me@/", "http://[=https://y/", "http://a b/=https://y/"),
    ],
)
def test_a_mirror_that_is_none_is_refused_before_anything_is_fetched(server, store, text):
    with pytest.raises(RequestError, match="--mirror must be a URL or NEW=OLD"):
        bring(store, wanted(server.put("/one.zip", SMALL), data=SMALL), mirrors=[text])
    assert server.requests == []


def test_a_mirror_that_is_none_is_refused_even_where_nothing_is_missing(server, store):
    with pytest.raises(RequestError, match="--mirror must be a URL or NEW=OLD"):
        bring(store, mirrors=["htps://my.mirror/"])


def test_the_order_is_the_users_mirrors_then_the_declared_urls_each_once():
    mirrors = ["https://m.example/=https://b.example/", "https://b.example/=https://a.example/"]
    places = Places([parse_mirror(text) for text in mirrors])
    found = places.candidates(["https://a.example/x.zip", "https://b.example/x.zip"], "0" * 64)
    assert [candidate.url for candidate in found] == [
        "https://m.example/x.zip",
        "https://b.example/x.zip",
        "https://a.example/x.zip",
    ]


def test_a_mirror_that_the_user_named_is_asked_before_the_declared_urls(server, store):
    declared = server.put("/a/one.zip", SMALL)
    server.put("/mirror/one.zip", SMALL)
    report = bring(store, wanted(declared, data=SMALL), mirrors=[server.url + "/mirror/"])
    assert report.fetched[0].url == server.url + "/mirror/one.zip"
    assert server.requests_for("/a/one.zip") == []


def test_a_host_that_is_down_comes_last_until_it_answers_again():
    down, fine = Candidate("https://down.example/x"), Candidate("https://fine.example/x")
    record = HostRecord()
    assert record.order([down, fine]) == [down, fine]
    for _ in range(3):
        record.failed(down.host)
    assert record.order([down, fine]) == [fine, down]
    assert record.all_gone([down], outage_s=0.0)
    assert not record.all_gone([down, fine], outage_s=0.0)
    record.delivered(down.host, 1000, 1.0)
    assert record.order([down, fine]) == [down, fine]


def test_a_much_slower_host_comes_after_a_fast_one_but_a_mirror_of_the_user_stays_first():
    slow, fast = Candidate("https://slow.example/x"), Candidate("https://fast.example/x")
    mine = Candidate("https://mine.example/x", "https://mine.example/")
    record = HostRecord()
    for _ in range(2):
        for place, seconds in ((slow, 10.0), (fast, 1.0), (mine, 100.0)):
            record.delivered(place.host, 1_000_000, seconds)
    assert record.order([mine, slow, fast]) == [mine, fast, slow]


def test_a_host_that_only_crawls_comes_after_one_that_nobody_has_tried():
    crawling, untried = Candidate("https://crawling.example/x"), Candidate("https://untried.example/x")
    record = HostRecord()
    record.delivered(crawling.host, 20_000, 1.0)  # slow, but that was a small file
    record.delivered(crawling.host, 20_000, 1.0)
    assert record.order([crawling, untried]) == [crawling, untried]
    record.delivered(crawling.host, 400_000, 20.0)
    assert record.order([crawling, untried]) == [untried, crawling]
    for _ in range(2):
        record.delivered(untried.host, 100_000, 20.0)  # no better: the declared order holds again
    assert record.order([crawling, untried]) == [crawling, untried]


# ---- what is compressed anew


def archive(members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def gnu_gzip(data: bytes) -> bytes:
    return subprocess.run(["gzip", "-n"], input=data, stdout=subprocess.PIPE, check=True).stdout


TAR = archive({"thing-1.0/file": os.urandom(5000) + b"text " * 50_000})
PINNED = gnu_gzip(TAR)
ANEW = gzip.compress(TAR, 1)


def test_an_archive_that_was_compressed_anew_is_healed(server, store):
    assert ANEW != PINNED
    url = server.put("/thing.tar.gz", ANEW)
    report = bring(store, wanted(url, data=PINNED))
    assert held(store, PINNED)
    assert report.fetched[0].healed
    assert leftovers(store) == [sha256(PINNED)]


def test_a_mirror_with_the_right_bytes_is_preferred_to_healing(server, store):
    anew, right = server.put("/thing.tar.gz", ANEW), server.put("/right/thing.tar.gz", PINNED)
    report = bring(store, wanted(anew, right, data=PINNED))
    assert not report.fetched[0].healed
    assert leftovers(store) == []


def test_an_archive_of_other_content_is_not_healed_but_refused(server, store):
    other = gzip.compress(archive({"thing-1.0/file": b"evil"}))
    url = server.put("/thing.tar.gz", other)
    with pytest.raises(PinMismatchError, match="a gzip archive"):
        bring(store, wanted(url, data=PINNED, size=None))
    assert not store.path(sha256(PINNED)).exists()


# ---- no network, no disk


def test_offline_names_every_missing_file_with_its_urls_and_the_cure(server, store):
    one, two = server.put("/one.zip", SMALL), server.put("/two.zip", LARGE)
    with pytest.raises(FetchError) as caught:
        bring(store, wanted(one, data=SMALL), wanted(two, data=LARGE), offline=True)
    for text in (one, two, "one.zip", "two.zip", sha256(SMALL)):
        assert text in caught.value.what
    assert "--import DIR" in caught.value.cure
    assert server.requests == []


def test_offline_takes_from_a_directory_and_opens_no_connection(server, store, tmp_path):
    declared = server.put("/one.zip", SMALL)
    (tmp_path / "one.zip").write_bytes(SMALL)
    mirrors = [server.url + "/mirror/", tmp_path.as_uri()]
    report = bring(store, wanted(declared, data=SMALL), mirrors=mirrors, offline=True)
    assert held(store, SMALL)
    assert report.fetched[0].mirror == tmp_path.as_uri()
    assert server.requests == []


def test_offline_names_what_a_directory_does_not_have(server, store, tmp_path):
    (tmp_path / "one.zip").write_bytes(SMALL)
    one, two = server.put("/one.zip", SMALL), server.put("/two.zip", LARGE)
    with pytest.raises(FetchError, match="1 file is missing, and --offline forbids fetching") as caught:
        bring(store, wanted(one, data=SMALL), wanted(two, data=LARGE), mirrors=[tmp_path.as_uri()], offline=True)
    assert two in caught.value.what
    assert held(store, SMALL)
    assert server.requests == []


def test_offline_wrong_bytes_in_a_directory_are_told_as_such(server, store, tmp_path):
    (tmp_path / "one.zip").write_bytes(b"x" * len(SMALL))
    with pytest.raises(PinMismatchError, match="wrong bytes"):
        bring(store, wanted(server.put("/one.zip", SMALL), data=SMALL), mirrors=[tmp_path.as_uri()], offline=True)
    assert server.requests == []


def test_offline_with_everything_there_is_no_error(server, store):
    url = server.put("/one.zip", SMALL)
    bring(store, wanted(url, data=SMALL))
    assert bring(store, wanted(url, data=SMALL), offline=True).fetched == ()


def test_one_file_that_fails_does_not_keep_the_others_from_coming(server, store):
    good, bad = server.put("/one.zip", SMALL), server.url + "/gone.zip"
    with pytest.raises(FetchError, match=r"Could not fetch 1 file\. 1 others were fetched"):
        bring(store, wanted(good, data=SMALL), wanted(bad, data=LARGE))
    assert held(store, SMALL)


def test_a_host_that_is_down_is_named_and_not_waited_for_long(store):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/one.zip"
        with pytest.raises(FetchError, match="no connection"):
            bring(store, wanted(url, data=SMALL))


def test_files_that_do_not_fit_on_the_disk_are_not_begun(server, store):
    url = server.put("/one.zip", SMALL)
    with pytest.raises(DiskFullError, match=r"need 1000000000\.0 GB"):
        bring(store, wanted(url, data=SMALL, size=10**18))
    assert server.requests == []


def test_the_holes_of_a_file_that_came_in_ranges_are_no_room_that_is_taken(server, store, monkeypatch):
    url = server.put("/large.zip", LARGE)
    store.partial.mkdir(parents=True)
    with (store.partial / sha256(LARGE)).open("wb") as file:
        file.truncate(len(LARGE))
    monkeypatch.setattr("npu_serving.fsutil.free_bytes", lambda _: 1000)
    with pytest.raises(DiskFullError, match=r"only 1\.0 kB"):
        bring(store, wanted(url, data=LARGE))


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["one stream", "ranges"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_write_that_fails_in_the_middle_is_told_and_what_came_before_is_used_later(
    server, store, monkeypatch, data, number
):
    url = server.put("/one.zip", data)
    really_write = os.pwrite
    written: list[int] = []

    def write(descriptor, view, offset):
        if sum(written) >= len(data) // 2:
            raise OSError(number, os.strerror(number))
        written.append(really_write(descriptor, view[:50_000], offset))
        return written[-1]

    monkeypatch.setattr("os.pwrite", write)
    with pytest.raises(FileAccessError if number == errno.EIO else DiskFullError, match=sha256(data)) as caught:
        bring(store, wanted(url, data=data))
    assert caught.value.details["fetched"] == []
    assert not store.path(sha256(data)).exists()
    monkeypatch.undo()
    report = bring(store, wanted(url, data=data))
    assert held(store, data)
    assert 0 < report.fetched_bytes < len(data)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_that_cannot_be_written_says_so(server, store):
    store.root.mkdir()
    store.root.chmod(0o555)
    with pytest.raises(FileAccessError):
        bring(store, wanted(server.put("/one.zip", SMALL), data=SMALL))


def test_an_interrupt_stops_the_run_and_the_next_goes_on(server, store):
    class Interrupting(SilentProgress):
        def update(self, done, *, total=None, detail="", under_way=()):
            if done >= 100_000:
                raise KeyboardInterrupt

    class Reporter(Silent):
        @contextlib.contextmanager
        def progress(self, title, *, total=None, unit=""):
            yield Interrupting()

    url = server.put("/one.zip", SMALL, faults.stalls(100_000))
    with pytest.raises(KeyboardInterrupt):
        bring(store, wanted(url, data=SMALL), reporter=Reporter(), tuning=Tuning(silence_timeout_s=1.0))
    report = bring(store, wanted(url, data=SMALL))
    assert held(store, SMALL)
    assert report.fetched_bytes == len(SMALL) - 100_000


def test_each_file_in_flight_is_told_with_its_amount_its_rate_and_its_host(server, store):
    told: list[tuple[str, list[str]]] = []

    class Telling(SilentProgress):
        def update(self, done, *, total=None, detail="", under_way=()):
            told.append((detail, list(under_way)))

    class Reporter(Silent):
        @contextlib.contextmanager
        def progress(self, title, *, total=None, unit=""):
            yield Telling()

    server.bytes_per_s = 600_000
    one, two = server.put("/one.zip", SMALL), server.put("/two.zip", SMALL + b"x")
    bring(store, wanted(one, data=SMALL), wanted(two, data=SMALL + b"x", size=None), reporter=Reporter())
    host = re.escape(server.url.removeprefix("http://"))
    lines = [line for detail, under_way in told for line in under_way if detail == "0 of 2 files"]
    assert any(
        re.fullmatch(rf"one\.zip  [\d.]+ kB of 300\.0 kB \(\d+%\)  [\d.]+ [kM]B/s  {host}", line) for line in lines
    )
    assert any(re.fullmatch(rf"two\.zip  [\d.]+ kB  [\d.]+ [kM]B/s  {host}", line) for line in lines)
    assert told[-1] == ("2 of 2 files", [])


def test_two_runs_on_one_store_fetch_each_file_once(server, tmp_path):
    files = [server.put(f"/{number}.zip", SMALL + bytes([number])) for number in range(6)]
    server.latency_s = 0.05
    failures: list[BaseException] = []

    def run():
        try:
            bring(
                ContentStore(tmp_path / "store"),
                *[wanted(url, data=SMALL + bytes([number])) for number, url in enumerate(files)],
            )
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(server.requests) == 6


def test_the_report_tells_each_file_for_json(server, store):
    url = server.put("/one.zip", SMALL, faults.status(500))
    document = bring(store, wanted(url, data=SMALL)).to_json()
    json.dumps(document)
    entry = document["fetched"][0]
    assert entry["mirror"] == server.url.removeprefix("http://")
    assert 0 < entry["seconds"] <= document["seconds"]
    assert (entry["file_name"], entry["fetched_bytes"], entry["retries"]) == ("one.zip", len(SMALL), 1)
    assert document["fetched_bytes"] == len(SMALL)


def test_a_fetch_that_failed_tells_each_file_for_json_too(server, store):
    came = server.put("/one.zip", SMALL, faults.status(500))
    gone, wrong = server.url + "/gone.zip", server.put("/wrong.zip", b"x" * 1000)
    with pytest.raises(PinMismatchError) as caught:
        bring(store, wanted(came, data=SMALL, label="came"), wanted(gone, wrong, data=bytes(1000), label="failed"))
    document: Any = caught.value.to_json()
    assert document["exit_code"] == 5
    (entry,) = document["fetched"]
    assert {name: entry[name] for name in ("label", "size_bytes", "fetched_bytes", "retries", "mirror")} == {
        "label": "came",
        "size_bytes": len(SMALL),
        "fetched_bytes": len(SMALL),
        "retries": 1,
        "mirror": server.url.removeprefix("http://"),
    }
    (failed,) = document["failed"]
    assert [(item["url"], item["answer"].split(";")[0]) for item in failed["answers"]] == [
        (gone, "404 Not Found"),
        (wrong, "wrong bytes: 1000 bytes"),
    ]
    assert (failed["wrong_bytes"], failed["fetched_bytes"], failed["retries"]) == (True, 1000, 2)
    assert entry["seconds"] > 0
    assert failed["seconds"] > 0
    json.dumps(document)


def test_the_plan_tells_what_would_be_fetched(server, store):
    plan = plan_fetch([wanted(server.put("/one.zip", SMALL), data=SMALL)], store)
    assert plan.missing_bytes == len(SMALL)
    assert "/one.zip" in plan.text()
    document: Any = plan.to_json()
    assert document["missing"][0]["size_bytes"] == len(SMALL)
    assert server.requests == []


def test_the_plan_shows_every_url_in_the_order_in_which_it_would_be_asked_without_a_password(store):
    file = WantedFile("a", "a.zip", ("https://one.example/x/a.zip", "https://two.example/a.zip"), "ab" * 32)
    rewriting = "https://other.example/=https://two.example/"
    places = places_of(["https://me:geheim@mirror.example/dir", rewriting])
    plan = plan_fetch([file], store, places=places)
    urls = [
        "https://mirror.example/dir/one.example/x/a.zip",
        "https://mirror.example/dir/two.example/a.zip",
        "https://mirror.example/dir/a.zip",
        "https://other.example/a.zip",
        *file.urls,
    ]
    document: Any = plan.to_json()
    assert document["missing"][0]["urls"] == urls
    assert [line.split()[-1] for line in plan.text().splitlines()[1:]] == urls
    assert "geheim" not in json.dumps(document)


def test_the_plan_names_what_is_left_alone_for_want_of_a_digest(store):
    plan = plan_fetch([Archive("unpinned", "http_archive", ("https://host.example/1.zip",), None)], store)
    assert "unpinned is skipped" in plan.text()


# ---- damage in the store


def test_a_plan_changes_nothing_and_the_fetch_replaces_what_was_damaged(server, store):
    wanted = WantedFile("small", "small.bin", (server.put("/small.bin", SMALL),), hashlib.sha256(SMALL).hexdigest())
    fetch_file(wanted, store)
    store.path(wanted.sha256).write_bytes(b"damaged")
    plan = plan_fetch([wanted], store)
    assert plan.damaged == ("small",)
    assert "small is in the store, but damaged" in plan.text()
    assert plan.to_json()["damaged"] == ["small"]
    assert store.path(wanted.sha256).read_bytes() == b"damaged"
    with pytest.raises(FetchError):
        fetch(plan, store, offline=True)
    assert store.path(wanted.sha256).read_bytes() == b"damaged"
    fetch(plan, store, tuning=TUNING)
    assert store.path(wanted.sha256).read_bytes() == SMALL


def test_a_file_that_another_run_mended_since_the_plan_is_not_fetched_again(server, store, tmp_path):
    wanted = WantedFile("small", "small.bin", (server.put("/small.bin", SMALL),), hashlib.sha256(SMALL).hexdigest())
    fetch_file(wanted, store)
    store.path(wanted.sha256).write_bytes(b"damaged")
    plan = plan_fetch([wanted], store)
    (tmp_path / "good").write_bytes(SMALL)
    ContentStore(store.root).adopt(tmp_path / "good", wanted.sha256)
    inode = store.path(wanted.sha256).stat().st_ino
    fetch(plan, store, tuning=TUNING)
    assert store.path(wanted.sha256).stat().st_ino == inode
