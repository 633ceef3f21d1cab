-- nodes answers with the time, and incarnations and what is kept of them in turn.
--
-- KEYS: the nodes.
return {now(), call('HGETALL', KEYS[1])}
