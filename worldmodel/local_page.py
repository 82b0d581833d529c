"""A page on this computer: a server that answers requests from this computer only."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from worldmodel.checks import ConfigError

HOST = "127.0.0.1"  # not reachable from another computer, because a run is private
PORT = 8420
END_S = 0.1  # how often the server checks whether to end


@dataclass(frozen=True)
class Content:
    """The response to a request."""

    kind: str  # its media type
    content: bytes
    policy: str = ""  # a Content-Security-Policy, for content of unknown origin


Answer = Callable[[str], Content | None]
"""Takes the path of a request; returns its content, or None if there is none."""


class LocalPage:
    """A server that runs in a thread::

    with LocalPage(port, answer) as page:
        print(page.address)
    """

    def __init__(self, port: int, answer: Answer) -> None:
        """``port``: 0 for a free one. ``answer`` is called in the server's threads."""
        try:
            self._server = _Server((HOST, port), _handler(answer))
        except (OSError, OverflowError) as error:
            reason = str(error)
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                reason = f"{port} is in use, perhaps by another worldmodel command"
            raise ConfigError(f"port: {reason}; choose another: --port {_other(port)}") from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(END_S,), daemon=True
        )

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self._server.server_address[1]}"

    def __enter__(self) -> LocalPage:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # so that an open page does not block the end
    allow_reuse_address = True


def _handler(answer: Answer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # DNS rebinding: a web page elsewhere can make its own host name resolve to this
            # address. Its requests carry that name as their Host.
            host = self.headers.get("Host", "").rpartition(":")[0]
            answered = answer(self.path.partition("?")[0])
            if host not in (HOST, "localhost") or answered is None:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", answered.kind)
            self.send_header("Content-Length", str(len(answered.content)))
            self.send_header("Cache-Control", "no-store")
            if answered.policy:
                self.send_header("Content-Security-Policy", answered.policy)
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the browser closed the connection
                self.wfile.write(answered.content)

        def log_message(self, format: str, *values: object) -> None:
            """Write nothing: the terminal is for the command."""

    return Handler


def _other(port: int) -> int:
    return port + 1 if 1 <= port < 65535 else PORT
