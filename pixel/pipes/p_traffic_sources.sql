-- title: Traffic sources
-- about: Where sessions came from, by visitors: the source of a session is that of its first event. A row for each
--   source that has a session starting in the range, or a conversion or payment in the range.
-- currency: default "". Count revenue in this currency; empty is the one with the most payments.
-- returns channel: Channel of the session, such as search or direct.
-- returns source: Source of the session.
-- returns medium: Medium of the session.
-- returns campaign: Campaign of the session.
-- returns visitors: Distinct visitors with an event in the range, in a session from this source.
-- returns sessions: Sessions starting in the range.
-- returns bounce_rate: Share of those sessions that are one pageview and nothing else, 0 to 1.
-- returns conversions: Goals reached in the range.
-- returns revenue: Payments in the range less refunds, in one currency.
-- returns currency: That currency; empty when there were no payments.
WITH
    if({currency:String} != '', {currency:String}, assumeNotNull((
        SELECT any(currency)
        FROM (
            SELECT currency
            FROM kept_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                             since = {since:DateTime64(3, 'UTC')}, until = {until:DateTime64(3, 'UTC')},
                             bots = {bots:String}, filters = {filters:Array(String)})
            WHERE name = 'payment' AND {currency:String} = ''
            GROUP BY currency
            ORDER BY count() DESC, currency
            LIMIT 1
        )
    ))) AS money
SELECT
    origin.1                                        AS channel,
    origin.2                                        AS source,
    origin.3                                        AS medium,
    origin.4                                        AS campaign,
    uniqExactIf(visitor, visitor != 0 AND present)  AS visitors,
    countIf(started)                                AS sessions,
    rate(countIf(started AND bounced), sessions)    AS bounce_rate,
    sum(reached)                                    AS conversions,
    sum(paid)                                       AS revenue,
    money                                           AS currency
FROM (
    SELECT
        visitor,
        hits.4[1]                                              AS origin,
        arrayExists(hit -> hit.5 AND hit.6, hits)              AS present,
        hits.5[1] AND arrayExists(hit -> hit.6, hits)          AS started,
        length(hits) = 1 AND hits.3[1] = 'pageview'            AS bounced,
        arrayCount(hit -> hit.3 = 'custom' AND hit.5 AND hit.6, hits)  AS reached,
        arrayCount(hit -> hit.3 = 'payment' AND hit.5 AND hit.6, hits) AS payments,
        arraySum(hit -> if(hit.5 AND hit.6, hit.8, 0), hits)   AS paid
    FROM (
        SELECT
            visitor,
            arrayJoin(sessions_of(groupArray((
                at, event_id, name, (channel, source, medium, campaign), in_range, kept, source_kept,
                if(currency = money, amount, 0))))) AS hits
        FROM counted_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                            since = {since:DateTime64(3, 'UTC')}, until = {until:DateTime64(3, 'UTC')},
                            bots = {bots:String}, filters = {filters:Array(String)})
        WHERE visitor != 0
        GROUP BY website_id, visitor
    )
    WHERE hits.7[1]

    UNION ALL

    SELECT
        0, (channel, source, medium, campaign), 0, 0, 0,
        name = 'custom', name = 'payment', if(currency = money, amount, 0)
    FROM counted_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                        since = {since:DateTime64(3, 'UTC')}, until = {until:DateTime64(3, 'UTC')},
                        bots = {bots:String}, filters = {filters:Array(String)})
    WHERE visitor = 0 AND name IN ('custom', 'payment') AND in_range AND kept AND source_kept
)
GROUP BY origin
HAVING sessions > 0 OR conversions > 0 OR sum(payments) > 0
ORDER BY visitors DESC, sessions DESC, channel, source, medium, campaign
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
