-- range answers with the time, the header, fields and values in turn, in the order of the fields' bytes, and the field with which the rest begins, if there is more.
--
-- KEYS: the session. ARGV: the first field in the range; the first that is not any more; how many bytes both have in common; how many fields at most; how
-- many bytes of each value.
local key, limit, bytes = KEYS[1], tonumber(ARGV[4]), tonumber(ARGV[5])
local prefix = sub(ARGV[1], 1, ARGV[3])
local enough = 1048576 -- bytes of values that are looked at, about, after which a page ends

-- Lua compares strings as the server's locale sorts words, which need not be the order of bytes. Of digits it is, in every locale: so each byte becomes three of
-- them, unless it turns out that this locale goes by bytes. To find that out takes longer than to do without for a few hundred names.
local names = call('HKEYS', key)
local plain = #names > 300
for b = 1, 254 do
	plain = plain and string.char(b, 255) < string.char(b + 1)
end
local digits = setmetatable({}, {__index = function(all, char)
	all[char] = string.format('%03d', string.byte(char))
	return all[char]
end})
local function rank(text)
	return plain and text or sub(text, 1, #prefix) == prefix and string.gsub(text, '.', digits)
end

local from, to = rank(ARGV[1]), rank(ARGV[2])
local order, fields, n, last = {}, {}, 0, to -- of the lowest in the range; from the last on there are enough already
local function sort()
	table.sort(order)
	for i = limit + 2, n do
		fields[order[i]], order[i] = nil, nil
	end
	n = math.min(n, limit + 1)
	last = order[limit + 1] or to
end
for _, field in ipairs(names) do
	local at = rank(field)
	if at and at >= from and at < last then
		n = n + 1
		order[n], fields[at] = at, field
		if n > 2 * limit + 64 then
			sort()
		end
	end
end
sort()

local out, next, size = {}, 1, 0
while next <= math.min(n, limit) and size < enough do
	local some = {}
	for i = next, math.min(n, limit, next + 63) do
		some[#some + 1] = fields[order[i]]
	end
	for i, value in ipairs(call('HMGET', key, unpack(some))) do
		size = size + #value
		out[2 * next - 1], out[2 * next] = some[i], sub(value, 1, bytes)
		next = next + 1
	end
end
return {now(), call('HGET', key, 'header'), out, next <= n and fields[order[next]] or false}
