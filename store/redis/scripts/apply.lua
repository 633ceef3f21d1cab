-- apply writes changes of sessions of one bucket, each of them if its tenure holds, and answers for those that it did not write: the
-- place, the outcome (0 failed, 2 already there, 3 fenced, 4 rejected), and the header on record, what failed, or the alias that another session has with that.
--
-- KEYS: the sets of live sessions and of owners' sessions, the nodes, the aliases, the set of them, and then the session of each change.
-- ARGV: how long a tombstone is kept (ms), the length of what stands before the ID in a session's key, and for each change
--   if it only puts, and not too much: how many fields and values follow the header; the header, and those;
--   else: "x", with "c" if it creates and "w" if it wipes; its birth in 19 digits or nothing; how many fields and values follow
--   the header, and how many fields to delete follow them; the header; the former; the latter.
local live, owned, nodes, aliases, order = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local retention, before = ARGV[1], ARGV[2] + 1
local get, byte = redis.pcall, string.byte
local chunk = 4000 -- arguments that unpack takes at once; it could take 8000

local function gone(h)
	return sub(h, 55, 55) == 'D' or past(h) and (sub(h, 55, 55) == 'R' or not lease(nodes, sub(h, 20, 35)))
end

-- The session that has an alias is the one that the index names, if its header lists it: the index may name one that does not.
local function denied(wanted, id, before)
	for _, alias in ipairs(wanted) do
		local other = call('HGET', aliases, alias)
		local h = other and other ~= id and call('HGET', before .. other, 'header')
		if h and #h < least then
			error('the header of session "' .. other .. '", which has the alias "' .. alias .. '", is damaged', 0)
		end
		if h and not gone(h) then
			for _, name in ipairs(names(named(h))) do
				if name == alias then
					return {alias, other}
				end
			end
		end
	end
end

-- Nothing is rolled back if a command fails. So the header is written last of what belongs to it: without it the change is not there, and
-- is repeated whole. Indexes may have more than there is, never less: who walks them looks at the header.
local function write(key, h, header, first, last, dels, wipe, wanted)
	local had = h and named(h) or ''
	local renamed = had ~= named(header) or had ~= '' and past(h)
	local lived, lives = h and sub(h, 55, 55) ~= 'D', sub(header, 55, 55) ~= 'D'
	local was, is, id = h and sub(h, 20, 35), sub(header, 20, 35), sub(key, before)
	if lives and (not lived or was ~= is) then
		call('ZADD', live, 0, id)
		call('ZADD', owned, 0, is .. id)
	end
	if renamed then
		for _, alias in ipairs(wanted) do
			call('ZADD', order, 0, alias)
			call('HSET', aliases, alias, id)
		end
	end
	if h and (wipe or not lived) then
		call('DEL', key) -- what is there, or the time that the tombstone had left
	elseif h and last < first then
		call('PERSIST', key) -- does nothing; but a server without memory refuses only the first write of a script, and this needs none
	end
	for i = last + 1, last + dels, chunk do
		call('HDEL', key, unpack(ARGV, i, math.min(i + chunk - 1, last + dels)))
	end
	while last - first >= chunk do
		call('HSET', key, unpack(ARGV, first, first + chunk - 1))
		first = first + chunk
	end
	call('HSET', key, 'header', header, unpack(ARGV, first, last))
	if not lives then
		call('PEXPIRE', key, retention)
	end
	if renamed then
		local has = {}
		for _, alias in ipairs(wanted) do
			has[alias] = true
		end
		for _, alias in ipairs(names(had)) do
			if not has[alias] and call('HGET', aliases, alias) == id then
				call('HDEL', aliases, alias)
				call('ZREM', order, alias)
			end
		end
	end
	if lived and not lives then
		call('ZREM', live, id)
	end
	if lived and (not lives or was ~= is) then
		call('ZREM', owned, was .. id)
	end
end

local out, n, failed, a = {}, 0, nil, 3
local function tell(place, outcome, what)
	out[n + 1], out[n + 2], out[n + 3] = place, outcome, what
	n = n + 3
end

-- judge is what store.Change.Judge does.
local function judge(h, header, creates, birth)
	if h and sub(h, 1, 35) == sub(header, 1, 35) then
		local seq = sub(h, 36, 54)
		if sub(header, 36, 54) <= seq then
			return 2
		elseif seq >= birth and (creates or sub(h, 55, 55) ~= 'D' or sub(header, 55, 55) == 'D') then
			return 1
		end
	elseif creates and (not h or sub(header, 1, 19) > sub(h, 1, 19) and gone(h)) then
		return 1, true
	end
	return 3
end

-- named_write writes a change that judge lets pass, unless another session has one of its aliases.
local function named_write(key, h, header, first, last, dels, wipe)
	local wanted = names(named(header))
	local ok, taken = true, nil
	if #wanted > 0 and not (h and named(h) == named(header) and not past(h)) then
		ok, taken = pcall(denied, wanted, sub(key, before), sub(key, 1, before - 1))
		if ok and taken then
			return 4, taken
		end
	end
	if ok then
		ok, taken = pcall(write, key, h, header, first, last, dels, wipe, wanted)
	end
	if not ok then
		return 0, type(taken) == 'table' and taken.err or taken
	end
	return 1, h
end

for k = 6, #KEYS do
	local key, sets = KEYS[k], tonumber(ARGV[a])
	local h, verdict, wipe = get('HGET', key, 'header'), nil, nil
	if sets and not failed and type(h) == 'string' and #h >= least then -- as most are
		local header, last = ARGV[a + 1], a + 1 + sets
		local bare = least + sub(header, 86, 95) -- without aliases
		if sub(h, 1, 35) == sub(header, 1, 35) and sub(h, 36, 54) < sub(header, 36, 54) and byte(h, 55) ~= 68 and #h == bare and #header == bare then
			verdict = 1
			local r = get('HSET', key, 'header', header, unpack(ARGV, a + 2, last))
			if type(r) == 'table' then
				verdict, h = 0, r.err
			end
		else
			verdict = judge(h, header, false, '')
			if verdict == 1 then
				verdict, h = named_write(key, h, header, a + 2, last, 0, false)
			end
		end
		a = last + 1
	else
		local flags, birth, dels = '', '', 0
		if not sets then
			flags, birth, sets, dels = ARGV[a], ARGV[a + 1], tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
			a = a + 3
		end
		local header, first, last = ARGV[a + 1], a + 2, a + 1 + sets
		if type(h) == 'table' then
			verdict, h = 0, h.err
		elseif failed and failed[key] then
			verdict, h = 0, 'an earlier change of this session failed'
		elseif h and #h < least then
			verdict = 3
		else
			verdict, wipe = judge(h, header, string.find(flags, 'c', 1, true), birth)
		end
		if verdict == 1 then
			verdict, h = named_write(key, h, header, first, last, dels, wipe or string.find(flags, 'w', 1, true))
		end
		a = last + dels + 1
	end
	if verdict == 0 then
		failed = failed or {}
		failed[key] = true
	end
	if verdict ~= 1 then
		tell(k - 5, verdict, h)
	end
end
return out
