-- What came for a website and was not counted, and why: a reason of events.DROPS, how many events, and the request.

CREATE TABLE IF NOT EXISTS drops (
    workspace_id LowCardinality(String),
    website_id   LowCardinality(String),
    at           DateTime64(3, 'UTC'),
    reason       LowCardinality(String),
    events       UInt32,
    request_id   String
)
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(at)
ORDER BY (workspace_id, website_id, at)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1,
    cleanup_delay_period = 1, cleanup_delay_period_random_add = 0, max_cleanup_delay_period = 2;
