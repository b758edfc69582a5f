"""The pause after wrong passwords, per client and longer after each mistake. Knows clocks and addresses."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

FREE = 3  # attempts without a pause
LONGEST = 60.0  # seconds; short enough that users who share an address with an attacker can still log in
FORGOTTEN = 3600.0  # seconds after which mistakes no longer count
REMEMBERED = 4096  # clients; those with the oldest mistakes are forgotten first


@dataclass
class _Mistakes:
    count: int
    until: float
    last: float


class LoginPause:
    """Counts mistakes per client. An attempt counts as soon as it begins, so that parallel attempts count too."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._clients: OrderedDict[str, _Mistakes] = OrderedDict()

    def wait(self, client: str) -> int:
        """Seconds until the client may try again. If 0, this attempt counts as a mistake unless `forgive` follows."""
        now, name = self._clock(), network(client)
        known = self._clients.get(name)
        if known is not None and now - known.last > FORGOTTEN:
            known = None
        if known is not None and known.until > now:
            return math.ceil(known.until - now)
        count = (known.count if known else 0) + 1
        pause = min(LONGEST, 2.0 ** (count - FREE)) if count >= FREE else 0.0
        self._clients[name] = _Mistakes(count, now + pause, now)
        self._clients.move_to_end(name)
        while len(self._clients) > REMEMBERED:
            self._clients.popitem(last=False)
        return 0

    def forgive(self, client: str) -> None:
        """Forget a client's mistakes, after a correct password."""
        self._clients.pop(network(client), None)


def network(client: str) -> str:
    """The unit that counts as one client: an IPv4 address, or an IPv6 /64 network, which is what a household gets."""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return client[:64]
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
