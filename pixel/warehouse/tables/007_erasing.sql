-- What an erasure is about while it runs: ids of visitors, events and requests. A mutation keeps its own text in the
-- table's folder, so that must not name anybody; this table is in memory and empty afterwards.

CREATE TABLE IF NOT EXISTS erasing (what LowCardinality(String), id String) ENGINE = Memory;
