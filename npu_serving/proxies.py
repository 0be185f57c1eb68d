"""The proxy that the environment names for a URL: whether it can be used, and why not. This machine needs none."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Mapping

from npu_serving.client.proxy_rules import is_this_machine
from npu_serving.shown_text import shown_url

CURE = "set https_proxy and http_proxy to an HTTP proxy (http://HOST:PORT), or add {host} to no_proxy"
NO_PROXY: Mapping[str, str] = {"http": "", "https": "", "all": ""}
"""For requests' `proxies=`: it sets only those that are not there (Session.merge_environment_settings)."""


def proxy_problem(url: str) -> str:
    """Why the proxy that is set for this URL can't be used; "" where it can, and where none is set or needed.

    The variables and their order are those of requests and curl: SCHEME_proxy before all_proxy, unless no_proxy has
    the host. What is malformed has no problem of that kind: whoever is asked for it says what is wrong.
    """
    name = proxy_variable(url)
    if not name:
        return ""
    value = os.environ[name]
    if value.lower().startswith("socks"):
        return f"{name} is {shown_url(value)!r}, a SOCKS proxy, and this program uses HTTP proxies only"
    try:
        parts = urllib.parse.urlsplit(value if "://" in value else f"http://{value}")
        fit = bool(parts.hostname) and parts.port != 0 and "@" not in parts.path + parts.query + parts.fragment
    except ValueError:
        fit = False
    if not fit:
        return (
            f"{name} is {shown_url(value)!r}, which is not the URL of a proxy "
            "(in a password, / ? # @ and : are written as %XX)"
        )
    if parts.scheme not in ("http", "https"):
        return f"{name} is {shown_url(value)!r}, which is not an HTTP proxy"
    if not _host_for_requests(value):
        return f"{name} is {shown_url(value)!r}, which lacks http:// in front of it, or a valid host"
    return ""


def proxy_variable(url: str) -> str:
    """The environment variable with the proxy that is asked for this URL; "" where none is."""
    from requests.utils import should_bypass_proxies

    try:
        parts = urllib.parse.urlsplit(url)
        is_direct = is_this_machine(parts.hostname or "") or should_bypass_proxies(url, None)
    except ValueError:
        return ""
    return "" if is_direct else _variable_for(parts.scheme)


def _host_for_requests(value: str) -> str:
    """The proxy's host as requests reads it, for which HOST:PORT alone is a scheme with its path, unlike for curl."""
    from requests.utils import prepend_scheme_if_needed
    from urllib3.util import parse_url

    try:
        host = parse_url(prepend_scheme_if_needed(value, "http")).host or ""  # type: ignore[no-untyped-call]
    except ValueError:  # as urllib3's own errors of that kind are
        return ""
    return "" if " " in urllib.parse.unquote(host) else host  # which the urllib3 for Python 3.9 lets pass


def _variable_for(scheme: str) -> str:
    """The variable that counts; an empty one in lower case switches off the one in upper case."""
    for kind in (scheme, "all"):
        for name in (f"{kind}_proxy", f"{kind}_proxy".upper()):
            if os.environ.get(name):
                return name
            if name in os.environ:
                break
    return ""
