"""A proxy before a server of the tests: counts what is asked for, delays it, or makes it fail."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from .s3 import S3Server

BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@dataclass
class Proxy:
    """What has passed the proxy, and what it shall do with the next requests."""

    server: S3Server  # behind the proxy
    latency_s: float = 0.0  # of every request
    refuse: int = 0  # so many requests are answered with 503
    cut: int = 0  # so many answers end in their middle
    requests: list[str] = field(default_factory=list)  # such as "GET /bucket/key bytes=0-9"
    sent_bytes: int = 0  # bodies of answers
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def forget(self) -> None:
        """Start to count anew."""
        with self.lock:
            self.requests.clear()
            self.sent_bytes = 0

    def takes(self, what: str) -> bool:
        """Whether the next request shall fail in this way."""
        with self.lock:
            left = getattr(self, what)
            setattr(self, what, max(left - 1, 0))
        return left > 0


@contextlib.contextmanager
def proxy_of(server: S3Server) -> Iterator[Proxy]:
    """A proxy that looks like the server; `proxy.server` has its address."""
    target = urlsplit(server.endpoint).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with proxy.lock:
                wanted = self.headers.get("Range", "")
                proxy.requests.append(f"{self.command} {self.path} {wanted}".strip())
            time.sleep(proxy.latency_s)
            if proxy.takes("refuse"):
                self.answer(503, {"Content-Type": "application/xml"}, BUSY)
                return
            with contextlib.closing(http.client.HTTPConnection(target)) as connection:
                connection.request(self.command, self.path, body, dict(self.headers))
                answer = connection.getresponse()
                self.answer(answer.status, dict(answer.headers), answer.read())

        def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            length = headers.get("Content-Length", str(len(body)))
            kept = {
                k: v for k, v in headers.items() if k not in ("Transfer-Encoding", "Connection")
            }
            for name, value in (kept | {"Content-Length": length}).items():
                self.send_header(name, value)
            self.end_headers()
            if len(body) > 1 and proxy.takes("cut"):
                body, self.close_connection = body[: len(body) // 2], True
            self.wfile.write(body)
            self.wfile.flush()
            with proxy.lock:
                proxy.sent_bytes += len(body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    endpoint = f"http://127.0.0.1:{listener.server_port}"
    proxy = Proxy(S3Server(endpoint, server.access_key, server.secret_key, server.bucket))
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
