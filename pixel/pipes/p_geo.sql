-- title: Countries
-- about: Where visitors are, by the country of each event; one who was in two counts in both.
-- returns country: ISO 3166 code of two letters; empty where it is not known.
-- returns visitors: Distinct visitors with any event in the range.
-- returns pageviews: Their pageviews, and those without a visitor.
SELECT
    country,
    uniqExactIf(visitor, visitor != 0)  AS visitors,
    countIf(is_view(hit))               AS pageviews
FROM kept_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                 since = {since:UInt64}, until = {until:UInt64},
                 bots = {bots:String}, filters = {filters:Array(String)})
GROUP BY country
ORDER BY visitors DESC, pageviews DESC, country
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
