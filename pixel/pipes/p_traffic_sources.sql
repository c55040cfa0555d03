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
    if({currency:String} != '', {currency:String}, ifNull((
        SELECT CAST(currency, 'String')
        FROM events
        WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)} AND is_payment(hit)
            AND is_within(hit, {since:UInt64}, {until:UInt64})
            AND {currency:String} = ''
        GROUP BY currency
        ORDER BY count() DESC, currency
        LIMIT 1
    ), '')) AS money
SELECT channel, source, medium, campaign, visitors, sessions, bounce_rate, conversions, revenue, money AS currency
FROM (
    SELECT
        origin,
        -- Each visitor's first session from a source is known, which costs less than to tell visitors apart; but a
        -- visitor of several websites is gathered several times.
        countIf(nth = 1 AND present AND visitor != 0 AND length({websites:Array(String)}) = 1)
            + uniqExactIf(visitor, present AND visitor != 0 AND length({websites:Array(String)}) != 1) AS visitors,
        countIf(started)                                AS sessions,
        rate(countIf(started AND length(session) = 1 AND is_view(session[1])), sessions) AS bounce_rate,
        sum(arrayCount(hit -> is_goal(hit), counted))   AS conversions,
        sum(arrayCount(hit -> is_payment(hit), counted)) AS payments,
        toDecimal64(sum(arraySum(amounts)), 4) / 10000  AS revenue
    FROM (
        SELECT
            visitor, session, counted, amounts, origin, nth, present,
            visitor != 0 AND is_within(session[1], {since:UInt64}, {until:UInt64})
                AND arrayExists(hit -> is_kept(hit), session) AS started
        FROM (
            SELECT
                any(visitor)                            AS visitor,
                groupArray(marked)                      AS unsorted,
                arraySort(unsorted)                     AS hits,
                in_order(groupArray(origin), unsorted)  AS origins,
                in_order(groupArray(if(is_payment(hit) AND currency = money, toInt64(amount * 10000), 0)), unsorted) AS paid,
                starts_of(hits, nexts_of(hits), visitor) AS starts,
                -- Of each hit that counts itself, of the others 0.
                arrayMap(hit -> if(is_kept(hit) AND is_within(hit, {since:UInt64}, {until:UInt64}), hit, 0), hits) AS counting,
                arraySplit((hit, start) -> start, counting, starts) AS counted_of,
                arrayMap(counted -> arrayExists(hit -> hit != 0, counted), counted_of) AS present_in,
                arrayFilter((origin, start) -> start, origins, starts) AS sources
            FROM (
                SELECT
                    visitor, hit, origin, currency, amount,
                    person(visitor, website_id) AS person,
                    marked({filters:Array(String)}, hit, path, hostname, referrer, utm_source, utm_medium, utm_campaign,
                        utm_term, utm_content, country, device, browser, os, language, llm_engine, goal, channel, source,
                        medium, campaign) AS marked
                FROM events
                WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)}
                    AND is_asked(hit, _partition_id, bot, {since:UInt64}, {until:UInt64}, {bots:String})
            )
            GROUP BY person
        )
        ARRAY JOIN
            arraySplit((hit, start) -> start, hits, starts) AS session,
            arraySplit((amount, start) -> start, arrayMap((amount, hit) -> if(hit = 0, 0, amount), paid, counting), starts) AS amounts,
            counted_of AS counted,
            present_in AS present,
            sources AS origin,
            arrayEnumerateUniq(arrayMap((source, present) -> if(present, source, 0), sources, present_in)) AS nth
        WHERE is_from(session[1])
    )
    GROUP BY origin
    HAVING sessions > 0 OR conversions > 0 OR payments > 0
) AS figures
INNER JOIN (
    SELECT origin, channel, source, medium, campaign
    FROM events
    WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)}
    LIMIT 1 BY origin
) AS names USING (origin)
ORDER BY visitors DESC, sessions DESC, channel, source, medium, campaign
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
