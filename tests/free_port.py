"""Ports for servers that a test starts as a command, which can't choose one themselves."""

from __future__ import annotations

import os
import socket

# Below the range from which systems take ports for connections and for servers that ask for any: between the choice and
# the server's start nobody gets it by chance. Each process of the tests has a hundred of its own.
_FIRST, _LAST, _EACH = 20_000, 30_000, 100
_next = _FIRST + os.getpid() * _EACH % (_LAST - _FIRST)


def free_port() -> int:
    """Choose a port of this machine that nobody uses, another one each time."""
    global _next
    while True:
        port, _next = _next, _FIRST + (_next + 1 - _FIRST) % (_LAST - _FIRST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
