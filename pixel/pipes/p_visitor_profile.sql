-- title: Visitor
-- about: One row about a visitor, over all visitor ids that were identified as the same user; none without an event in
--   the range.
-- visitor_id: required. The visitor; any of their ids.
-- returns visitor_id: The id that was asked for.
-- returns visitor_ids: All ids of the same user, this one among them.
-- returns first_seen: Time of the first event in the range, in UTC.
-- returns last_seen: Time of the last event in the range, in UTC.
-- returns sessions: Sessions starting in the range, each of one visitor id on one website.
-- returns pageviews: Pageviews in the range.
-- returns events: Events in the range.
-- returns country: The last known.
-- returns device: The last known.
-- returns browser: The last known.
-- returns os: The last known.
-- returns language: The last known.
-- returns llm_engine: The first AI assistant that sent them; empty if none did.
-- returns channel: Channel of the first event.
-- returns source: Source of the first event.
-- returns medium: Medium of the first event.
-- returns campaign: Campaign of the first event.
-- returns referrer: Referring host of the first event.
-- returns revenue: Payments in the range less refunds, in one currency.
-- returns currency: That currency, the one with most of their payments in the range, whatever the filters; empty
--   without payments.
-- returns user_ids: The user ids they were identified by, at any time, and those of the events.
-- returns emails: The e-mail addresses they were identified by, at any time.
-- returns traits: What was last told of them, trait by trait.
WITH
    (
        SELECT any(currency)
        FROM (
            SELECT currency
            FROM events
            WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)}
                AND visitor IN (SELECT sipHash64(arrayJoin({linked:Array(String)}))) AND is_payment(hit)
                AND is_within(hit, {since:UInt64}, {until:UInt64})
            GROUP BY currency
            ORDER BY count() DESC, currency
            LIMIT 1
        )
    ) AS money,
    (
        SELECT (arraySort(groupUniqArrayIf(user_id, user_id != '')), arraySort(groupUniqArrayIf(email, email != '')),
                arraySort(one -> (one.1, one.2), groupArray((received_at, request_id, traits))).3)
        FROM identities
        WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)}
            AND visitor IN (SELECT sipHash64(arrayJoin({linked:Array(String)})))
    ) AS known,
    assumeNotNull((
        SELECT sum(arrayCount(session -> is_from(session[1]) AND arrayExists(hit -> is_kept(hit), session)
            AND is_within(session[1], {since:UInt64}, {until:UInt64}), visits))
        FROM (
            SELECT sessions_of(arraySort(groupArray(marked)), any(visitor)) AS visits
            FROM asked_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                              since = {since:UInt64}, until = {until:UInt64},
                              bots = {bots:String}, filters = {filters:Array(String)})
            WHERE visitor IN (SELECT sipHash64(arrayJoin({linked:Array(String)})))
            GROUP BY person
        )
    )) AS started
SELECT
    {visitor_id:String}                                         AS visitor_id,
    {linked:Array(String)}                                      AS visitor_ids,
    iso(time_of_hit(min(hit)))                                  AS first_seen,
    iso(time_of_hit(max(hit)))                                  AS last_seen,
    started                                                     AS sessions,
    countIf(is_view(hit))                                       AS pageviews,
    count()                                                     AS events,
    argMaxIf(event.country, hit, event.country != '')           AS country,
    argMaxIf(event.device, hit, event.device != '')             AS device,
    argMaxIf(event.browser, hit, event.browser != '')           AS browser,
    argMaxIf(event.os, hit, event.os != '')                     AS os,
    argMaxIf(event.language, hit, event.language != '')         AS language,
    argMinIf(event.llm_engine, hit, event.llm_engine != '')     AS llm_engine,
    argMin(event.channel, hit)                                  AS channel,
    argMin(event.source, hit)                                   AS source,
    argMin(event.medium, hit)                                   AS medium,
    argMin(event.campaign, hit)                                 AS campaign,
    argMin(event.referrer, hit)                                 AS referrer,
    sumIf(amount, is_payment(hit) AND event.currency = money)   AS revenue,
    money                                                       AS currency,
    arraySort(arrayDistinct(arrayConcat(known.1, groupUniqArrayIf(user_id, user_id != '')))) AS user_ids,
    known.2                                                     AS emails,
    arrayFold((all, one) -> mapUpdate(all, one), known.3, CAST(map(), 'Map(String, String)')) AS traits
FROM kept_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                 since = {since:UInt64}, until = {until:UInt64},
                 bots = {bots:String}, filters = {filters:Array(String)}) AS event
WHERE visitor IN (SELECT sipHash64(arrayJoin({linked:Array(String)})))
HAVING count() > 0
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
