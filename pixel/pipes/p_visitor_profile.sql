-- title: Visitor
-- about: One row about a visitor, over all visitor ids that were identified as the same user; none without an event in
--   the range.
-- visitor_id: required. The visitor; any of their ids.
-- returns visitor_id: The id that was asked for.
-- returns visitor_ids: All ids of the same user, this one among them.
-- returns first_seen: Time of the first event in the range, in UTC.
-- returns last_seen: Time of the last event in the range, in UTC.
-- returns sessions: Sessions starting in the range.
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
-- returns currency: That currency, the one with most of their payments; empty without payments.
-- returns user_ids: The user ids they were identified by.
-- returns emails: The e-mail addresses they were identified by.
-- returns traits: What was last told of them, trait by trait.
WITH
    (
        SELECT any(currency)
        FROM (
            SELECT currency
            FROM events
            WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)}
                AND visitor IN (SELECT sipHash64(arrayJoin({linked:Array(String)}))) AND is_payment(hit)
                AND is_within(hit, {since:DateTime64(3, 'UTC')}, {until:DateTime64(3, 'UTC')})
            GROUP BY currency
            ORDER BY count() DESC, currency
            LIMIT 1
        )
    ) AS money,
    (
        SELECT (arraySort(groupUniqArrayIf(user_id, user_id != '')), arraySort(groupUniqArrayIf(email, email != '')),
                arraySort(one -> one.1, groupArray((received_at, traits))).2)
        FROM identities
        WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)}
            AND visitor IN (SELECT sipHash64(arrayJoin({linked:Array(String)})))
    ) AS known
SELECT
    {visitor_id:String}                                     AS visitor_id,
    {linked:Array(String)}                                  AS visitor_ids,
    iso(time_of_hit(min(first)))                              AS first_seen,
    iso(time_of_hit(max(last)))                               AS last_seen,
    sum(started)                                              AS sessions,
    sum(viewed)                                               AS pageviews,
    sum(counted)                                              AS events,
    argMaxIf(countries.1, countries.2, countries.1 != '')     AS country,
    argMaxIf(devices.1, devices.2, devices.1 != '')           AS device,
    argMaxIf(browsers.1, browsers.2, browsers.1 != '')        AS browser,
    argMaxIf(systems.1, systems.2, systems.1 != '')           AS os,
    argMaxIf(languages.1, languages.2, languages.1 != '')     AS language,
    argMinIf(engines.1, engines.2, engines.1 != '')           AS llm_engine,
    argMin(came.1, first)                                     AS channel,
    argMin(came.2, first)                                     AS source,
    argMin(came.3, first)                                     AS medium,
    argMin(came.4, first)                                     AS campaign,
    argMin(came.5, first)                                     AS referrer,
    sum(paid)                                                 AS revenue,
    money                                                     AS currency,
    arraySort(arrayDistinct(arrayConcat(known.1, groupUniqArrayArray(users)))) AS user_ids,
    known.2                                                   AS emails,
    arrayFold((all, one) -> mapUpdate(all, one), known.3, CAST(map(), 'Map(String, String)')) AS traits
FROM (
    SELECT
        arraySort(groupArray(marked))                         AS hits,
        minIf(hit, counts)                                    AS first,
        maxIf(hit, counts)                                    AS last,
        arrayCount(session -> is_within(session[1], {since:DateTime64(3, 'UTC')}, {until:DateTime64(3, 'UTC')})
            AND arrayExists(hit -> is_kept(hit), session), sessions_of(hits, 1)) AS started,
        countIf(counts AND is_view(hit))                      AS viewed,
        countIf(counts)                                       AS counted,
        argMaxIf((country, hit), hit, counts AND country != '')       AS countries,
        argMaxIf((device, hit), hit, counts AND device != '')         AS devices,
        argMaxIf((browser, hit), hit, counts AND browser != '')       AS browsers,
        argMaxIf((os, hit), hit, counts AND os != '')                 AS systems,
        argMaxIf((language, hit), hit, counts AND language != '')     AS languages,
        argMinIf((llm_engine, hit), hit, counts AND llm_engine != '') AS engines,
        argMinIf((channel, source, medium, campaign, referrer), hit, counts) AS came,
        sumIf(amount, counts AND is_payment(hit) AND currency = money) AS paid,
        groupUniqArrayIf(user_id, user_id != '')              AS users
    FROM (
        SELECT *, is_kept(marked) AND is_within(hit, {since:DateTime64(3, 'UTC')}, {until:DateTime64(3, 'UTC')}) AS counts
        FROM asked_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                          since = {since:DateTime64(3, 'UTC')}, until = {until:DateTime64(3, 'UTC')},
                          bots = {bots:String}, filters = {filters:Array(String)})
        WHERE visitor IN (SELECT sipHash64(arrayJoin({linked:Array(String)})))
    )
    GROUP BY person
    HAVING counted > 0
)
HAVING count() > 0
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
