"""Which proxy the environment names for a host, by curl's rules; this machine and sockets never need one.

No value of such a variable is shown as it is: it may hold a password.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
from collections.abc import Sequence
from typing import Union

from npu_serving.shown_text import shown_url

_Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]


def is_this_machine(host: str) -> bool:
    """Whether the host of a URL is a loopback address or a name of it (RFC 6761); names are not looked up."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address(name)
    mapped = getattr(address, "ipv4_mapped", None)
    return any(item.is_loopback or item.is_unspecified for item in (address, mapped) if item is not None)


def is_excepted(host: str, port: int | None, variables: Sequence[str] = ("no_proxy", "NO_PROXY")) -> bool:
    """Whether the first of these variables that is set excepts the host from every proxy.

    It lists names (with all below them), addresses, networks such as 10.0.0.0/8, any of them with a port, or `*`.
    """
    value = next((os.environ[name] for name in variables if os.environ.get(name)), "")
    name = host.lower().strip("[]").rstrip(".")
    return any(
        _fits(entry.strip().lower(), name, port) for entry in value.replace(" ", ",").split(",") if entry.strip()
    )


def proxy_variable(scheme: str, host: str, port: int | None) -> str:
    """The variable with the proxy that is asked for a URL of `scheme`; "" where none is.

    SCHEME_proxy goes before all_proxy, lower case before upper case; an empty one switches off the other.
    """
    if is_this_machine(host) or is_excepted(host, port):
        return ""
    for kind in (scheme, "all"):
        for name in (f"{kind}_proxy", f"{kind}_proxy".upper()):
            if os.environ.get(name):
                return name
            if name in os.environ:
                break
    return ""


def shown_variable(name: str) -> str:
    """The variable and its value, without the password that may be in it."""
    return f"{name} ({shown_url(os.environ.get(name, ''))!r})"


def _address(host: str) -> _Address | None:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.partition("%")[0])
    return None


def _fits(entry: str, host: str, port: int | None) -> bool:
    if entry == "*":
        return True
    address = _address(host)
    if address is not None:
        with contextlib.suppress(ValueError):
            return address in ipaddress.ip_network(entry.strip("[]"), strict=False)
    name, colon, number = entry.rpartition(":")
    if colon and number.isdigit() and (":" not in name or entry.startswith("[")):
        return number == str(port) and _fits(name, host, None)
    name = entry.lstrip("*").lstrip(".").rstrip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))
