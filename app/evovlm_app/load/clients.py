"""Who asks: the client behind a request, as far as load is shared out.

A client is a remote address, and the name that it logged in with. Sessions are free to make and identify nobody.
"""

from __future__ import annotations

from contextvars import ContextVar
from ipaddress import IPv6Address, ip_address
from typing import Any

from starlette.requests import HTTPConnection

NOBODY = "nobody"  # a request without an address, through a socket file
# Whose request is being handled, for code of gradio's that is not given the request.
CURRENT: ContextVar[str] = ContextVar("client", default=NOBODY)


def identify(scope: Any, gradio_app: Any) -> str:
    """The client of a request. `gradio_app` knows who is logged in."""
    given = scope.get("client")
    address = network(given[0]) if given else NOBODY
    cookies = HTTPConnection(scope).cookies
    for kind in ("access-token", "access-token-unsecure"):
        user = gradio_app.tokens.get(cookies.get(f"{kind}-{gradio_app.cookie_id}"))
        if user is not None:
            return f"{user}@{address}"
    return address


def network(address: str) -> str:
    """The address, of IPv6 the first 64 bits: whoever has one such address has all that share them."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(IPv6Address(int(parsed) >> 64 << 64))
    return str(parsed)
