"""The map of this house. Four ideas and no fifth.

Doors are blueprints: `api` (JSON, keys; and query tokens), `collect` (the browser pixel), `front` (signing in, one-
time links), `analytics`, `settings`, `requests`, `support` (pages, session), `docs`. A door parses, calls one noun,
renders, and never imports another door. What all pages share is in `pages`: the form, the form's cookie, the words for
moments; how every door reads events and bodies, in `intake`.

Nouns are modules here at the root, one per thing, holding its table and its verbs: `workspaces`, `members`, `sessions`,
`links`, `mail`, `websites`, `keys`, `tokens`, `notices` (keys and websites that need somebody), `events`, `identities`,
`salts` (ids for browsers that keep none), `metrics`, `visitors`, `calls` (what the request log tells of the API's use),
`audit`, `erasure`. They know nothing of HTTP, save the two that are about the request: `access` (who calls, and what
they may) and `request_log` (what became of each call). `sources`, `agents`, `currencies`, `geo`, `buckets` (the
calendar) and `redaction` are what nouns know by heart; `charts` turns numbers into what a template draws. What reads
outside text uses `idn` (host names), `percent` (escapes), `letters` (the case of ASCII tokens), `nearest` (misspelt
names) and `text_cache`: their cost and memory are bounded for any text.

Catalogues declare each fact once: error classes in `errors`, `Scope` in `access`, reports as files in `pipes/`,
settings in `config.py`.

Stores: the relational `database` (SQLite, or `postgresql` for several servers), the `journal`, the `warehouse` (the
embedded engine, asked through the engine process, or a ClickHouse server or cluster), the rate-limit `counters`
(SQLite or Redis), the last good `answers`, and `telemetry`, what is counted of the server itself (`health` shows it).
A store that does not answer is left alone for a moment (`breaker`). Under gunicorn (`serving`) small requests are
answered together, a step at a time (`turns`), and written at once. What only one of several servers may do is done by
the one that has the lease (`leases`).

Imports point down: app -> doors -> nouns that use nouns -> nouns -> stores -> errors.

The way of one event: request_log.begin -> access.require (-> keys.find) -> api/events.py -> events.prepare, keep ->
journal.append -> request_log.finish; then, in the engine: loader -> warehouse.

The way of a click on Rotate: request_log.begin -> pages.refuse_other_sites -> access.enter (-> sessions.find) ->
settings/api_keys.py -> form.sent (CSRF) -> keys.rotate (+ audit) -> 303 -> keys.reveal, once.
"""
