"""Runs a sandbox in this process, on a thread of its own: for tests and for ``python -m include.sandbox``."""

import socket
import threading
import time
from types import TracebackType
from typing import Any, Self

import uvicorn

from include.sandbox.app import API_ROOT, build_app
from include.sandbox.state import Sandbox, SandboxOptions


class SandboxServer:
    """A running sandbox. ``url`` is the API's base (…/3.0), ``origin`` the address without it, ``state`` what it holds.

    ::

        with SandboxServer.start(seed=1) as sandbox:
            requests.get(f"{sandbox.url}/ping", auth=("any", sandbox.api_key))
    """

    def __init__(self, host: str, port: int, options: SandboxOptions) -> None:
        self._socket = _listen(host, port)
        self.origin = f"http://{host}:{self._socket.getsockname()[1]}"
        self.url = self.origin + API_ROOT
        self.api_key = options.api_key or "0123456789abcdef0123456789abcdef-us1"
        self.state = Sandbox(options)
        config = uvicorn.Config(build_app(self.state), log_level="warning", access_log=False, lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="sandbox-http", daemon=True)

    @classmethod
    def start(cls, port: int = 0, host: str = "127.0.0.1", **options: Any) -> Self:
        """Start a sandbox and return when it accepts connections.

        Args:
            port: 0 takes a free one.
            host: address to listen on.
            options: see SandboxOptions.

        Raises:
            OSError: the port is taken.
            RuntimeError: the server did not come up.
        """
        server = cls(host, port, SandboxOptions(**options))
        server.state.start()
        server._thread.start()
        deadline = time.monotonic() + 15
        while not server._server.started:
            if time.monotonic() > deadline or not server._thread.is_alive():
                server.stop()
                raise RuntimeError(f"the sandbox at {server.origin} did not start within 15 seconds")
            time.sleep(0.005)
        return server

    def remind(self, after_seconds: float = 0) -> int:
        """Let time pass for abandoned carts: note the mails that are due and return their number.

        Args:
            after_seconds: how long a cart must have been left alone.
        """
        return self.state.remind(after_seconds)

    def stop(self) -> None:
        """Stop serving, finish the operations at hand and close the file."""
        self._server.should_exit = True
        self._thread.join(timeout=15)
        self._socket.close()
        self.state.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener
