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
--
-- The buckets that are asked for come from the server, which knows the zones: their names, starts and, of the range
-- before, starts (-1 for none), in milliseconds. `edges` are all those starts, and the ends of both, in order. What lies
-- from the first edge to the last is the range that is read, and 24 hours around it for sessions.
WITH
    if({currency:String} != '', {currency:String}, ifNull((
        SELECT CAST(currency, 'String')
        FROM events
        WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)} AND is_payment(hit)
            AND is_within(hit, {since:UInt64}, {until:UInt64})
            AND {currency:String} = '' AND {metric:String} = 'revenue'
        GROUP BY currency
        ORDER BY count() DESC, currency
        LIMIT 1
    ), '')) AS money,
    (
        SELECT (groupArray(slot), groupArray(figure))
        FROM (
            SELECT
                roundDown(at(hit), {edges:Array(Int64)}) AS slot,
                if({metric:String} = 'visitors', toFloat64(uniqExactIf(visitor, visitor != 0)),
                if({metric:String} = 'pageviews', toFloat64(countIf(is_view(hit))),
                if({metric:String} = 'conversions', toFloat64(countIf(is_goal(hit))),
                toFloat64(sumIf(amount, is_payment(hit) AND currency = money))))) AS figure
            FROM kept_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                             since = hit_at({edges:Array(Int64)}[1]), until = hit_at({edges:Array(Int64)}[-1]),
                             bots = {bots:String}, filters = {filters:Array(String)})
            WHERE {metric:String} IN ('visitors', 'pageviews', 'conversions', 'revenue')
            GROUP BY slot

            UNION ALL

            SELECT
                roundDown(at(session[1]), {edges:Array(Int64)}) AS slot,
                if({metric:String} = 'sessions', toFloat64(count()),
                if({metric:String} = 'bounce_rate',
                   toFloat64(rate(countIf(length(session) = 1 AND is_view(session[1])), count())),
                toFloat64(mean_seconds(sum(at(session[-1]) - at(session[1])), count())))) AS figure
            FROM (
                SELECT arrayJoin(sessions_of(arraySort(groupArray(marked)), any(visitor))) AS session
                FROM asked_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                                  since = hit_at({edges:Array(Int64)}[1]), until = hit_at({edges:Array(Int64)}[-1]),
                                  bots = {bots:String}, filters = {filters:Array(String)})
                WHERE visitor != 0 AND {metric:String} IN ('sessions', 'bounce_rate', 'avg_seconds')
                GROUP BY person
            )
            WHERE is_from(session[1]) AND arrayExists(hit -> is_kept(hit), session)
                AND is_within(session[1], hit_at({edges:Array(Int64)}[1]), hit_at({edges:Array(Int64)}[-1]))
            GROUP BY slot
        )
    ) AS found
SELECT
    bucket,
    found.2[indexOf(found.1, start)]                                             AS value,
    if(previous_start < 0, NULL, found.2[indexOf(found.1, previous_start)])      AS previous_value
FROM (SELECT 1)
ARRAY JOIN
    {names:Array(String)} AS bucket,
    {starts:Array(Int64)} AS start,
    {previous_starts:Array(Int64)} AS previous_start
WHERE (
    SELECT count()
    FROM (
        SELECT 1
        FROM events
        WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)}
        LIMIT 1
    )
) > 0
ORDER BY start
