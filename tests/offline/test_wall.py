"""The wall around the tests stands: negative controls of every way out, and what stays open."""

import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.offline.sitecustomize import Refused, local, refused

# Addresses that documents are written with: nobody answers there, so a wall with a hole would hang
OUTSIDE = "203.0.113.1"
Way = Callable[[socket.socket], object]
WAYS: dict[str, tuple[socket.AddressFamily, socket.SocketKind, Way]] = {
    "connect": (socket.AF_INET, socket.SOCK_STREAM, lambda s: s.connect((OUTSIDE, 443))),
    "connect_ex": (socket.AF_INET, socket.SOCK_STREAM, lambda s: s.connect_ex((OUTSIDE, 443))),
    "ipv6": (socket.AF_INET6, socket.SOCK_STREAM, lambda s: s.connect(("2001:db8::1", 443))),
    "datagram": (socket.AF_INET, socket.SOCK_DGRAM, lambda s: s.sendto(b"x", (OUTSIDE, 53))),
}
LOOKED_UP: dict[str, Callable[[], object]] = {
    "name": lambda: socket.getaddrinfo("example.org", 443),
    "old name": lambda: socket.gethostbyname("example.org"),
    "backwards": lambda: socket.gethostbyaddr(OUTSIDE),
    "url": lambda: urllib.request.urlopen("https://example.org", timeout=1),
}


@pytest.fixture(autouse=True)
def forgiven(no_network: None) -> Iterator[None]:
    """Refusals are what is tested here."""
    yield
    refused.clear()


@pytest.mark.parametrize("way", WAYS)
def test_every_way_out_is_refused_and_kept_in_mind(way: str) -> None:
    family, kind, go = WAYS[way]
    with socket.socket(family, kind) as own:
        own.settimeout(1)
        with pytest.raises(OSError, match="tests reach no network"):
            go(own)
    assert len(refused) == 1


@pytest.mark.parametrize("way", LOOKED_UP)
def test_no_name_is_asked_for(way: str) -> None:
    with pytest.raises(OSError, match="tests reach no network"):
        LOOKED_UP[way]()
    assert len(refused) == 1


def test_a_process_that_a_test_starts_is_refused_too() -> None:
    code = f"import socket; socket.create_connection(({OUTSIDE!r}, 443), timeout=1)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "tests reach no network" in done.stderr


def test_without_the_wall_that_process_is_not_refused() -> None:
    """The negative control: the refusal above is the wall's, not the machine's."""
    code = (
        "import socket; s = socket.socket(type=socket.SOCK_DGRAM)  # sends nothing by itself\n"
        f"try:\n    s.connect(({OUTSIDE!r}, 443))\nexcept OSError as error:\n    print(error)"
    )
    bare = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=bare)
    assert done.returncode == 0
    assert "tests reach no network" not in done.stdout + done.stderr


def test_this_machine_is_open(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as own:
        server.bind(str(tmp_path / "s"))
        server.listen()
        own.connect(str(tmp_path / "s"))
    assert refused == []


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", b"127.9.9.9", "", None])
def test_hosts_of_this_machine(host: object) -> None:
    assert local(host)


@pytest.mark.parametrize(
    "host", ["203.0.113.77", "8.8.8.8", "127.0.0.1.evil.example", "localhost.x"]
)
def test_hosts_elsewhere(host: str) -> None:
    assert not local(host)


def test_the_error_is_one_that_libraries_expect() -> None:
    assert issubclass(Refused, OSError)
