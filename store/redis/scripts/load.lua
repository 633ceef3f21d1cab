-- load answers with the time, the header, and the entries: the named fields' values, or fields and values in turn if none is named.
--
-- KEYS: the session. ARGV: the fields.
local key, h, entries = KEYS[1], nil, {}
h = call('HGET', key, 'header')
if #ARGV == 0 then
	entries = call('HGETALL', key)
end
for i = 1, #ARGV, 4000 do -- unpack has its limit
	local some = call('HMGET', key, unpack(ARGV, i, math.min(i + 3999, #ARGV)))
	for j = 1, #some do
		entries[i - 1 + j] = some[j]
	end
end
return {now(), h, entries}
