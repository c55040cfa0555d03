-- Every event, of whatever name, in the order in which reports read: one visitor's events side by side and in time,
-- so that sessions need no sort and distinct visitors no hash of strings. One table, because a session spans names:
-- the three names a report may ask for are the views below.

CREATE TABLE IF NOT EXISTS events (
    workspace_id   LowCardinality(String),
    website_id     LowCardinality(String),
    name           LowCardinality(String),
    event_id       String,
    event_key      FixedString(32),
    request_id     String,
    timestamp      DateTime64(3, 'UTC'),
    received_at    DateTime64(3, 'UTC'),
    visitor_id     String,
    visitor        UInt64 DEFAULT if(visitor_id = '', 0, sipHash64(visitor_id)),
    session_id     String,
    user_id        String,
    hostname       LowCardinality(String),
    path           LowCardinality(String),
    title          LowCardinality(String),
    referrer       LowCardinality(String),
    referrer_url   String,
    channel        LowCardinality(String),
    source         LowCardinality(String),
    medium         LowCardinality(String),
    campaign       LowCardinality(String),
    utm_source     LowCardinality(String),
    utm_medium     LowCardinality(String),
    utm_campaign   LowCardinality(String),
    utm_term       LowCardinality(String),
    utm_content    LowCardinality(String),
    gclid          String,
    fbclid         String,
    msclkid        String,
    ttclid         String,
    llm_engine     LowCardinality(String),
    country        LowCardinality(String),
    device         LowCardinality(String),
    browser        LowCardinality(String),
    os             LowCardinality(String),
    language       LowCardinality(String),
    screen         LowCardinality(String),
    bot            LowCardinality(String),
    goal           LowCardinality(String),
    value          Nullable(Float64),
    amount         Decimal(18, 4),
    currency       LowCardinality(String),
    transaction_id String,
    provider       LowCardinality(String),
    props          Map(LowCardinality(String), String),
    -- What settles the order of one visitor's events of one millisecond. An import says it: logs know seconds only.
    place          UInt32 DEFAULT CRC32(event_id),
    -- When, in which order and what, in one number that sorts as events do: 41 bits of milliseconds since 2010, 19 bits
    -- of `place`, 2 bits of kind (0 pageview, 1 custom, 2 payment), 2 bits that views fill in.
    hit            UInt64 DEFAULT bitOr(
        bitShiftLeft(toUInt64(toUnixTimestamp64Milli(timestamp) - 1262304000000), 23),
        bitOr(bitShiftLeft(toUInt64(bitAnd(place, 524287)), 4),
              bitShiftLeft(toUInt64(name = 'custom') + 2 * (name = 'payment'), 2))),
    -- Channel, source, medium and campaign as one word, to be told apart by it and read from it (see `named`).
    attribution    LowCardinality(String) DEFAULT toString((channel, source, medium, campaign)),
    INDEX by_event_id event_id TYPE bloom_filter(0.001) GRANULARITY 4,
    INDEX by_user_id user_id TYPE bloom_filter(0.001) GRANULARITY 4,
    INDEX by_received_at received_at TYPE minmax GRANULARITY 4
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (workspace_id, website_id, visitor, timestamp, event_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1,
    cleanup_delay_period = 1, cleanup_delay_period_random_add = 0, max_cleanup_delay_period = 2;

ALTER TABLE events
    ADD COLUMN IF NOT EXISTS place UInt32 DEFAULT CRC32(event_id),
    ADD COLUMN IF NOT EXISTS hit UInt64 DEFAULT bitOr(
        bitShiftLeft(toUInt64(toUnixTimestamp64Milli(timestamp) - 1262304000000), 23),
        bitOr(bitShiftLeft(toUInt64(bitAnd(place, 524287)), 4),
              bitShiftLeft(toUInt64(name = 'custom') + 2 * (name = 'payment'), 2))),
    DROP COLUMN IF EXISTS origin,
    ADD COLUMN IF NOT EXISTS attribution LowCardinality(String) DEFAULT toString((channel, source, medium, campaign)),
    ADD INDEX IF NOT EXISTS by_user_id user_id TYPE bloom_filter(0.001) GRANULARITY 4;

CREATE OR REPLACE VIEW pageviews AS SELECT * FROM events WHERE name = 'pageview';

CREATE OR REPLACE VIEW custom_goals AS SELECT * FROM events WHERE name = 'custom';

CREATE OR REPLACE VIEW visitor_payments AS SELECT * FROM events WHERE name = 'payment';
