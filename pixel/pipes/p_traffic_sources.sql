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
        -- Each visitor's first event from a source is known, which costs less than to tell visitors apart; but a visitor
        -- of several websites is gathered several times.
        countIf(nth = 1 AND counts AND visitor != 0 AND length({websites:Array(String)}) = 1)
            + uniqExactIf(visitor, counts AND visitor != 0 AND length({websites:Array(String)}) != 1) AS visitors,
        countIf(begins)                                 AS sessions,
        rate(countIf(begins AND hit = head AND is_view(hit) AND parts(next, visitor)), sessions) AS bounce_rate,
        countIf(counts AND is_goal(hit))                AS conversions,
        countIf(counts AND is_payment(hit))             AS payments,
        -- Amounts come as whole ten-thousandths, because numbers are gathered faster than decimals.
        toDecimal128(sumIf(toInt128(amount), counts), 4) / 10000 AS revenue
    FROM (
        SELECT
            visitor, hit, head, origin, next, amount, nth,
            is_kept(hit) AND is_within(hit, {since:UInt64}, {until:UInt64}) AS counts,
            -- A session is there from the first of its events that is kept.
            is_kept(hit) AND nth_of_session = 1 AND visitor != 0 AND is_within(head, {since:UInt64}, {until:UInt64}) AS begins
        FROM (
            SELECT
                visitor,
                groupArray(marked)                      AS unsorted,
                arraySort(unsorted)                     AS hits,
                pauses_of(hits)                         AS pauses,
                heads_by(hits, pauses, visitor)         AS heads,
                arrayFill((origin, hit, head) -> hit = head, in_order(groupArray(origin), unsorted), hits, heads) AS origins,
                in_order(groupArray(if(is_payment(hit) AND currency = money, reinterpretAsInt64(amount), 0)), unsorted) AS amounts
            FROM (
                SELECT
                    visitor, hit, currency, amount,
                    cityHash64(attribution) AS origin,
                    person(visitor, website_id) AS person,
                    marked({filters:Array(String)}, hit, path, hostname, referrer, utm_source, utm_medium, utm_campaign,
                        utm_term, utm_content, country, device, browser, os, language, llm_engine, goal, channel, source,
                        medium, campaign) AS marked
                FROM events
                WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)}
                    AND is_asked(hit, _partition_id, bot, {since:UInt64}, {until:UInt64}, {bots:String})
            )
            GROUP BY person, visitor
        )
        ARRAY JOIN
            hits AS hit, heads AS head, origins AS origin, amounts AS amount,
            arrayShiftLeft(pauses, 1, 1800001) AS next,
            arrayEnumerateUniq(arrayMap((hit, head, origin) ->
                if(is_kept(hit) AND is_from(head) AND is_within(hit, {since:UInt64}, {until:UInt64}), origin, 0),
                hits, heads, origins)) AS nth,
            firsts_of(hits, heads) AS nth_of_session
        -- Any other view adds nothing.
        WHERE is_from(head) AND (nth = 1 OR nth_of_session = 1 OR NOT is_view(hit))
    )
    GROUP BY origin
    HAVING sessions > 0 OR conversions > 0 OR payments > 0
) AS figures
INNER JOIN (
    SELECT
        cityHash64(attribution) AS origin,
        named(attribution) AS own,
        own.channel AS channel, own.source AS source, own.medium AS medium, own.campaign AS campaign
    FROM events
    WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)}
    GROUP BY attribution
) AS names USING (origin)
ORDER BY visitors DESC, sessions DESC, channel, source, medium, campaign
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
