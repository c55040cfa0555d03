-- title: Attributed revenue
-- about: Which sources earned the payments in the range. A payment is credited to the sessions of its visitor on the same
--   website that began within the window before it, its own among them; currencies are kept apart. Filters by channel,
--   source, medium, campaign and assistant choose among the sessions that are credited, all others ask the payment itself.
-- model: one of first_click, last_click, last_click_non_direct, linear, position_based, time_decay; default last_click.
--   Who gets the credit: the first session, the last, the last that did not come directly if there is one, all alike, the
--   first and the last 40 % each and those between the rest, or each half as much as one seven days later.
-- window_days: 1..90, default 30. How long before the payment a session may have begun.
-- returns channel: Channel of the session.
-- returns source: Source of the session.
-- returns medium: Medium of the session.
-- returns campaign: Campaign of the session.
-- returns revenue: What it is credited with, refunds taken off. A refund is credited like a payment of its own moment,
--   because nothing says which payment it takes back.
-- returns payments: Payments it is credited with, in parts where they are shared; refunds and payments of 0 are not counted.
-- returns visitors: Distinct visitors whose payments, refunds too, it is credited with.
-- returns currency: The currency of the revenue.
SELECT channel, source, medium, campaign, revenue, payments, visitors, currency
FROM (
    SELECT
        origin,
        currency,
        -- Floats would give another sum in another order.
        toFloat64(round(sum(toDecimal128(amount * share, 10)), 4)) AS revenue,
        toFloat64(round(sumIf(toDecimal128(share, 10), amount > 0), 4)) AS payments,
        uniqExactIf(visitor, visitor != 0)          AS visitors
    FROM (
        SELECT
            visitor,
            payment.2                               AS amount,
            payment.3                               AS currency,
            arrayFilter((touch, last) -> if(visitor = 0, touch.1 = payment.1, touch.1 <= payment.1
                AND (last OR at(payment.1) - at(touch.1) <= {window_days:UInt32} * 86400000)),
                touches,
                arrayMap(next -> next > payment.1, arrayShiftLeft(touches.1, 1, 18446744073709551615))) AS credited,
            length(credited)                        AS n,
            arrayLastIndex(touch -> NOT touch.3, credited) AS not_direct,
            arrayMap((touch, place) -> toFloat64(
                if({model:String} = 'first_click', place = 1,
                if({model:String} = 'last_click', place = n,
                if({model:String} = 'last_click_non_direct', place = if(not_direct = 0, n, not_direct),
                if({model:String} = 'linear', 1,
                if({model:String} = 'position_based', if(n <= 2, 1, if(place IN (1, n), 0.4, 0.2 / (n - 2))),
                exp2((at(touch.1) - at(payment.1)) / 604800000))))))),
                credited, arrayEnumerate(credited)) AS weights
        FROM (
            SELECT
                any(visitor)                        AS visitor,
                groupArray(marked)                  AS unsorted,
                arraySort(unsorted)                 AS hits,
                in_order(groupArray(cityHash64(attribution)), unsorted) AS origins,
                in_order(groupArray(channel = 'Direct'), unsorted) AS directs,
                arrayFilter((touch, pause, nth) -> nth = 1 OR parts(pause, visitor),
                    arrayZip(hits, origins, directs), pauses_of(hits), arrayEnumerate(hits)) AS touches,
                groupArrayIf((marked, toFloat64(amount), currency), is_payment(hit) AND is_kept(marked)
                    AND is_within(hit, {since:UInt64}, {until:UInt64})) AS paid
            FROM asked_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                              since = hit_at(at({since:UInt64}) - {window_days:UInt32} * 86400000), until = {until:UInt64},
                              bots = {bots:String}, filters = {filters:Array(String)})
            GROUP BY person
            HAVING notEmpty(paid)
        )
        ARRAY JOIN paid AS payment
    )
    ARRAY JOIN
        arrayMap(touch -> touch.1, credited)        AS touched,
        arrayMap(touch -> touch.2, credited)        AS origin,
        arrayMap(weight -> weight / arraySum(weights), weights) AS share
    WHERE share > 0 AND is_from(touched)
    GROUP BY origin, currency
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
ORDER BY revenue DESC, currency, channel, source, medium, campaign
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
