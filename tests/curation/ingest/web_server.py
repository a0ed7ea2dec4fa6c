"""A real web server whose paths say how it answers: well, late, falsely, or not at all."""

import contextlib
import io
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

MANY_BYTES = 1 << 20


@lru_cache
def photograph(number: int) -> bytes:
    """Give the JPEG that ``/image/<number>`` answers with."""
    stored = io.BytesIO()
    Image.new("RGB", (8, 6), (number % 256, number // 256, 99)).save(stored, "JPEG")
    return stored.getvalue()


_ANSWERS: dict[str, tuple[int, bytes, dict[str, str]]] = {
    "flaky": (500, b"", {}),
    "html": (200, b"<!DOCTYPE html><p>gone</p>", {}),
    "noai": (200, photograph(0), {"X-Robots-Tag": "image-text-curation: noai, all"}),
    "empty": (200, b"", {}),
    "gzip": (200, b"\x1f\x8b\x08" + bytes(30), {"Content-Encoding": "gzip"}),
    "large": (200, photograph(0) + bytes(MANY_BYTES), {}),
}


@dataclass
class WebServer:
    """Where it is, and what it was asked for."""

    url: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    """Path to how often it was asked for."""
    mended: bool = False
    """Whether ``/flaky/…`` answers with an image rather than status 500."""
    closing: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def serve_images() -> Iterator[WebServer]:
    """Serve on a free port of this machine until the block ends."""
    state = WebServer()

    class Handler(_Handler):
        server_state = state

    with _Server(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield state
        finally:
            state.closing.set()
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # connections that may wait; of more, some are dropped


class _Handler(BaseHTTPRequestHandler):
    server_state: WebServer

    def do_GET(self) -> None:
        state, (kind, _, rest) = self.server_state, self.path[1:].partition("/")
        with state.lock:
            state.asked[self.path] += 1
        if kind == "image" or (kind == "flaky" and state.mended):
            self._answer(200, photograph(int(rest.partition("?")[0])))
        elif kind == "redirect":
            self._answer(302, b"", Location=rest if ":" in rest else f"/{rest}")
        elif kind == "loop":
            self._answer(302, b"", Location=self.path)
        elif kind == "long":
            self._send_more(int(rest))
        elif kind == "junk":
            self.wfile.write(b"no HTTP at all" * 10_000)
        elif kind in ("endless", "drip", "short"):
            self._misbehave(kind)
        else:
            status, body, headers = _ANSWERS.get(kind, (404, b"", {}))
            self._answer(status, body, **headers)

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        with contextlib.suppress(ConnectionError):  # who asked has hung up
            self.end_headers()
            self.wfile.write(body)

    def _send_more(self, more: int) -> None:
        """Send headers, an image and bytes that were not promised, all at once."""
        data, close = photograph(0), "Connection: close\r\n" if more % 2 else ""
        head = f"HTTP/1.1 200 OK\r\n{close}Content-Length: {len(data)}\r\n\r\n"
        self.wfile.write(head.encode() + data + b"x" * more)
        self.close_connection = True

    def _misbehave(self, kind: str) -> None:
        """Send without an end, ever so slowly, or less than was promised."""
        self.send_response(200)
        if kind == "short":
            self.send_header("Content-Length", "10000")
        self.end_headers()
        self.wfile.write(photograph(0))
        self.wfile.flush()
        closing = self.server_state.closing
        try:
            while kind != "short" and not closing.wait(0.05 if kind == "drip" else 0):
                self.wfile.write(b"x" * (1 if kind == "drip" else MANY_BYTES))
        except OSError:
            return  # the other side had enough

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
