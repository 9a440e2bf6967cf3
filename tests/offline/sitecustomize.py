"""No test reaches a network: connects and names to look up are refused outside this machine.

Python loads a module of this name at its start, so whatever process a test starts is under it too;
tests/conftest.py puts this folder on PYTHONPATH. It hangs on the interpreter's own audit events,
which no library gets around from Python. What C++ libraries open for themselves (gloo, Ray's core)
it does not see; they talk to this machine alone.
"""

import errno
import ipaddress
import socket
import sys
from functools import cache
from typing import Any

_NAME = "pilotfish_refused"  # on `sys`, for this file may be loaded under two names
_ADDRESSED = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_SPELT = frozenset({"socket.getaddrinfo", "socket.gethostbyname"})
_WATCHED = _ADDRESSED | _SPELT | {"socket.gethostbyaddr"}
_HERE = {None, "", "localhost", socket.gethostname()}


class Refused(OSError):
    """A test, or something it uses, wanted to leave this machine."""


def local(host: Any) -> bool:
    """Whether a host is this machine, told without asking anybody."""
    text = host.decode("ascii", "replace") if isinstance(host, bytes | bytearray) else host
    if text in _HERE:
        return True
    found = _address(text)
    return found is not None and (found.is_loopback or found.is_unspecified or _mine(str(found)))


def _address(text: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(str(text).partition("%")[0])
    except ValueError:
        return None


@cache
def _mine(address: str) -> bool:
    """Whether it is one of this machine's own addresses: only those can be bound."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as own:
        try:
            own.bind((address, 0))
        except OSError:
            return False
    return True


def _look(event: str, told: tuple[Any, ...]) -> None:
    if event not in _WATCHED:
        return
    host = told[0]
    if event in _ADDRESSED:  # a path, or nothing, is a socket of this machine
        host = told[1][0] if isinstance(told[1], tuple) else None
    asked = event not in _SPELT or _address(host) is None  # an address is no question to anybody
    if asked and not local(host):
        refused.append(f"{event} {host}")
        raise Refused(errno.ENETUNREACH, f"tests reach no network: {event} {host}")


refused: list[str] = vars(sys).setdefault(_NAME, [])
if not vars(sys).get(f"{_NAME}_by"):
    vars(sys)[f"{_NAME}_by"] = _look
    sys.addaudithook(_look)
