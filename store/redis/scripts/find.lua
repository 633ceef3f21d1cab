-- find answers with a page of aliases in their order: whether the set of aliases has as many as the hash; the alias with which the rest begins, if there is more;
-- and for each alias that a session has, which is not gone: the alias, the session's ID, and its header, or nothing if that came before.
--
-- KEYS: the nodes, the aliases, the set of them. ARGV: from where and to where, as ZRANGEBYLEX takes it; how many aliases are looked at; what stands before the ID in a
-- session's key; "a" to answer although the set has another number. Those keys cannot be named beforehand; they are of the same slot.
local nodes, aliases, order = KEYS[1], KEYS[2], KEYS[3]
if ARGV[5] ~= 'a' and call('ZCARD', order) ~= call('HLEN', aliases) then
	return {0, false, {}}
end

-- has reports whether a session has an alias, or its header is damaged, of which nobody can tell.
local function has(h, alias)
	if #h < least then
		return true
	elseif sub(h, 55, 55) == 'D' or past(h) and (sub(h, 55, 55) == 'R' or not lease(nodes, sub(h, 20, 35))) then
		return false
	end
	for _, name in ipairs(names(named(h))) do
		if name == alias then
			return true
		end
	end
	return false
end

local page = call('ZRANGEBYLEX', order, ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3] + 1)
local rest, out, headers, n = table.remove(page, ARGV[3] + 1), {}, {}, 0
for _, alias in ipairs(page) do
	local id = call('HGET', aliases, alias) -- the set may have more
	local h, sent = id and headers[id], true
	if id and h == nil then
		h, sent = redis.pcall('HGET', ARGV[4] .. id, 'header'), false
		if type(h) == 'table' then
			if not string.find(h.err, 'WRONGTYPE', 1, true) then
				return h -- that it is being moved to another server, say: it is not absent
			end
			h = 'not a session'
		end
		headers[id] = h
	end
	if h and has(h, alias) then
		out[n + 1], out[n + 2], out[n + 3] = alias, id, not sent and h
		n = n + 3
	elseif h and not sent then
		headers[id] = nil -- nor was it now
	end
end
return {1, rest or false, out}
