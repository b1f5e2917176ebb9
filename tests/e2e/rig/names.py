"""A name server of one file, for programs that look replicas up by name."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Self

_ANSWER, _NO_SUCH_NAME = 0x8580, 0x8583
_A, _IN = 1, 1


class NameServer(asyncio.DatagramProtocol):
    """Answers A queries from a table; a name that it lacks does not exist.

    Attributes:
        names: Addresses by name; a change counts from the next query on.
        address: Host and port that it listens on.
    """

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}
        self.address = ""
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self) -> Self:
        """Listen on a free port of loopback."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0)
        )
        host, port = self._transport.get_extra_info("sockname")[:2]
        self.address = f"{host}:{port}"
        return self

    def stop(self) -> None:
        """Close the port."""
        if self._transport is not None:
            self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer one query."""
        question, name, kind = _question(data)
        found = self.names.get(name)
        addresses = (found or []) if kind == _A else []
        flags = _ANSWER if found is not None else _NO_SUCH_NAME
        header = struct.pack(">6H", *struct.unpack(">H", data[:2]), flags, 1, len(addresses), 0, 0)
        records = b"".join(
            b"\xc0\x0c" + struct.pack(">HHIH", _A, _IN, 0, 4) + socket.inet_aton(address)
            for address in addresses
        )
        assert self._transport is not None
        self._transport.sendto(header + question + records, addr)


def _question(data: bytes) -> tuple[bytes, str, int]:
    """The question section, its name and its type."""
    labels, at = [], 12
    while data[at]:
        labels.append(data[at + 1 : at + 1 + data[at]].decode("ascii"))
        at += 1 + data[at]
    (kind,) = struct.unpack(">H", data[at + 1 : at + 3])
    return data[12 : at + 5], ".".join(labels).lower(), kind
