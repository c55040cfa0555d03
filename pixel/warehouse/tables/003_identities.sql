-- Who a visitor said to be: one row for each call of identify. The newest row of a visitor speaks for it.

CREATE TABLE IF NOT EXISTS identities (
    workspace_id LowCardinality(String),
    website_id   LowCardinality(String),
    visitor_id   String,
    visitor      UInt64 DEFAULT sipHash64(visitor_id),
    user_id      String,
    email        String,
    traits       Map(LowCardinality(String), String),
    request_id   String,
    received_at  DateTime64(3, 'UTC')
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (workspace_id, website_id, visitor, received_at)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1,
    cleanup_delay_period = 1, cleanup_delay_period_random_add = 0, max_cleanup_delay_period = 2;
