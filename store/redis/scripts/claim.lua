-- claim makes a claimant the owner of a session, at a higher epoch, and answers with the outcome (1 granted, 2 held, 3 not found,
-- 4 outbid; 0 if the header is damaged), whether it made the session, the time, the header, the node that holds it, and
-- the entries: fields and values in turn if all are asked for, else the named fields' values.
--
-- KEYS: the sets of live sessions and of owners' sessions, the nodes, the aliases, the set of them, the session.
-- ARGV: the claimant's incarnation; its name, with its length in 10 digits before it; the session's ID; "f" if it forces, "c" if it creates, both or
--   neither; the epoch proposed, in 19 digits or nothing; "a" for all entries; and the named fields.
local live, owned, nodes, aliases, order, key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local claimant, name, id, flags, proposal = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local highest = '9223372036854775807'

local h = call('HGET', key, 'header')
if h and #h < least then
	return {0, 0, now(), h, false, {}}
end
local state = h and sub(h, 55, 55) or 'D'
local epoch = h and sub(h, 1, 19) or '0000000000000000000'
local owner = h and sub(h, 20, 35)
local node = h and lease(nodes, owner)
local mine = state == 'L' and owner == claimant
local gone = state == 'D' or past(h) and (state == 'R' or mine or not node)
local creates = string.find(flags, 'c', 1, true)

if gone and not creates then
	return {3, 0, now(), h, false, {}}
elseif not gone and not mine then
	if state ~= 'R' and node and not string.find(flags, 'f', 1, true) then
		return {2, 0, now(), h, node, {}}
	end
end
if gone or not mine then
	if proposal ~= '' and proposal <= epoch or epoch == highest then
		return {4, 0, now(), h, false, {}}
	end
	local raised = proposal
	if raised == '' then -- in two halves, as neither is above 2^53
		local high, low = tonumber(sub(epoch, 1, 10)), tonumber(sub(epoch, 11)) + 1
		if low == 1000000000 then
			high, low = high + 1, 0
		end
		raised = string.format('%010d%09d', high, low)
	end
	local kept, list = never .. '0000000000', ''
	local former = h and gone and names(named(h)) or {}
	if not gone then
		kept, list = sub(h, 56, 85), named(h)
		call('PERSIST', key) -- does nothing; but a server without memory refuses only the first write of a script, and this one must pass
	end
	-- As in apply: indexes may have more than there is, never less.
	if state == 'D' then
		call('ZADD', live, 0, id)
	end
	call('ZADD', owned, 0, claimant .. id)
	if h and gone then
		call('DEL', key)
	end
	h = raised .. claimant .. '0000000000000000000L' .. kept .. name .. list
	call('HSET', key, 'header', h)
	for _, alias in ipairs(former) do
		if call('HGET', aliases, alias) == id then
			call('HDEL', aliases, alias)
			call('ZREM', order, alias)
		end
	end
	if state ~= 'D' and owner ~= claimant then
		call('ZREM', owned, owner .. id)
	end
end

local entries = {}
if ARGV[6] == 'a' then
	entries = call('HGETALL', key)
else
	for i = 7, #ARGV, 4000 do -- unpack has its limit
		local some = call('HMGET', key, unpack(ARGV, i, math.min(i + 3999, #ARGV)))
		for j = 1, #some do
			entries[i - 7 + j] = some[j]
		end
	end
end
return {1, gone and 1 or 0, now(), h, false, entries}
