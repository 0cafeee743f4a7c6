"""A server on this machine that misbehaves as told."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """A file, and how to misbehave; every answer uses up an entry of `cut`, and the last setting stays.

    Attributes
    ----------
    cut : bytes sent of each answer until the connection ends
    status : of every answer, where it is not 200
    headers : that are sent; None leaves one out
    lie : headers of an answer to a Range request, instead of the true ones
    target : where every answer redirects to
    """

    def __init__(self, content):
        self.content, self.cut, self.status, self.stall = content, [], 200, 0.0
        self.headers, self.lie, self.ranges, self.requests, self.target = {"ETag": '"1"'}, {}, True, [], None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/some/file"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, request):
        wanted = request.headers.get("Range")
        self.requests.append(wanted)
        if self.target:
            request.send_response(302)
            request.send_header("Location", self.target)
            request.end_headers()
            return
        if self.status != 200:
            request.send_error(self.status)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if request.headers.get("If-Range") not in self.headers.values():
            start = 0
        if start > len(self.content):
            request.send_error(416)
            return
        body = self.content[start:]
        size = len(self.content)
        headers = {"Content-Length": str(len(body)), **self.headers}
        if start:
            headers |= {"Content-Range": f"bytes {start}-{size - 1}/{size}", **self.lie}
        request.send_response(206 if start else 200)
        for name, value in headers.items():
            if value is not None:
                request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body[: self.cut.pop(0)] if self.cut else body)
        request.wfile.flush()
        time.sleep(self.stall)
