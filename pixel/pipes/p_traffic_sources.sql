-- title: Traffic sources
-- about: Where sessions came from, by visitors: the source of a session is that of its first event. A row for each
--   source that has a session starting in the range, or a conversion or payment in the range.
-- currency: default "". Count revenue in this currency; empty is the one with the most payments in the range.
-- returns channel: Channel of the session, such as search or direct.
-- returns source: Source of the session.
-- returns medium: Medium of the session.
-- returns campaign: Campaign of the session.
-- returns visitors: Distinct visitors with an event in the range, in a session from this source.
-- returns sessions: Sessions starting in the range.
-- returns bounce_rate: Share of those sessions that are one pageview and nothing else, 0 to 1.
-- returns conversions: Goals reached in the range.
-- returns revenue: Payments in the range less refunds, in one currency.
-- returns currency: That currency; empty when there were no payments in the range.
WITH
    if({currency:String} != '', {currency:String}, assumeNotNull((
        SELECT any(currency)
        FROM (
            SELECT currency
            FROM events
            WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)} AND is_payment(hit)
                AND is_within(hit, {since:DateTime64(3, 'UTC')}, {until:DateTime64(3, 'UTC')})
                AND {currency:String} = ''
            GROUP BY currency
            ORDER BY count() DESC, currency
            LIMIT 1
        )
    ))) AS money
SELECT channel, source, medium, campaign, visitors, sessions, bounce_rate, conversions, revenue, money AS currency
FROM (
    SELECT
        origin,
        uniqExactIf(visitor, visitor != 0 AND present)  AS visitors,
        countIf(started)                                AS sessions,
        rate(countIf(started AND length(session) = 1 AND is_view(session[1])), sessions) AS bounce_rate,
        sum(arrayCount(hit -> is_goal(hit), counted))   AS conversions,
        sum(arrayCount(hit -> is_payment(hit), counted)) AS payments,
        toDecimal64(sum(arraySum((hit, amount) -> if(is_kept(hit) AND is_within(hit, {since:DateTime64(3, 'UTC')}, {until:DateTime64(3, 'UTC')}), amount, 0),
            session, amounts)), 4) / 10000              AS revenue
    FROM (
        SELECT
            visitor, session, amounts, origin,
            arrayFilter(hit -> is_kept(hit) AND is_within(hit, {since:DateTime64(3, 'UTC')}, {until:DateTime64(3, 'UTC')}), session) AS counted,
            notEmpty(counted)                           AS present,
            visitor != 0 AND is_within(session[1], {since:DateTime64(3, 'UTC')}, {until:DateTime64(3, 'UTC')})
                AND arrayExists(hit -> is_kept(hit), session) AS started
        FROM (
            SELECT
                any(visitor)                            AS visitor,
                groupArray(marked)                      AS unsorted,
                arraySort(unsorted)                     AS hits,
                in_order(groupArray(origin), unsorted)  AS origins,
                in_order(groupArray(if(is_payment(hit) AND currency = money, toInt64(amount * 10000), 0)), unsorted) AS paid,
                starts_of(hits, nexts_of(hits), visitor) AS starts
            FROM asked_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                              since = {since:DateTime64(3, 'UTC')}, until = {until:DateTime64(3, 'UTC')},
                              bots = {bots:String}, filters = {filters:Array(String)})
            GROUP BY person
        )
        ARRAY JOIN
            arraySplit((hit, start) -> start, hits, starts)        AS session,
            arraySplit((amount, start) -> start, paid, starts)     AS amounts,
            arrayFilter((origin, start) -> start, origins, starts) AS origin
        WHERE is_from(session[1])
    )
    GROUP BY origin
    HAVING sessions > 0 OR conversions > 0 OR payments > 0
) AS figures
INNER JOIN (
    SELECT origin, any(channel) AS channel, any(source) AS source, any(medium) AS medium, any(campaign) AS campaign
    FROM events
    WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)}
    GROUP BY origin
) AS names USING (origin)
ORDER BY visitors DESC, sessions DESC, channel, source, medium, campaign
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
