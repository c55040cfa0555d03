"""Everything put together: settings, stores, doors, request ids, and the one error handler."""

import gc
import logging

import orjson
from flask import Flask, current_app, g, request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.middleware.proxy_fix import ProxyFix

import config
from pixel import (
    analytics,
    api,
    cli,
    clock,
    collect,
    database,
    docs,
    errors,
    front,
    geo,
    jobs,
    pages,
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
    """Flask with a bounded request, and without what costs time on each of thousands of requests a second."""

    request_class = BoundedRequest

    def ensure_sync(self, func):
        # No view or hook here is a coroutine, and to look each time costs as much as a database read.
        return func


def create_app(engine="here", settings=None):
    """The WSGI application.

    `engine` says who opens the embedded warehouse: "here" lets this process do it when no other has, "apart" leaves
    it to the engine process that gunicorn runs.
    """
    settings = settings or config.load()
    settings.instance.mkdir(parents=True, exist_ok=True)
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
    app.url_map.converters["anything"] = api.Anything
    for door in DOORS:
        app.register_blueprint(door)
    app.extensions["settings"] = settings
    app.extensions["contract"] = api.openapi.document
    cli.register(app)
    return app


def _configure(app, settings):
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
    # A redirect to the same address with another slash would answer outside of the envelope.
    app.url_map.strict_slashes = app.url_map.merge_slashes = app.url_map.redirect_defaults = False
    if settings.TRUSTED_HOPS:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=settings.TRUSTED_HOPS, x_proto=settings.TRUSTED_HOPS, x_host=0)


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


def _refuse_too_large():
    """Size comes before everything else, routes included."""
    asked = request._get_current_object()
    view = current_app.view_functions.get(asked.endpoint)
    door = current_app.blueprints.get(asked.blueprint)
    g.most_bytes = most = getattr(view, "most_bytes", None) or getattr(door, "most_bytes", api.MOST_BYTES)
    # One more, because a body without a length is cut off there in silence.
    asked.max_content_length = most + 1
    length = asked.content_length
    if length is not None and length > most:
        raise RequestEntityTooLarge()


_HARDENED = [("X-Content-Type-Options", "nosniff")]
_HARDENED_API = [*_HARDENED, ("Cache-Control", "no-store")]
_HARDENED_PAGE = [
    *_HARDENED,
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    # No page's address is another site's business.
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
    ("X-Frame-Options", "DENY"),
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


def _harden_page(response):
    for name, value in _HARDENED_PAGE:
        # What a door has said itself stands.
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
