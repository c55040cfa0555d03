"""Everything put together: settings, stores, doors, request ids, and the one error handler."""

import gc
import logging
import os
from collections.abc import Callable

import click
import orjson
from flask import Flask, Request, Response, current_app, g, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.routing import MapAdapter

import config
from pixel import (
    analytics,
    api,
    cli,
    clock,
    collect,
    csp_reports,
    database,
    docs,
    errors,
    forwarding,
    front,
    geo,
    jobs,
    pages,
    paths,
    private_files,
    request_log,
    requests,
    settings,
    support,
    telemetry,
)
from pixel.extensions import answers, counters, db, journal, lines, migrate, warehouse
from pixel.intake.bounded import BoundedRequest

DOORS = (
    api.api,
    api.tokens.queries,
    collect.collect,
    front.front,
    settings.settings,
    analytics.analytics,
    requests.requests,
    support.support,
    docs.docs,
)


class Pixel(Flask):
    """Flask with exact paths and bounded requests, and without a check that costs much on each of them."""

    request_class = BoundedRequest
    url_map_class = paths.ExactMap

    def ensure_sync(self, func: Callable) -> Callable:
        # No view or hook here is a coroutine, and to look each time costs as much as a database read.
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Route by the path as it was sent, so that the fixed parts of a route match byte for byte.

        A rule in a proxy for `/metrics` cannot be bypassed by `/%6detrics`, `//metrics` or `/metrics/`. Converters
        decode the variable parts (`paths.py`).
        """
        adapter = super().create_url_adapter(request)
        if request is not None and adapter is not None:
            adapter.path_info = paths.sent(request.environ)
        return adapter

    def body_limit(self, method: str, target: str) -> int:
        """Return how many bytes the body of a request may have."""
        try:
            endpoint, _ = self.url_map.bind("").match(paths.of_target(target), method)
        except HTTPException:
            endpoint = None
        with self.app_context():
            return _most_bytes(endpoint)


def create_app(engine: str = "here", settings: config.Settings | None = None) -> Flask:
    """Return the WSGI application.

    `engine` says which process opens the embedded warehouse: with "here" this one if no other has, with "apart" the
    engine process that gunicorn runs.
    """
    if click.get_current_context(silent=True):
        # A command owns its process. Other callers, such as tests, keep their own umask.
        os.umask(private_files.UMASK)
    settings = settings or config.load()
    private_files.claim_folder(settings.instance)
    app = Pixel(__name__, instance_path=str(settings.instance))
    _configure(app, settings)
    _log_as_json()
    _bind_stores(app, settings, engine)
    app.before_request(request_log.begin)
    app.before_request(_refuse_too_large)
    if engine == "here":
        app.before_request(_start_engine)
    pages.bind(app)
    app.after_request(_harden)
    # Flask runs these last first: the row is written when the response is whole.
    app.after_request_funcs[None].insert(0, request_log.finish)
    app.register_error_handler(Exception, errors.answer)
    for door in DOORS:
        app.register_blueprint(door)
    app.extensions["settings"] = settings
    app.extensions["contract"] = api.openapi.document
    cli.register(app)
    return app


def _configure(app: Flask, settings: config.Settings) -> None:
    app.config.update(
        {name: getattr(settings, name) for name in settings.__dataclass_fields__},
        VERSION=config.VERSION,
        public_url=settings.public_url,
        asks_servers=settings.asks_servers,
        SECRET_KEY=config.secret_key(settings),
        SQLALCHEMY_DATABASE_URI=settings.database_url,
        SQLALCHEMY_ENGINE_OPTIONS=database.options(settings.database_url),
        MAX_CONTENT_LENGTH=10 << 20,
        TRUSTED_HOSTS=settings.trusted_hosts or None,
        PROVIDE_AUTOMATIC_OPTIONS=False,
    )
    app.url_map.merge_slashes = app.url_map.redirect_defaults = False
    app.wsgi_app = forwarding.ForwardedAddress(app.wsgi_app, settings.TRUSTED_HOPS, settings.trusted_proxies)


def _bind_stores(app, settings, engine):
    database.bind(app)
    migrate.init_app(app, db, directory="pixel/migrations")
    counters.bind(settings.ratelimit_storage_uri)
    folder = settings.instance / "journal"
    journal.bind(folder)
    answers.bind(settings.instance / "answers")
    telemetry.bind(settings.instance / "telemetry.sqlite")
    geo.bind(settings.GEOIP_DATABASE)
    warehouse.bind(
        settings.warehouse_path(),
        folder,
        may_be_engine=engine == "here",
        server=settings.warehouse_server(),
        claims=settings.shared_claims(),
    )
    warehouse.before_query = database.let_go
    warehouse.on_start = lambda running: jobs.schedule(app, running)


def _start_engine():
    if warehouse.folder is not None:
        warehouse.start()


def _most_bytes(endpoint: str | None) -> int:
    """Return the limit of a body: the view's own, its blueprint's, or the API's."""
    view = current_app.view_functions.get(endpoint)
    blueprint = current_app.blueprints.get((endpoint or "").rpartition(".")[0])
    return getattr(view, "most_bytes", None) or getattr(blueprint, "most_bytes", api.MOST_BYTES)


def _refuse_too_large():
    """Refuse a body by its length before anything else, a missing route included."""
    asked = request._get_current_object()
    g.most_bytes = most = _most_bytes(asked.endpoint)
    # One more, because a body without a length is cut off there in silence.
    asked.max_content_length = most + 1
    length = asked.content_length
    if length is not None and length > most:
        raise RequestEntityTooLarge()


_HARDENED = [("X-Content-Type-Options", "nosniff")]
_HARDENED_API = [*_HARDENED, ("Cache-Control", "no-store")]
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; "
    f"base-uri 'none'; frame-ancestors 'none'; report-uri {csp_reports.PATH}"
)
_HARDENED_PAGE = [
    *_HARDENED,
    ("Content-Security-Policy", _POLICY),
    # No page's address is another site's business.
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
    ("X-Frame-Options", "DENY"),
]
#: Over HTTPS. A browser that supports report-to ignores report-uri, and over plain HTTP it sends no report then.
_HARDENED_PAGE_HTTPS = [
    ("Content-Security-Policy", f"{_POLICY}; report-to csp"),
    ("Reporting-Endpoints", f'csp="{csp_reports.PATH}"'),
    *_HARDENED_PAGE,
]
_HSTS = "max-age=31536000; includeSubDomains"


def _harden(response):
    if errors.is_api():
        for name, value in _HARDENED_API:
            response.headers.add(name, value)
    else:
        _harden_page(response)
    if current_app.config["PIXEL_ENV"] == "live":
        response.headers["Strict-Transport-Security"] = _HSTS
    return response


def _harden_page(response: Response) -> None:
    for name, value in _HARDENED_PAGE_HTTPS if request.is_secure else _HARDENED_PAGE:
        # A view may have set its own value.
        response.headers.setdefault(name, value)
    if request.endpoint != "static" and request.blueprint != "collect":
        # What was seen signed in must not be seen after signing out, by the back button or otherwise.
        response.headers["Cache-Control"] = "no-store"
        response.vary.add("Cookie")


class _JsonLines(logging.Handler):
    """Puts each record on stdout as a JSON object, with the request id when there is one."""

    def emit(self, record):
        exception = getattr(record, "exception", None)
        if not exception and record.exc_info:
            exception = logging.Formatter().formatException(record.exc_info)
        line = {
            "at": clock.warehouse(int(record.created * 1000)),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
            "request_id": getattr(record, "request_id", None) or request_log.current_id(),
            **({"exception": exception} if exception else {}),
        }
        lines.put(orjson.dumps(line, default=str))


def _log_as_json():
    logger = logging.getLogger("pixel")
    logger.handlers = [_JsonLines()]
    logger.setLevel(logging.INFO)
    logger.propagate = False


# What has been loaded by now stays. Collections leave it out, so that processes go on sharing its pages, and none
# spends a quarter of a second on it at its end, which is a quarter of what a command takes.
gc.freeze()
