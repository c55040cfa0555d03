-- The request log: one row a request, found by its id. A request id begins with its time, so the order by id is the
-- order in time, and a look-up reads one granule of one day.

CREATE TABLE IF NOT EXISTS requests (
    request_id        String,
    at                DateTime64(3, 'UTC'),
    workspace_id      LowCardinality(String),
    key_id            LowCardinality(String),
    method            LowCardinality(String),
    path              String,
    query             String,
    route             LowCardinality(String),
    status            UInt16,
    code              LowCardinality(String),
    milliseconds      Float32,
    steps             Array(Tuple(String, Float32)),
    scope_required    LowCardinality(String),
    scopes            Array(LowCardinality(String)),
    rate_limit        UInt32,
    rate_remaining    UInt32,
    address           String,
    user_agent        String,
    client_request_id String,
    request_body      String,
    response_body     String,
    event_ids         Array(String),
    exception         String,
    user_id           LowCardinality(String),
    INDEX by_event_ids event_ids TYPE bloom_filter(0.001) GRANULARITY 8
)
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(at)
ORDER BY request_id
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1,
    cleanup_delay_period = 1, cleanup_delay_period_random_add = 0, max_cleanup_delay_period = 2,
    index_granularity = 1024;

ALTER TABLE requests
    ADD COLUMN IF NOT EXISTS user_id LowCardinality(String),
    ADD INDEX IF NOT EXISTS by_event_ids event_ids TYPE bloom_filter(0.001) GRANULARITY 8;
