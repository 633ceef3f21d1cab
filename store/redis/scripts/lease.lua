-- lease renews a node's lease, or ends it, and answers whether it ran until now. Now and then it removes those that ended long ago.
--
-- KEYS: the nodes. ARGV: the incarnation; for how long (ms), 0 to end it; what else is kept of the node; and how long one that ended is kept
-- (ms), or nothing if none is to be removed.
local ran = lease(KEYS[1], ARGV[1])
if ARGV[2] == '0' then
	call('HDEL', KEYS[1], ARGV[1])
else
	call('PERSIST', KEYS[1]) -- does nothing; but a server without memory refuses only the first write of a script, and this one must pass
	call('HSET', KEYS[1], ARGV[1], string.format('%015d', now() + ARGV[2] + 1) .. ARGV[3]) -- the millisecond of now has begun already
end
if ARGV[4] ~= '' then
	local all = call('HGETALL', KEYS[1])
	for i = 1, #all, 2 do
		if (tonumber(sub(all[i + 1], 1, 15)) or 0) < now() - ARGV[4] then
			call('HDEL', KEYS[1], all[i])
		end
	end
end
return ran and 1 or 0
