"""The map of this house. Four ideas and no fifth.

Doors are blueprints: `api` (JSON, keys), `front` (health), `docs`. A door parses, calls one noun, renders, and never
imports another door.

Nouns are modules here at the root, one per thing, holding its table and its verbs: `workspaces`, `members`, `websites`,
`keys`, `events`, `identities`, `metrics`, `audit`. They know nothing of HTTP, save the two that are about the request:
`access` (who calls, and what they may) and `request_log` (what became of each call). `sources`, `agents`,
`currencies` and `redaction` are what nouns know by heart.

Catalogues declare each fact once: error classes in `errors`, `Scope` in `access`, reports as files in `pipes/`,
settings in `config.py`.

Stores: the relational `database`, the `journal`, the `warehouse` (the embedded engine, asked through the engine
process), the rate-limit `counters` and the last good `answers`.

Imports point down: app -> doors -> nouns that use nouns -> nouns -> stores -> errors.

The way of one event: request_log.begin -> access.require (-> keys.find) -> api/events.py -> events.prepare, keep ->
journal.append -> request_log.finish; then, in the engine: loader -> warehouse.
"""
