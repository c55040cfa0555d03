-- What the view kept_events says of a question without filters.
SELECT *, person(visitor, website_id) AS person
FROM events
WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)}
    AND is_counted(hit, _partition_id, bot, {since:UInt64}, {until:UInt64}, {bots:String})
