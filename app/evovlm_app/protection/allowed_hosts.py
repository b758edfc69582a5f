"""Which host names this server answers to, and whose pages may send requests: Host, Origin and Sec-Fetch-Site.

Guards against DNS rebinding: an attacker's page whose name is made to point at this machine sends that name as Host.
Knows headers and addresses; no routes and no pages.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

import psutil

from evovlm.system.errors import UserError
from evovlm.system.plain_text import abridged

EVERYWHERE = ("", "0.0.0.0", "::")
# RFC 1123, and underscores, which containers' names have.
LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
BRACKETED = re.compile(r"\[[^\[\]]+\]")
MOST_NAME = 253
PORTS = {"http": 80, "https": 443}


def check_host(name: str) -> None:
    """Raise UserError if a name given by the operator can be no host name or address: no request would ever match."""
    plain = _plain(name)
    # Brackets stand around an address alone, and `_plain` takes away all of them.
    bracketed = bool(set("[]") & set(name))
    if not (_is_address(plain) and (not bracketed or BRACKETED.fullmatch(name.strip()))):
        written = plain.encode("ascii", "replace").decode()
        known = len(written) <= MOST_NAME and all(LABEL.fullmatch(part) for part in written.split("."))
        if bracketed or not known:
            raise UserError(
                f"--allow-host: {abridged(name)!r} is no host name; give a name such as demo.example.org or an"
                " address, without http://, port and path (xn--... for a name in other letters)"
            )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


class Hosts:
    """The names of this server: loopback, the address it is bound to, and the names given by the operator.

    If it is bound to all addresses, also the addresses and host name of its machine.
    """

    def __init__(self, bound: str = "127.0.0.1", named: Iterable[str] = ()) -> None:
        names = [*named] if bound in EVERYWHERE else [bound, *named]
        if bound in EVERYWHERE:
            names += [socket.gethostname(), *_addresses()]
        self._names = frozenset(_plain(name) for name in names) | {"localhost"}

    def refused(self, headers: Mapping[str, str], *, changes: bool) -> str | None:
        """The key in `words` if a request must be refused because of its host or origin; None if it may pass.

        `changes`: whether the request may change something, as a POST does. Then Sec-Fetch-Site is checked too, even
        without an Origin header.
        """
        host = headers.get("host", "")
        forwarded = headers.get("x-forwarded-host", "").split(",")[0].strip()
        if not self.knows(host) or (forwarded and not self.knows(forwarded)):
            return "strange_host"
        origin = headers.get("origin")
        own = [_place(f"//{name}") for name in (host, forwarded) if name]
        if origin is not None and _place(origin) not in own:
            return "strange_origin"
        if changes and headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return "strange_origin"
        return None

    def knows(self, host: str) -> bool:
        """Whether a Host header names this server, with any port."""
        name = _place(f"//{host}")[0]
        if name in self._names:
            return bool(name)
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False


def _place(address: str) -> tuple[str, int | None]:
    """Host name and port of an address; the port is None if it is the default one."""
    try:
        parts = urlsplit(address.strip())
        name, port = parts.hostname or "", parts.port
    except ValueError:
        return "", None
    if parts.username is not None or parts.path not in ("", "/") or parts.query or parts.fragment:
        return "", None
    usual = (PORTS[parts.scheme],) if parts.scheme in PORTS else tuple(PORTS.values())
    return _plain(name), None if port in usual else port


def _plain(name: str) -> str:
    name = name.strip().lower().rstrip(".").strip("[]")
    try:
        return ipaddress.ip_address(name).compressed
    except ValueError:
        return name


def _addresses() -> list[str]:
    known = [address.address for addresses in psutil.net_if_addrs().values() for address in addresses]
    return [address.partition("%")[0] for address in known if ":" in address or address.count(".") == 3]
