"""One request at a time: redirects that are followed or refused, and every refusal put into a sentence."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from npu_serving import proxies
from npu_serving.client.proxy_rules import is_this_machine
from npu_serving.fetch.tuning import Tuning
from npu_serving.shown_text import without_login

if TYPE_CHECKING:
    import requests

MAX_REDIRECTS = 10
READ_BYTES = 1 << 18
LONGEST_RETRY_AFTER_S = 120.0
_REDIRECTS = (301, 302, 303, 307, 308)
_NUMBER = re.compile(r"[0-9]{1,18}")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")


class Refusal(Exception):
    """Why one URL did not give its file. `passing`: it may work later; `host_down`: nothing of that host will."""

    def __init__(
        self,
        reason: str,
        *,
        passing: bool = False,
        host_down: bool = False,
        retry_after_s: float = 0.0,
        status: int = 0,
    ) -> None:
        super().__init__(reason)
        self.reason = without_login(reason)
        self.passing = passing
        self.host_down = host_down
        self.retry_after_s = retry_after_s
        self.status = status


@dataclass(frozen=True)
class Answer:
    """A response whose body is about to come. `offset` is where in the file it begins; sizes are None if unknown."""

    response: requests.Response
    url: str
    offset: int
    body_bytes: int | None
    total_bytes: int | None
    takes_ranges: bool
    etag: str
    content_type: str
    encoded: bool
    """Whether the server says that it compressed the body on top (Content-Encoding)."""

    def chunks(self, tuning: Tuning) -> Iterator[bytes]:
        """The body as it comes, undecoded. Raises Refusal when the connection breaks, stalls, or only drips."""
        import requests
        import urllib3

        window_began, window_bytes = time.monotonic(), 0
        while True:
            try:
                chunk = self.response.raw.read1(READ_BYTES, decode_content=False)
            except (urllib3.exceptions.HTTPError, requests.RequestException, OSError, ValueError) as error:
                raise Refusal(f"the connection broke: {_short(error)}", passing=True) from error
            if not chunk:
                return
            yield chunk
            window_bytes += len(chunk)
            now = time.monotonic()
            if now - window_began >= tuning.silence_timeout_s:
                if window_bytes < tuning.slowest_bytes_per_s * (now - window_began):
                    raise Refusal(f"only {window_bytes} bytes arrived in {now - window_began:.0f} s", passing=True)
                window_began, window_bytes = now, 0

    def close(self) -> None:
        """Gives the connection back, or drops it when the body wasn't read to its end."""
        self.response.close()


def new_session(connections: int) -> requests.Session:
    """A session with the usual environment: proxies, netrc, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, SSL_CERT_FILE."""
    import requests
    from requests.adapters import HTTPAdapter

    session = requests.Session()
    adapter = HTTPAdapter(pool_connections=connections, pool_maxsize=connections, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    # Archives must come as they are stored: a body compressed on top would have another sha256.
    session.headers.update({"Accept-Encoding": "identity", "User-Agent": "npu-serving"})
    authorities = os.environ.get("SSL_CERT_FILE")  # OpenSSL's own variable, which requests doesn't read
    if authorities and not any(os.environ.get(name) for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")):
        session.verify = authorities
    return session


def ask(
    session: requests.Session, url: str, tuning: Tuning, *, span: tuple[int, int | None] | None = None, etag: str = ""
) -> Answer:
    """Requests `url`, or the bytes first..last of it; follows redirects as far as that is safe. Raises Refusal.

    With `etag` the range is asked for on condition that the file is still the same (RFC 9110, If-Range).
    """
    headers = {}
    if span is not None and span != (0, None):
        headers["Range"] = f"bytes={span[0]}-{'' if span[1] is None else span[1]}"
        if etag:
            headers["If-Range"] = etag
    place = url
    for _ in range(MAX_REDIRECTS + 1):
        response = _get(session, place, headers, tuning)
        if response.status_code not in _REDIRECTS:
            return _answer(response, place, span[0] if span else 0)
        target = session.get_redirect_target(response) or ""  # headers come as Latin-1, URLs in them are UTF-8
        response.close()
        place = _checked_redirect(place, target)
    raise Refusal(f"more than {MAX_REDIRECTS} redirects")


def _get(session: requests.Session, url: str, headers: dict[str, str], tuning: Tuning) -> requests.Response:
    import requests

    problem = proxies.proxy_problem(url)
    host = urlsplit(url).hostname or ""
    if problem:
        raise Refusal(f"{problem}: {proxies.CURE.format(host=host)}", host_down=True)
    try:
        return session.get(
            url,
            headers=headers,
            proxies=dict(proxies.NO_PROXY) if is_this_machine(host) else None,
            stream=True,
            allow_redirects=False,
            timeout=(tuning.connect_timeout_s, tuning.silence_timeout_s),
        )
    except requests.exceptions.SSLError as error:
        raise Refusal(
            f"TLS error: {_short(error)} (name your own CA file in REQUESTS_CA_BUNDLE)", host_down=True
        ) from error
    except requests.exceptions.ReadTimeout as error:
        raise Refusal(f"no answer within {tuning.silence_timeout_s:g} s", passing=True) from error
    except requests.exceptions.ConnectionError as error:
        raise Refusal(f"no connection: {_short(error)}", passing=True, host_down=True) from error
    except (requests.exceptions.RequestException, OSError, ValueError) as error:
        raise Refusal(_short(error)) from error


def _answer(response: requests.Response, url: str, wanted_offset: int) -> Answer:
    status = response.status_code
    headers = response.headers
    if status not in (200, 206):
        response.close()
        raise Refusal(
            f"{status} {response.reason or ''}".strip(),
            passing=status in (408, 425, 429, 416) or status >= 500,
            retry_after_s=_retry_after(headers.get("Retry-After", "")),
            status=status,
        )
    body_bytes = _number(headers.get("Content-Length", ""))
    offset, total = 0, body_bytes
    if status == 206:
        span = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
        if span is None or int(span[1]) != wanted_offset:
            response.close()
            raise Refusal("it sent a different range from the one requested", passing=True)
        offset = wanted_offset
        total = _number(span[3])
        body_bytes = int(span[2]) - offset + 1
    encoding = headers.get("Content-Encoding", "").lower()
    etag = headers.get("ETag", "")
    return Answer(
        response=response,
        url=url,
        offset=offset,
        body_bytes=body_bytes,
        total_bytes=total,
        takes_ranges=status == 206,
        etag="" if etag.startswith("W/") else etag,
        content_type=headers.get("Content-Type", "").partition(";")[0].strip().lower(),
        encoded=encoding not in ("", "identity"),
    )


def _checked_redirect(source: str, location: str) -> str:
    """Where a redirect leads; Refusal when it leads off the web, or from a public host to a private address.

    The second rule keeps a mirror from using this machine to reach services that only it can reach.
    """
    try:
        target = urljoin(source, location)
        parts = urlsplit(target)
        host = parts.hostname if parts.port != 0 else ""
    except ValueError:  # a bracket left open, letters for a port
        target, parts, host = "", urlsplit(""), ""
    if not location or parts.scheme not in ("http", "https") or not host:
        raise Refusal(f"a redirect to {location[:200]!r}, which is not followed")
    if is_private(host) and not is_private(urlsplit(source).hostname or ""):
        raise Refusal(f"a redirect from a public host to the private address {target[:200]!r}, which is not followed")
    return target


def is_private(host: str) -> bool:
    """Whether the host is this machine or on a local network. A name that can't be resolved here counts as public:
    only a proxy could reach it, and that is the proxy's network.
    """
    try:
        found = {item[4][0] for item in socket.getaddrinfo(host, None)}
    except (OSError, ValueError):
        return False
    return any(not ipaddress.ip_address(str(address).partition("%")[0]).is_global for address in found)


def _retry_after(value: str) -> float:
    """The seconds that a Retry-After header asks for: a number, or a date."""
    seconds = _number(value)
    if seconds is not None:
        return min(float(seconds), LONGEST_RETRY_AFTER_S)
    from email.utils import parsedate_to_datetime  # here, as few servers send a date

    try:
        wanted = parsedate_to_datetime(value).timestamp() - time.time()
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return min(max(wanted, 0.0), LONGEST_RETRY_AFTER_S)


def _number(value: str) -> int | None:
    """The number that a header states; None for anything else. (str.isdigit() holds for more than int() reads.)"""
    return int(value) if _NUMBER.fullmatch(value) else None


def _short(error: BaseException) -> str:
    """The innermost reason of an error, in one line."""
    reason: BaseException = error
    for _ in range(5):
        inner = (getattr(reason, "reason", None), *reason.args)
        causes = [item for item in inner if isinstance(item, BaseException)]
        if not causes:
            break
        reason = causes[0]
    text = " ".join(str(reason).split())
    return re.sub(r"^<[^>]*>: |^HTTPS?Connection(Pool)?\([^)]*\): ", "", text)[:200] or type(reason).__name__
