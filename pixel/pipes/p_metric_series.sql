-- title: Metric over time
-- about: One figure in each minute, hour, day, week or month of the range, in the website's time zone. Buckets without
--   events are there with 0 once the website has any event at all, up to the bucket of this moment.
-- metric: one of visitors, sessions, pageviews, bounce_rate, avg_seconds, conversions, revenue; default visitors. The
--   figure. Sessions, their bounce rate and mean length stand in the bucket in which the session starts.
-- granularity: one of minute, hour, day, week, month; default day. Length of a bucket; weeks start on Monday.
-- compare: one of none, previous; default none. With previous, also the figure of the range before, of the same length.
-- currency: default "". Count revenue in this currency; empty is the one with the most payments in the range.
-- returns bucket: Start of the bucket: a date, or for minutes and hours a local time with its offset from UTC.
-- returns value: The figure; 0 where there is nothing to count.
-- returns previous_value: The figure in the bucket at the same place of the range before; null when not asked for.
WITH
    toUnixTimestamp64Milli({since:DateTime64(3, 'UTC')}) AS since,
    least(toUnixTimestamp64Milli({until:DateTime64(3, 'UTC')}) - 1,
          toUnixTimestamp64Milli({now:DateTime64(3, 'UTC')})) AS last,
    -- As long before by the clock on the wall, so that days stay days when clocks change.
    if({compare:String} = 'previous',
       time_of(clock_at({since:DateTime64(3, 'UTC')}, {timezone:String})
                   - toIntervalMillisecond(
                       toUnixTimestamp64Milli(clock_at({until:DateTime64(3, 'UTC')}, {timezone:String}))
                       - toUnixTimestamp64Milli(clock_at({since:DateTime64(3, 'UTC')}, {timezone:String}))),
               {timezone:String}),
       {since:DateTime64(3, 'UTC')}) AS earliest,
    if({currency:String} != '', {currency:String}, assumeNotNull((
        SELECT any(currency)
        FROM (
            SELECT currency
            FROM kept_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                             since = {since:DateTime64(3, 'UTC')}, until = {until:DateTime64(3, 'UTC')},
                             bots = {bots:String}, filters = {filters:Array(String)})
            WHERE name = 'payment' AND {currency:String} = '' AND {metric:String} = 'revenue'
            GROUP BY currency
            ORDER BY count() DESC, currency
            LIMIT 1
        )
    ))) AS money
SELECT
    bucket_name(anyIf(slot, asked), {granularity:String})       AS bucket,
    anyIf(figure, asked)                                        AS value,
    if(countIf(NOT asked) = 0, NULL, anyIf(figure, NOT asked))  AS previous_value
FROM (
    SELECT asked, slot, figure, row_number() OVER (PARTITION BY asked ORDER BY slot.1 - slot.2) AS place
    FROM (
        SELECT DISTINCT
            time >= since AS asked,
            bucket_of(fromUnixTimestamp64Milli(time, 'UTC'), {granularity:String}, {timezone:String}) AS slot
        FROM (
            SELECT arrayJoin(arrayConcat(
                times_between(toUnixTimestamp64Milli(earliest), since - 1, {granularity:String}),
                times_between(since, last, {granularity:String}))) AS time
        )
        WHERE (
            SELECT count()
            FROM (
                SELECT 1
                FROM events
                WHERE workspace_id = {workspace:String} AND has({websites:Array(String)}, website_id)
                LIMIT 1
            )
        ) > 0
    ) AS slots
    LEFT JOIN (
        SELECT
            at >= since AS asked,
            bucket_of(timestamp, {granularity:String}, {timezone:String}) AS slot,
            if({metric:String} = 'visitors', toFloat64(uniqExactIf(visitor, visitor != 0)),
            if({metric:String} = 'pageviews', toFloat64(countIf(name = 'pageview')),
            if({metric:String} = 'conversions', toFloat64(countIf(name = 'custom')),
            toFloat64(sumIf(amount, name = 'payment' AND currency = money))))) AS figure
        FROM kept_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                         since = earliest, until = {until:DateTime64(3, 'UTC')},
                         bots = {bots:String}, filters = {filters:Array(String)})
        WHERE {metric:String} IN ('visitors', 'pageviews', 'conversions', 'revenue')
        GROUP BY asked, slot

        UNION ALL

        SELECT
            hits.1[1] >= since AS asked,
            bucket_of(fromUnixTimestamp64Milli(hits.1[1], 'UTC'), {granularity:String}, {timezone:String}) AS slot,
            if({metric:String} = 'sessions', toFloat64(count()),
            if({metric:String} = 'bounce_rate', toFloat64(rate(countIf(length(hits) = 1 AND hits.3[1]), count())),
            toFloat64(mean_seconds(sum(hits.1[-1] - hits.1[1]), count())))) AS figure
        FROM (
            SELECT arrayJoin(sessions_of(groupArray(
                (at, event_id, name = 'pageview', in_range, kept, source_kept)))) AS hits
            FROM counted_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                                since = earliest, until = {until:DateTime64(3, 'UTC')},
                                bots = {bots:String}, filters = {filters:Array(String)})
            WHERE visitor != 0 AND {metric:String} IN ('sessions', 'bounce_rate', 'avg_seconds')
            GROUP BY website_id, visitor
        )
        WHERE hits.4[1] AND has(hits.5, 1) AND hits.6[1]
        GROUP BY asked, slot
    ) AS figures USING (asked, slot)
)
GROUP BY place
HAVING countIf(asked) > 0
ORDER BY place
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
