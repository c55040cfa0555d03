"""A server that answers what it is told to, one answer a request, and remembers what it was asked."""

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: In place of an answer: hang up.
HANG_UP = "hang up"
#: A header that makes an answer end before its Content-Length.
TORN = {"Torn": "yes"}


@dataclass(frozen=True)
class Asked:
    """A request as it came, and the number of the connection it came over."""

    method: str
    path: str
    headers: dict
    body: bytes
    connection: int

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def lines(self):
        return [json.loads(line) for line in self.body.splitlines()]


class Scripted:
    """`tell` it what comes next. When nothing is left it goes on with the last."""

    def __init__(self):
        self.asked, self.coming, self.connections = [], [], 0
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"script": self}))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def tell(self, *answers):
        self.coming = list(answers)
        return self

    def next(self):
        return self.coming.pop(0) if len(self.coming) > 1 else self.coming[0]

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    # Headers and body leave together.
    wbufsize = -1
    script = None

    def setup(self):
        super().setup()
        self.script.connections += 1
        self.connection_number = self.script.connections

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = Asked(self.command, self.path, dict(self.headers), body, self.connection_number)
        self.script.asked.append(asked)
        answer = self.script.next()
        if callable(answer):
            answer = answer(asked)
        if answer == HANG_UP:
            self.close_connection = True
            return
        status, headers, body = answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) + ("Torn" in headers)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection |= "Torn" in headers or headers.get("Connection") == "close"

    do_POST = do_GET

    def log_message(self, *_):
        pass


def success(data, status=200, headers=None, **meta):
    """A success in the envelope."""
    return _json(status, headers, {"data": data, "meta": {"request_id": "req_1", **meta}})


def failure(status, code, details=None, headers=None, message="It failed."):
    """An error in the envelope."""
    error = {"code": code, "message": message, "details": details or {}}
    return _json(status, headers, {"error": error, "meta": {"request_id": "req_2"}})


def page(status, headers=None):
    """A page, such as a proxy makes."""
    return status, {"Content-Type": "text/html", **(headers or {})}, b"<h1>Bad gateway</h1>"


def report(rows, columns=None, **query):
    """A report's answer."""
    names = columns or (list(rows[0]) if rows else [])
    data = {"data": rows, "meta": [{"name": name, "type": "String"} for name in names], "rows": len(rows)}
    data |= {"statistics": {"elapsed": 0.1}, "data_status": "ok"}
    return success(data, query={"from": "2026-01-01", "to": "2026-01-30", **query})


def batch(asked):
    """Accepts every line of a batch but those whose path is wrong."""
    wrong = {"status": "rejected", "errors": {"path": ["Must begin with a slash."]}}
    results = [
        {"status": "accepted", "event_id": event["event_id"]} if event.get("path", "/")[:1] == "/" else wrong
        for event in asked.lines
    ]
    rejected = results.count(wrong)
    return success({"accepted": len(results) - rejected, "rejected": rejected, "results": results}, 202)


def _json(status, headers, body):
    return status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(body).encode()
