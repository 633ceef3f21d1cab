-- A header is one string: the epoch in 19 digits, the incarnation in 16 bytes, the seq in 19 digits, the state (L lives, R released,
-- D deleted), the expiry in 20 characters, the schema and the length of the node's name in 10 digits each, that name, and the
-- aliases. Numbers of one width compare as strings as they do as numbers; Lua's own lose what is above 2^53.
local call, sub = redis.call, string.sub
local never, least = '00000000000000000000', 95

local clock
local function now()
	if not clock then
		local t = call('TIME')
		clock = t[1] * 1000 + math.floor(t[2] / 1000)
	end
	return clock
end

-- lease returns what is known of an incarnation whose lease runs: the lease's end in 15 digits, and what the client made of the rest.
local function lease(nodes, incarnation)
	local node = call('HGET', nodes, incarnation)
	if node and (tonumber(sub(node, 1, 15)) or 0) > now() then
		return node
	end
	return false
end

-- named returns the aliases of a header as one string, '' if there are none.
local function named(h)
	return sub(h, least + 1 + sub(h, 86, 95))
end

-- names takes that string apart.
local function names(list)
	local all, at = {}, 1
	while at <= #list do
		local n, scale, b = 0, 1, nil
		repeat
			b = string.byte(list, at) or 0
			n, scale, at = n + b % 128 * scale, scale * 128, at + 1
		until b < 128
		all[#all + 1] = sub(list, at, at + n - 1)
		at = at + n
	end
	return all
end

local function past(h)
	local expires = sub(h, 56, 75)
	return expires ~= never and (tonumber(expires) or math.huge) <= now()
end
