"""A replay does not use the network: what would leave this machine is refused, with one clear line.

Sockets of this machine (unix, loopback) work: loaders and torch.distributed need them. What was downloaded is read
from where it is; the libraries that would look for a newer one are told not to.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Callable
from typing import Any

#: For libraries that can do without, and for programs that the script starts (port 9 of this machine discards).
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "ALL_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "localhost,127.0.0.1,::1",
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "all_proxy": "http://127.0.0.1:9",
    "no_proxy": "localhost,127.0.0.1,::1",
    "GIT_TERMINAL_PROMPT": "0",
}
REFUSED = "a replay does not use the network, and {where} is there: `flor replay --network` lets it"

_LOOKUPS = ("socket.getaddrinfo", "socket.gethostbyname")
_SENDS = ("socket.connect", "socket.sendto", "socket.sendmsg")


class OfflineError(ConnectionRefusedError):
    """The program wanted to use the network."""


def refusal(event: str, args: tuple[Any, ...]) -> str | None:
    """Where an audited event wants to go, if that is not this machine."""
    if event in _LOOKUPS:
        return None if _is_here(args[0]) or _address(args[0]) is not None else _shown(args[0])
    if event in _SENDS:
        address = args[1]
        if not isinstance(address, tuple) or not address or _is_here(address[0]):
            return None
        return f"{_shown(address[0])}:{address[1]}" if len(address) > 1 else _shown(address[0])
    return None


def refuse(where: str, noted: Callable[[str], None]) -> None:
    """Note it, and raise.

    Raises:
        OfflineError: always.
    """
    noted(where)
    raise OfflineError(errno.ECONNREFUSED, REFUSED.format(where=where))


def _shown(host: Any) -> str:
    return os.fsdecode(host) if isinstance(host, (str, bytes)) else repr(host)


def _is_here(host: Any) -> bool:
    if host is None or host in ("", b""):
        return True
    name = _shown(host).lower()
    if name in ("localhost", "localhost.localdomain", "ip6-localhost", socket.gethostname().lower()):
        return True
    address = _address(host)
    return address is not None and (address.is_loopback or address.is_unspecified)


def _address(host: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(_shown(host).partition("%")[0])
    except ValueError:
        return None
