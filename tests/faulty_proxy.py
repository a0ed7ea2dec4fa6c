"""A proxy on 127.0.0.1 that passes requests on to a real server, or fails as it is told."""

import gzip
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit


@dataclass
class FaultyProxy:
    """What it shall do, and what it was asked."""

    upstream: str
    """URL of the server."""
    url: str = ""
    faults: list[str] = field(default_factory=list)
    """For the next requests, one each: a status such as ``503``, or a name of ``FAILS``,
    ``WRONG`` or ``ODD``. Without one, requests are passed on."""
    draw: "Callable[[Request], str]" = lambda _: ""
    """Gives the fault of a request, where ``faults`` has none."""
    asked: list[str] = field(default_factory=list)
    """Methods and paths."""
    done: Counter[str] = field(default_factory=Counter)
    """How often each fault was made, where it fits."""
    stopped: Event = field(default_factory=Event)
    """Set when whoever is kept waiting shall be let go."""

    def ask(self, request: "Request") -> "Answered":
        """Pass a request on."""
        server = HTTPConnection(urlsplit(self.upstream).netloc, timeout=30)
        headers = dict(request.headers)
        server.request(request.method, request.path, request.body or None, headers)
        answer = server.getresponse()
        body = answer.read()
        server.close()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return Answered(answer.status, headers, body)


@dataclass(frozen=True)
class Request:
    """What is asked of a server."""

    method: str
    path: str
    headers: Mapping[str, str]
    """By names in lower case."""
    body: bytes

    @property
    def lists(self) -> bool:
        """Tell whether it asks for the files of a bucket."""
        return "list-type=2" in self.path

    @property
    def reads(self) -> bool:
        """Tell whether it asks for bytes of a file."""
        return self.method == "GET" and not re.search(
            r"[?&](list-type|uploads)\b", self.path
        )

    @property
    def ends_a_write(self) -> bool:
        """Tell whether its answer says in its body that a file was written."""
        completes = self.method == "POST" and "uploadId=" in self.path
        return completes or "x-amz-copy-source" in self.headers


@dataclass
class Answered:
    """What a server answered, and what a fault makes of it."""

    status: int
    headers: dict[str, str]
    """By names in lower case."""
    body: bytes

    def resize(self, body: bytes) -> None:
        """Change the body, and the length that is told of it."""
        self.body = body
        self.headers["content-length"] = str(len(body))

    def tell_range(self, first: int, last: int, size: int | None = None) -> None:
        """Change what is told of the range."""
        total = self.headers["content-range"].partition("/")[2] if size is None else size
        self.headers["content-range"] = f"bytes {first}-{last}/{total}"

    @property
    def told(self) -> tuple[int, int, int]:
        """The range that is told of: its first and last byte, and the file's size."""
        first, last, size = map(int, re.findall(r"\d+", self.headers["content-range"]))
        return first, last, size


def _shifted(found: Answered) -> None:
    first, last, _ = found.told
    found.resize(found.body[1:] + b"?")
    found.tell_range(first + 1, last + 1)


def _elsewhere(found: Answered) -> None:
    found.resize(found.body[:2])
    found.tell_range(1, 2)


def _of_another_size(found: Answered) -> None:
    first, last, size = found.told
    found.tell_range(first, last, size + 512)


def _ends_early(found: Answered) -> None:
    found.resize(found.body[: len(found.body) // 2])
    first = found.told[0]
    found.tell_range(first, first + len(found.body) - 1)


def _is_the_end(found: Answered) -> None:
    """Be right about a file that is shorter."""
    _ends_early(found)
    first, last, _ = found.told
    found.tell_range(first, last, last + 1)


def _beyond_the_end(found: Answered) -> None:
    found.status = 416
    found.headers.pop("content-range")
    found.resize(b"")


def _compress(found: Answered) -> None:
    if "content-encoding" in found.headers:
        return
    found.headers["content-encoding"] = "gzip"
    found.resize(gzip.compress(found.body))


def _page(found: Answered) -> None:
    found.status = 200
    found.headers = {"content-type": "text/html"}
    found.resize(b"<html><body>You are offline. <p>Log in</p></body></html>")


def _halved(found: Answered) -> None:
    found.headers["content-length"] = str(int(found.headers["content-length"]) // 2)


def _error_of_200(found: Answered) -> None:
    found.headers = {"content-type": "application/xml"}
    error = b"<Code>InternalError</Code><Message>We failed</Message>"
    found.resize(b'<?xml version="1.0"?>\n<Error>' + error + b"</Error>")


def flipped(data: bytes) -> bytes:
    """Flip one bit, of any byte."""
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :]


Fits = Callable[[Request, Answered], bool]


def _has_range(request: Request, found: Answered) -> bool:
    return _has_body(request, found) and "content-range" in found.headers


def _has_body(request: Request, found: Answered) -> bool:
    return request.reads and found.status in (200, 206) and len(found.body) > 2


WRONG: dict[str, tuple[Fits, Callable[[Answered], object]]] = {
    "shifted": (_has_range, _shifted),
    "elsewhere": (_has_range, _elsewhere),
    "of another size": (_has_range, _of_another_size),
    "ends early": (_has_range, _ends_early),
    "is the end": (_has_range, _is_the_end),
    "without a range": (_has_range, lambda a: a.headers.pop("content-range")),
    "short": (_has_body, lambda a: a.resize(a.body[:-1])),
    "long": (_has_body, lambda a: a.resize(a.body + b"?")),
    "compressed": (_has_body, _compress),
    "page": (lambda r, a: r.lists or _has_body(r, a), _page),
    "of another version": (_has_body, lambda a: a.headers.update(etag='"0"')),
    "of no version": (_has_body, lambda a: a.headers.pop("etag", None)),
    "flipped": (_has_body, lambda a: a.resize(flipped(a.body))),
    "of another length": (lambda r, a: r.method == "HEAD" and a.status == 200, _halved),
    "not there": (_has_range, _beyond_the_end),
    "error of 200": (lambda r, a: r.ends_a_write and a.status == 200, _error_of_200),
}
"""Ways to answer wrongly, by name; an answer that one doesn't fit is given as it is."""

FAILS = ("429", "500", "503", "cut", "reset", "lost", "silent", "drips", "sent flipped")
"""Ways to fail: by a status; by ending the connection in the midst of the answer, before
it, or when the server has done what was asked; by no answer, by one that never ends; by
passing on another body than was sent."""

ODD = ("whole", "without a length")
"""Ways to answer otherwise, which are right: the whole file in place of a range, and in
pieces whose length nobody tells."""

_OWN_HEADERS = ("date", "server", "connection", "transfer-encoding")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyProxy

    def answer(self) -> None:
        self.proxy.asked.append(f"{self.command} {self.path}")
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, sent)
        fault = self.proxy.faults.pop(0) if self.proxy.faults else self.proxy.draw(request)
        self.close_connection = fault != ""
        if fault and fault not in WRONG:
            self.proxy.done[fault] += 1
        if fault.isdigit():
            self.send_error(int(fault))
        elif fault == "silent":
            self.proxy.stopped.wait()
        elif fault != "reset":
            self.pass_on(request, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

    def pass_on(self, request: Request, fault: str) -> None:
        found = self.proxy.ask(_changed(request, fault))
        if fault in WRONG:
            fits, change = WRONG[fault]
            if fits(request, found):
                self.proxy.done[fault] += 1
                change(found)
        if fault != "lost":
            self.send(found, fault)

    def send(self, found: Answered, fault: str) -> None:
        in_pieces = fault == "without a length" and self.command != "HEAD"
        self.send_response(found.status)
        length = {"content-length": str(len(found.body))}
        for name, value in (length | found.headers).items():
            if name not in _OWN_HEADERS and not (in_pieces and name == "content-length"):
                self.send_header(name, value)
        if in_pieces:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if in_pieces:
            self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(found.body), found.body))
        elif fault == "drips":
            self.drip(found.body)
        else:
            self.wfile.write(found.body[: len(found.body) // 2 if fault == "cut" else None])

    def drip(self, body: bytes) -> None:
        """Send a byte now and then, but for the last."""
        for byte in body[:-1]:
            if self.proxy.stopped.wait(0.05):
                break
            try:
                self.wfile.write(bytes([byte]))
            except OSError:  # whoever asked has gone
                break

    def log_message(self, *_: Any) -> None:
        pass


def _changed(request: Request, fault: str) -> Request:
    """Give what the server is asked in place of a request."""
    if fault == "whole" and "range" in request.headers:
        kept = {name: told for name, told in request.headers.items() if name != "range"}
        return replace(request, headers=kept)
    if fault == "sent flipped" and request.body and request.method == "PUT":
        return replace(request, body=flipped(request.body))
    return request


@contextmanager
def serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[int]:
    """Run a server in a thread; give its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server.server_port
        server.shutdown()


@contextmanager
def serving_faults(upstream: str) -> Iterator[FaultyProxy]:
    """Put a proxy before a server."""
    proxy = FaultyProxy(upstream)
    handler = type("Handler", (_Handler,), {"proxy": proxy})
    with serving(handler) as port:
        proxy.url = f"http://127.0.0.1:{port}"
        yield proxy
        proxy.stopped.set()
