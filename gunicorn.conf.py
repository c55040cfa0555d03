"""How `gunicorn` serves this: everything is here, so the command needs no argument."""

import ctypes
import hashlib
import os
import sys

from gunicorn.arbiter import Arbiter

from config import load as _load
from pixel import private_files
from pixel.serving import engine_process
from pixel.warehouse import line

# The workers and the engine inherit it.
os.umask(private_files.UMASK)
_settings = _load()
private_files.claim_folder(_settings.instance)

wsgi_app = "app:create_app(engine='apart')"
bind = _settings.listen_addresses()
worker_class = "pixel.serving.worker.Worker"
workers = _settings.WEB_CONCURRENCY
# Reports wait in threads, up to 36 at once (pixel/warehouse); what else is not small (pixel/turns.py) has the others.
threads = 48
preload_app = True
keepalive = 30
# Responses are collected in memory before the main thread sends them, files too.
sendfile = False
# The most that gunicorn takes, and proxies' usual limit too: a page's path of a few hundred letters that are not Latin
# has some 5,000 bytes in a filter.
limit_request_line = 8190
timeout = 60
graceful_timeout = 20

# One engine process, watched and restarted by gunicorn. Workers reach it by its own socket.
dirty_apps = ["pixel.serving.engine_process:EngineProcess"] if _settings.warehouse_path() else []
dirty_workers = 1 if dirty_apps else 0
dirty_threads = 1
dirty_timeout = 60

# The application decides which forwarded headers to trust (pixel/forwarding.py).
forwarded_allow_ips = ""

# gunicorn ends what it takes for a left-over of the same name, so every installation has its own.
proc_name = "pixel-" + hashlib.sha256(os.fsencode(_settings.instance)).hexdigest()[:12]
control_socket_disable = True

# The request log has a line for each request; gunicorn adds its own words only when something is wrong.
accesslog = None
loglevel = "warning"

# Threads that each keep a heap of their own hold on to much more than they use (M_ARENA_MAX, glibc).
ctypes.CDLL(None).mallopt(-8, 2)


def on_starting(server: Arbiter) -> None:
    """Lock the instance folder, because a second server would rotate, load and count too. Then restrict its files."""
    # With --daemon gunicorn has changed the umask since.
    os.umask(private_files.UMASK)
    engine_process.hold(_settings.instance)
    if dirty_apps:
        _refuse_unsafe_socket_folder()
    warehouse = (_settings.warehouse_path() or _settings.instance / "warehouse").resolve()
    private_files.restrict_tree(_settings.instance, warehouse / "data")
    # It may be elsewhere, by its setting or by a link.
    if warehouse.exists() and not warehouse.is_relative_to(_settings.instance):
        private_files.restrict_tree(warehouse, warehouse / "data")


def _refuse_unsafe_socket_folder() -> None:
    """Exit with a sentence instead of starting the engine again and again."""
    try:
        line.address(_settings.warehouse_path())
    except private_files.UnsafeFolder as error:
        sys.exit(str(error))
