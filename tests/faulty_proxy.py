"""A proxy on 127.0.0.1 that passes requests on to a real server, or fails as it is told."""

from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit


@dataclass
class FaultyProxy:
    """What it shall do, and what it was asked."""

    upstream: str
    """URL of the server."""
    url: str = ""
    faults: list[str] = field(default_factory=list)
    """For the next requests, one each: a status such as ``503``; ``cut``, which ends the
    connection in the middle of the answer; ``reset``, which ends it before; ``elsewhere``,
    which gives another range than was asked for. Without one, requests are passed on."""
    asked: list[str] = field(default_factory=list)
    """Methods and paths."""


_OWN_HEADERS = ("date", "server", "connection", "transfer-encoding")


def handler_of(proxy: FaultyProxy) -> type[BaseHTTPRequestHandler]:
    """Make the class that answers for a proxy."""
    return type("Handler", (_Handler,), {"proxy": proxy})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyProxy

    def answer(self) -> None:
        self.proxy.asked.append(f"{self.command} {self.path}")
        fault = self.proxy.faults.pop(0) if self.proxy.faults else ""
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.close_connection = fault != ""
        if fault.isdigit():
            self.send_error(int(fault))
        elif fault != "reset":
            self.pass_on(sent, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

    def pass_on(self, sent: bytes, fault: str) -> None:
        headers = dict(self.headers)
        if fault == "elsewhere" and "Range" in headers:
            headers["Range"] = "bytes=1-2"
        server = HTTPConnection(urlsplit(self.proxy.upstream).netloc, timeout=30)
        server.request(self.command, self.path, sent or None, headers)
        answer = server.getresponse()
        body = answer.read()
        server.close()
        self.send_response(answer.status)
        length = {"Content-Length": str(len(body))}
        for name, value in (length | dict(answer.getheaders())).items():
            if name.lower() not in _OWN_HEADERS:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)

    def log_message(self, *_: Any) -> None:
        pass
