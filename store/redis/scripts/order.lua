-- order gives the set of aliases what the hash has, a part of that at a time, or takes out of it what the hash does not have. It answers with where to go on, or nothing if it
-- is done.
--
-- KEYS: the aliases, the set of them. ARGV: "add" and the cursor of HSCAN, or "drop" and from where, as ZRANGEBYLEX takes it; about how many are looked at.
if ARGV[1] == 'add' then
	local page = call('HSCAN', KEYS[1], ARGV[2], 'COUNT', ARGV[3])
	for i = 1, #page[2], 2 do
		call('ZADD', KEYS[2], 0, page[2][i])
	end
	return page[1] ~= '0' and page[1]
end
local page = call('ZRANGEBYLEX', KEYS[2], ARGV[2], '+', 'LIMIT', 0, ARGV[3])
for _, alias in ipairs(page) do
	if not call('HGET', KEYS[1], alias) then
		call('ZREM', KEYS[2], alias)
	end
end
return #page == tonumber(ARGV[3]) and '(' .. page[#page]
