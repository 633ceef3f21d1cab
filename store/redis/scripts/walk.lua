-- walk answers with a page of an index: IDs, each with its session's header.
--
-- KEYS: the index. ARGV: from where and to where, as ZRANGEBYLEX takes it; how many; how long a prefix the index's members have; what stands before the
-- ID in a session's key. Those keys cannot be named beforehand; they are of the index's slot.
local out = {}
for i, member in ipairs(call('ZRANGEBYLEX', KEYS[1], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])) do
	local id = sub(member, ARGV[4] + 1)
	local h = redis.pcall('HGET', ARGV[5] .. id, 'header')
	if type(h) == 'table' then
		if not string.find(h.err, 'WRONGTYPE', 1, true) then
			return h -- that it is being moved to another server, say: it is not absent
		end
		h = 'not a session'
	end
	out[2 * i - 1], out[2 * i] = id, h
end
return out
