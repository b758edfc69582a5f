"""Identifies the client behind a request, for sharing the load fairly.

A client is a remote address plus, if logged in, a user name. Sessions do not count: anyone can create any number.
"""

from __future__ import annotations

from contextvars import ContextVar
from ipaddress import IPv6Address, ip_address
from typing import Any

from starlette.requests import HTTPConnection

NOBODY = "nobody"  # a request without an address, such as through a Unix socket
# The client of the current request, for code called by gradio without the request.
CURRENT: ContextVar[str] = ContextVar("client", default=NOBODY)


def identify(scope: Any, gradio_app: Any) -> str:
    """The client of a request: `address`, or `user@address` if logged in (according to `gradio_app`)."""
    given = scope.get("client")
    address = network(given[0]) if given else NOBODY
    cookies = HTTPConnection(scope).cookies
    for kind in ("access-token", "access-token-unsecure"):
        user = gradio_app.tokens.get(cookies.get(f"{kind}-{gradio_app.cookie_id}"))
        if user is not None:
            return f"{user}@{address}"
    return address


def network(address: str) -> str:
    """The address; for IPv6 its first 64 bits, since one client usually has that whole network."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(IPv6Address(int(parsed) >> 64 << 64))
    return str(parsed)
