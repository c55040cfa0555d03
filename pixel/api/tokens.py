"""Query tokens: minted with a key, and used by a browser without one."""

from flask import Blueprint, current_app, g, request

from pixel import access, clock, errors, metrics, tokens, visitors
from pixel.access import Scope, require
from pixel.api import answer, api
from pixel.envelope import bare
from pixel.intake import body, idempotency, schemas

#: A longer address is refused before it comes to us (limit_request_line in gunicorn.conf.py).
MOST_CHARACTERS = 8000
#: What a page's script may read of an answer's headers.
_SHOWN = "X-Request-Id, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset"
#: Where tokens are used: no key, no cookie, from any site.
queries = Blueprint("queries", __name__, url_prefix="/v0")
queries.entry = "token"
queries.after_request(access.stamp)


@api.post("/pixel/metrics/<name>/token")
@require(Scope.PIXEL_READ)
def mint_token(name):
    """A token for one report, its parameters fixed by the body."""
    pipe = metrics.pipe(name)
    return _minted((pipe.name,), _fixed())


@api.post("/pixel/visitors/<anything_or_nothing:visitor_id>/token")
@require(Scope.PIXEL_READ)
def mint_visitor_token(visitor_id):
    """A token for the profile and the timeline of one visitor."""
    visitor_id = visitors.checked_id(visitor_id)
    fixed = _fixed()
    if "visitor_id" in fixed:
        raise errors.InvalidBody(visitor_id=["The address names the visitor."])
    return _minted((visitors.PROFILE, visitors.TIMELINE), {"visitor_id": [visitor_id], **fixed})


@queries.get("/pipes/<name>.json")
def read_pipe(name):
    """A report for whoever has a token for it, as the warehouse gives it."""
    caller, token = access.by_token()
    g.entry.step("authentication")
    pipe = metrics.pipe(name)
    if pipe.name not in token.pipes:
        raise errors.JwtInvalid("The query token is for another report.")
    given = {name: values for name, values in request.args.to_dict(flat=False).items() if name != "token"}
    if taken := sorted(given.keys() & token.fixed.keys()):
        raise errors.InvalidQuery(**{name: ["Fixed by the token."] for name in taken})
    data, _ = metrics.run(pipe, caller, token.fixed | given)
    g.entry.step("report")
    return bare(data)


read_pipe.scope = Scope.PIXEL_READ


@queries.route("/pipes/<name>.json", methods=["OPTIONS"])
def may_read_pipe(name):
    """What a browser asks before it sends a token as Bearer."""
    return "", 204


may_read_pipe.scope = None


@queries.after_request
def _let_any_site_read(response):
    """Let a page of any site read what is answered, errors too: a token is all it takes, and cookies are none."""
    response.headers["Access-Control-Allow-Origin"] = "*"
    if request.method == "OPTIONS":
        response.headers["Access-Control-Allow-Methods"] = "GET"
        response.headers["Access-Control-Allow-Headers"] = "Authorization"
        response.headers["Access-Control-Max-Age"] = "86400"
    else:
        response.headers["Access-Control-Expose-Headers"] = _SHOWN
    return response


def _minted(pipes, fixed):
    for pipe in pipes:
        _refuse_wrong(metrics.pipe(pipe), fixed)
    text, ends = tokens.mint(g.caller.key.id, g.caller.workspace_id, pipes, fixed)
    addresses = {pipe: f"{current_app.config['public_url']}/v0/pipes/{pipe}.json?token={text}" for pipe in pipes}
    if (length := max(map(len, addresses.values()))) > MOST_CHARACTERS:
        raise errors.InvalidBody(
            _body=[f"The token's url would have {length} characters, and at most {MOST_CHARACTERS} can be asked."]
        )
    facts = {"token": text, "pipe": pipes[0], "expires_at": clock.rfc3339(ends), "url": addresses[pipes[0]]}
    return answer(facts | ({"urls": addresses} if len(pipes) > 1 else {}), 201)


def _fixed():
    """The parameters in the body, each with the list of its values."""
    body.query(schemas.Nothing())
    idempotency.refuse()
    given = body.json()
    if not isinstance(given, dict):
        raise errors.InvalidBody(_body=["Must be a JSON object of parameters."])
    fixed = {name: value if isinstance(value, list) else [value] for name, value in given.items()}
    wrong = {
        name[:100]: ["Must be text, a number, or a list of them."] for name, v in fixed.items() if not _are_plain(v)
    }
    if wrong:
        raise errors.InvalidBody(**wrong)
    return {name: [value if type(value) is str else str(value) for value in values] for name, values in fixed.items()}


def _are_plain(values):
    return len(values) > 0 and all(type(value) in (str, int) for value in values)


def _refuse_wrong(pipe, fixed):
    """Refuse parameters that the report would refuse. What it requires may come with the question."""
    missing = {p.name: ["path:/", "payment"] if p.several else ["-"] for p in pipe.parameters if p.default is None}
    try:
        metrics.understood(pipe, g.caller, missing | fixed)
    except errors.InvalidQuery as refusal:
        raise errors.InvalidBody(**refusal.details) from None
