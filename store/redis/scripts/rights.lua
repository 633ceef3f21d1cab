-- rights does what the other scripts do, to a key of its own, and answers with the first error. It leaves nothing.
--
-- KEYS: that key.
local key, err = KEYS[1], false
for _, command in ipairs({
	{'TIME'}, {'DEL', key},
	{'HSET', key, 'f', 'v'}, {'HGET', key, 'f'}, {'HMGET', key, 'f'}, {'HGETALL', key}, {'HKEYS', key}, {'HLEN', key}, {'HSCAN', key, 0}, {'HDEL', key, 'g'}, {'PEXPIRE', key, 60000}, {'PERSIST', key}, {'DEL', key},
	{'ZADD', key, 0, 'm'}, {'ZRANGEBYLEX', key, '-', '+', 'LIMIT', 0, 1}, {'ZCARD', key}, {'ZREM', key, 'n'}, {'DEL', key},
}) do
	local r = redis.pcall(unpack(command))
	if type(r) == 'table' and r.err and not err and not string.find(r.err, 'OOM', 1, true) then
		err = command[1] .. ': ' .. r.err
	end
end
return err
