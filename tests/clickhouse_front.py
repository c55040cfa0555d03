"""ClickHouse's HTTP interface over the embedded engine, in a process of its own: as far as our client uses it.

It stands in for a server in tests, and can be slow, hang up after it has done what it was asked, do it late, refuse,
stop and be killed. It has the clusters `one`, of one shard, and `two`, of two shards that are the same tables, so that
all that is read there is read twice. It leaves out of a statement what would need a Keeper: ON CLUSTER, and Replicated
before MergeTree.

`python -m tests.clickhouse_front FOLDER PORT`
"""

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
from werkzeug.serving import WSGIRequestHandler, run_simple
from werkzeug.wrappers import Request, Response

from tests.server import HOME, free_port, until

USER, PASSWORD = "pixel", "sesame/and:more@all"
_SHARD = "<shard><replica><host>127.0.0.1</host></replica></shard>"
# A replica without a port of its own is the engine itself.
_CLUSTERS = f"""<clickhouse><tcp_port>9000</tcp_port>
<remote_servers><one>{_SHARD}</one><two>{_SHARD}{_SHARD}</two></remote_servers></clickhouse>"""
#: What of an address is neither a setting of the engine's nor a parameter of the query.
_OF_HTTP = {
    "query", "database", "query_id", "wait_end_of_query", "client_protocol_version", "enable_http_compression",
    "send_progress_in_http_headers", "http_headers_progress_interval_ms", "cancel_http_readonly_queries_on_client_close",
}  # fmt: skip


class Front:
    """A front and its process. `plan(...)` tells what becomes of its next inserts, `mood(...)` of every call."""

    def __init__(self, folder, cluster=""):
        self.folder, self.port, self.process = Path(folder), free_port(), None
        password = PASSWORD.replace("/", "%2F").replace(":", "%3A").replace("@", "%40")
        self.url = f"clickhouse://{USER}:{password}@127.0.0.1:{self.port}/default"
        self.url += f"?cluster={cluster}" if cluster else ""
        self.settings = dict.fromkeys(("ANALYTICS_URL", "ANALYTICS_INGEST_URL", "IDENTIFY_INGEST_URL"), self.url)

    def start(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tests.clickhouse_front", str(self.folder), str(self.port)]
        with open(self.folder.with_suffix(".log"), "ab") as log:
            self.process = subprocess.Popen(command, cwd=HOME, stdout=log, stderr=log)
        until(lambda: httpx.get(f"http://127.0.0.1:{self.port}/ping").text == "Ok.\n", 30, self.said)
        return self

    def said(self):
        return self.folder.with_suffix(".log").read_text()[-3000:]

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()

    def plan(self, *what):
        """For the next inserts in turn: `drop` (do it, then hang up), `late SECONDS` (do it that much later), `take`."""
        self._tell(plan=what)

    def mood(self, what):
        """For every call: `well`, `refuse` (503, as from a proxy), `slow SECONDS`."""
        self._tell(mood=what)

    def inserts(self):
        """The tokens of the inserts that have been carried out, in order."""
        return httpx.get(f"http://127.0.0.1:{self.port}/front").json()

    def ask(self, sql):
        """The rows of a query, as dicts."""
        url = f"http://127.0.0.1:{self.port}/"
        answer = httpx.post(url, content=sql + " FORMAT JSON", auth=(USER, PASSWORD), timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def _tell(self, **what):
        httpx.post(f"http://127.0.0.1:{self.port}/front", json=what).raise_for_status()


class _Engine:
    def __init__(self, folder):
        import chdb

        self.mood, self.plan, self.done, self.lock = "well", [], [], threading.Lock()
        Path(f"{folder}/clusters.xml").write_text(_CLUSTERS)
        self.open = lambda: chdb.connect(f"{folder}/data?config-file={folder}/clusters.xml")
        self.kept = self.open()

    @Request.application
    def answer(self, request):
        if request.path == "/ping":
            return Response("Ok.\n")
        if request.path == "/front":
            return self.told(request)
        word, _, seconds = self.mood.partition(" ")
        if word == "refuse":
            return Response("upstream is away", 503)
        time.sleep(float(seconds or 0))
        given = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {given}":
            return _failure(516, f"Code: 516. DB::Exception: {USER}: Authentication failed. (AUTHENTICATION_FAILED)")
        return self.asked(request)

    def told(self, request):
        if request.method == "POST":
            for name, value in request.get_json().items():
                setattr(self, name, value)
        return Response(json.dumps(self.done), mimetype="application/json")

    def asked(self, request):
        given = {**request.args, **request.form}
        body = "" if request.form else request.get_data().decode()
        sql = f"{given['query']}\n{body}" if "query" in given else body
        inserts, what = sql.startswith("INSERT"), ""
        if inserts:
            with self.lock:
                what = self.plan.pop(0) if self.plan else ""
        if what.startswith("late"):
            time.sleep(float(what.split()[1]))
        try:
            answer = self.done_by_engine(_without_keeper(sql), given)
        except RuntimeError as error:
            text = str(error)
            return _failure(re.search(r"Code: (\d+)", text)[1], text)
        if inserts:
            self.done.append(given.get("insert_deduplication_token"))
        if what == "drop":
            request.environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return Response(answer, headers={"X-ClickHouse-Summary": "{}", "X-ClickHouse-Format": "TabSeparated"})

    def done_by_engine(self, sql, given):
        # A connection keeps its settings, so every call has one of its own.
        connection = self.open()
        try:
            for name, value in given.items():
                if name not in _OF_HTTP and not name.startswith("param_"):
                    connection.query(f"SET {name} = '{value}'")
            if "database" in given:
                connection.query(f"USE {given['database']}")
            parameters = {n.removeprefix("param_"): v for n, v in given.items() if n.startswith("param_")}
            return connection.query(sql, "TabSeparated", params=parameters).bytes() or b""
        finally:
            connection.close()


def _without_keeper(sql):
    if sql.startswith(("SELECT", "INSERT")):
        return sql
    plain = re.sub(r" ON CLUSTER '(one|two)'", "", re.sub(r"ReplicatedMergeTree\('[^']*', '[^']*'\)", "MergeTree", sql))
    # What a replicated table does by itself.
    return plain + ", non_replicated_deduplication_window = 10000" if "= ReplicatedM" in sql else plain


def _failure(code, text):
    # 403 is what ClickHouse answers to a wrong password; 404 and 500 to most else.
    status = {"516": 403, "60": 404}.get(str(code), 500)
    return Response(text, status, headers={"X-ClickHouse-Exception-Code": str(code)})


if __name__ == "__main__":
    WSGIRequestHandler.protocol_version = "HTTP/1.1"
    WSGIRequestHandler.log_request = lambda *_: None
    engine = _Engine(os.path.realpath(sys.argv[1]))
    run_simple("127.0.0.1", int(sys.argv[2]), engine.answer, threaded=True)
