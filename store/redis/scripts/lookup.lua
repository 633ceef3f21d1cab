-- lookup answers with the ID of the session that has an alias, and its header; with nothing if none has, or it is gone.
--
-- KEYS: the nodes, the aliases. ARGV: the alias; what stands before the ID in a session's key. That key cannot be named beforehand; it is of the same slot.
local id = call('HGET', KEYS[2], ARGV[1])
local h = id and call('HGET', ARGV[2] .. id, 'header')
if not h then
	return {}
elseif #h < least then
	return {id, h}
elseif sub(h, 55, 55) == 'D' or past(h) and (sub(h, 55, 55) == 'R' or not lease(KEYS[1], sub(h, 20, 35))) then
	return {}
end
for _, name in ipairs(names(named(h))) do
	if name == ARGV[1] then
		return {id, h}
	end
end
return {}
