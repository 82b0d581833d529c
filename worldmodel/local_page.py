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
from typing import Self

from worldmodel.checks import ConfigError

HOST = "127.0.0.1"  # not reachable from another computer, because a run is private
PORT = 8420
END_S = 0.1  # how often the server checks whether to end
LARGEST_POST = 65536  # bytes
SILENCE_S = 60.0  # a connection that sends nothing for so long is closed


@dataclass(frozen=True)
class Content:
    """The response to a request."""

    kind: str  # its media type
    content: bytes
    policy: str = ""  # a Content-Security-Policy, for content of unknown origin


Answer = Callable[[str], Content | None]
"""Takes the path of a request; returns its content, or None if there is none."""
Take = Callable[[str, bytes], Content | None]
"""Takes the path and the JSON of a POST; raises ValueError if it is not as it should be."""


class LocalPage:
    """A server that runs in a thread::

    with LocalPage(port, answer) as page:
        print(page.address)
    """

    def __init__(self, port: int, answer: Answer, take: Take | None = None) -> None:
        """``port``: 0 for a free one. ``answer`` and ``take`` are called in the server's threads.

        ``take`` gets what the page itself posts; what other pages post gets no response.
        """
        try:
            self._server = _Server((HOST, port), _handler(answer, take or _nothing))
        except (OSError, OverflowError) as error:
            reason = str(error)
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                reason = f"{port} is in use, perhaps by another worldmodel command"
            if isinstance(error, OverflowError):
                reason = f"expected 0-65535, got {port}"
            raise ConfigError(f"port: {reason}; choose another: --port {_other(port)}") from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(END_S,), daemon=True
        )

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
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


def _nothing(path: str, posted: bytes) -> Content | None:
    return None


def _handler(answer: Answer, take: Take) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = SILENCE_S

        def do_GET(self) -> None:
            self._send(answer(self._path) if self._names_this_computer() else None)

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not self._names_this_computer() or not self._comes_from_the_page():
                self._send(None)
            elif not length.isdecimal() or int(length) > LARGEST_POST:
                self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            else:
                try:
                    self._send(take(self._path, self.rfile.read(int(length))))
                except ValueError as error:
                    self._send(Content("text/plain", str(error).encode()), HTTPStatus.BAD_REQUEST)

        @property
        def _path(self) -> str:
            return self.path.partition("?")[0]

        def _names_this_computer(self) -> bool:
            # DNS rebinding: a web page elsewhere can make its own host name resolve to this
            # address. Its requests carry that name as their Host.
            return self.headers.get("Host", "").rpartition(":")[0] in (HOST, "localhost")

        def _comes_from_the_page(self) -> bool:
            # A browser names the page that posts as Origin. It lets a page elsewhere post JSON
            # only after this server has allowed it, which it never does.
            page = f"http://{self.headers['Host']}"
            kind = self.headers.get("Content-Type", "").partition(";")[0]
            return self.headers.get("Origin", page) == page and kind == "application/json"

        def _send(self, content: Content | None, status: HTTPStatus = HTTPStatus.OK) -> None:
            if content is None:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            self.send_response(status)
            self.send_header("Content-Type", content.kind)
            self.send_header("Content-Length", str(len(content.content)))
            self.send_header("Cache-Control", "no-store")
            if content.policy:
                self.send_header("Content-Security-Policy", content.policy)
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the browser closed the connection
                self.wfile.write(content.content)

        def log_message(self, format: str, *values: object) -> None:
            """Write nothing: the terminal is for the command."""

    return Handler


def _other(port: int) -> int:
    return port + 1 if 1 <= port < 65535 else PORT
