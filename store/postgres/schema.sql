-- kvstore format 2. Everything is in one schema; {schema} stands for its name, quoted.
-- It is applied by whoever opens the store first, in one transaction. To apply it by hand, take what
-- postgres.Schema prints.

CREATE SCHEMA IF NOT EXISTS {schema};

-- One row for each session that there ever was: a deleted one's is its tombstone.
CREATE TABLE {schema}.session (
    session     bytea    PRIMARY KEY,
    epoch       bigint   NOT NULL,             -- 0 only within the transaction that makes the row
    seq         bigint   NOT NULL DEFAULT 0,
    node        bytea    NOT NULL DEFAULT '',
    incarnation uuid     NOT NULL,
    released    boolean  NOT NULL DEFAULT false,
    deleted     boolean  NOT NULL DEFAULT false,
    expires     bigint   NOT NULL DEFAULT 0,   -- in milliseconds since 1970; 0: never
    schema      bigint   NOT NULL DEFAULT 0,   -- the application's version of its values' type
    aliases     bytea,                         -- each with its length before it, as in encoding/binary's uvarint
    main        bytea,                         -- the entry of the empty key; NULL: there is none
    main_until  bigint   NOT NULL DEFAULT 0,
    ended       timestamptz                    -- when it was deleted
) WITH (fillfactor = 50);
CREATE INDEX session_owner ON {schema}.session (incarnation, session) WHERE NOT deleted;
CREATE INDEX session_ended ON {schema}.session (ended) WHERE deleted;

-- The other entries.
CREATE TABLE {schema}.entry (
    session bytea  NOT NULL,
    key     bytea  NOT NULL,
    value   bytea  NOT NULL,
    until   bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (session, key)
);

-- Which session has an alias: its header lists it. What the header of one that has expired lists, another may have taken.
CREATE TABLE {schema}.alias (
    alias   bytea PRIMARY KEY,
    session bytea NOT NULL
);
CREATE INDEX alias_session ON {schema}.alias (session, alias);

CREATE TABLE {schema}.node (
    incarnation uuid        PRIMARY KEY,
    name        bytea       NOT NULL,
    addr        bytea       NOT NULL,
    weight      integer     NOT NULL,
    ends        timestamptz NOT NULL           -- of its lease
);

-- The name of what the server remembers until it crashes: after that an unlogged table is empty, as it is on a standby that takes over.
CREATE UNLOGGED TABLE {schema}.memory (one boolean PRIMARY KEY CHECK (one), name uuid NOT NULL);

CREATE TABLE {schema}.format (version integer NOT NULL);
INSERT INTO {schema}.format VALUES (2);

CREATE FUNCTION {schema}.past(expires bigint) RETURNS boolean LANGUAGE sql VOLATILE
AS $$ SELECT expires <> 0 AND expires <= floor(extract(epoch FROM clock_timestamp()) * 1000) $$;

CREATE FUNCTION {schema}.alive(of uuid) RETURNS boolean LANGUAGE sql VOLATILE
AS $$ SELECT EXISTS (SELECT FROM {schema}.node WHERE incarnation = of AND ends > clock_timestamp()) $$;

-- gone tells whether no session is left, for whoever does not own it.
CREATE FUNCTION {schema}.gone(s {schema}.session) RETURNS boolean LANGUAGE sql VOLATILE
AS $$ SELECT s.deleted OR {schema}.past(s.expires) AND (s.released OR NOT {schema}.alive(s.incarnation)) $$;

-- begin_write is the first thing in each function that writes. A commit that need not be durable is not waited for by
-- anybody; a durable one makes all before it durable, too, as the log is one sequence. Settings that ask for more than the local
-- disk stay as they are.
CREATE FUNCTION {schema}.begin_write(durable boolean) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'kvstore needs the isolation level "read committed", and this is "%"', current_setting('transaction_isolation')
            USING HINT = 'Set default_transaction_isolation for the role or the database that kvstore uses.';
    END IF;
    IF NOT durable THEN
        PERFORM set_config('synchronous_commit', 'off', true);
    ELSIF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
END $$;

-- remembers raises KV001 if the server does not have what it had in memory when that had this name.
CREATE FUNCTION {schema}.remembers(it uuid) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM {schema}.memory WHERE one AND name = it) THEN
        RAISE EXCEPTION 'the server has lost what it had in memory' USING ERRCODE = 'KV001';
    END IF;
END $$;

-- memory_name returns the name of the server's memory, which is the proposed one if it has none.
CREATE FUNCTION {schema}.memory_name(proposal uuid) RETURNS uuid LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    INSERT INTO {schema}.memory VALUES (true, proposal) ON CONFLICT DO NOTHING;
    RETURN (SELECT name FROM {schema}.memory);
END $$;

-- apply writes changes of different sessions by one owner, in the order of their sessions, and returns those that it did not write: 2 is already there,
-- 3 fenced, 4 names an alias that another session has. Arrays of which each element would be 0 or NULL may be NULL themselves.
--
-- The update takes the rows' locks, in that order, and looks at each row as it is when it has its lock; every statement after it sees what was committed until then, and
-- nobody can change these sessions any more. In one statement with it a delete would not see an entry that was committed
-- while it waited. The planner is told to look the rows up one by one: else a plan that was made while there were few would read them all.
CREATE FUNCTION {schema}.apply(
    memory uuid, -- NULL: the commit is to be durable; else it need not, and the server must have this memory
    owner_node bytea, owner uuid,
    ids bytea[], epochs bigint[], seqs bigint[],
    flags smallint[], -- 1 it creates, 2 deletes, 4 releases, 8 wipes; the main entry is 16 set, 32 deleted
    mains bytea[], main_untils bigint[],
    births bigint[], expiries bigint[], schemas bigint[], alias_lists bytea[],
    put_changes integer[], put_ids bytea[], put_keys bytea[], put_values bytea[], put_untils bigint[],
    delete_changes integer[], delete_ids bytea[], delete_keys bytea[],
    name_changes integer[], name_ids bytea[], names bytea[] -- the aliases, each for itself, in their order
) RETURNS TABLE (
    change integer, outcome smallint,
    epoch bigint, seq bigint, node bytea, incarnation uuid, released boolean, deleted boolean, expires bigint, schema bigint, aliases bytea,
    alias bytea, holder bytea
) LANGUAGE plpgsql VOLATILE
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    n CONSTANT integer := cardinality(ids);
    every CONSTANT integer := (SELECT bit_or(f) FROM unnest(flags) f);
    done bigint[];  -- changes that were written, by their places
    ruins bigint[]; -- creations in the place of a session that expired, and nobody alive can have extended
    holders bytea[] := '{}'; -- sessions that have an alias which is named, as it seems
    renames bigint[]; -- changes that will be written, unless they are denied, after which a session may have other aliases
    fresh bytea[];    -- aliases that nobody had
    one record;
    denied bigint[]; denied_names bytea[] := '{}'; denied_holders bytea[] := '{}';
BEGIN
    PERFORM {schema}.begin_write(memory IS NULL);
    IF memory IS NOT NULL THEN
        PERFORM {schema}.remembers(memory);
    END IF;

    IF names IS NOT NULL THEN
        SELECT coalesce(array_agg(a.session), '{}') INTO holders FROM {schema}.alias a WHERE a.alias = ANY (names);
    END IF;

    IF every & 1 <> 0 THEN
        INSERT INTO {schema}.session (session, epoch, incarnation, deleted)
        SELECT c.id, 0, owner, true FROM unnest(ids, flags) AS c (id, flags)
        WHERE c.flags & 1 <> 0
        ON CONFLICT DO NOTHING;
        PERFORM FROM {schema}.session s WHERE s.session = ANY (ids || holders) ORDER BY s.session FOR NO KEY UPDATE;
        SELECT array_agg(c.i) INTO ruins
        FROM unnest(ids, epochs, flags) WITH ORDINALITY AS c (id, epoch, flags, i) JOIN {schema}.session s ON s.session = c.id
        WHERE c.flags & 1 <> 0 AND s.epoch < c.epoch AND NOT s.deleted AND {schema}.past(s.expires) AND (s.released OR NOT {schema}.alive(s.incarnation));
        IF ruins IS NOT NULL THEN
            DELETE FROM {schema}.entry e USING unnest(ids) WITH ORDINALITY AS c (id, i) WHERE c.i = ANY (ruins) AND e.session = c.id;
        END IF;
    END IF;

    -- Sessions were locked first, in order, and aliases are after that, in order: nobody waits in a circle. Whoever takes an alias from a session that
    -- is gone has that session locked, too, so that its owner does not extend it meanwhile.
    IF names IS NOT NULL OR EXISTS (SELECT FROM {schema}.alias) THEN
        IF every & 1 = 0 THEN
            PERFORM FROM {schema}.session s WHERE s.session = ANY (ids || holders) ORDER BY s.session FOR NO KEY UPDATE;
        END IF;
        SELECT array_agg(c.i) INTO renames
        FROM unnest(ids, epochs, seqs, flags, births, alias_lists) WITH ORDINALITY AS c (id, epoch, seq, flags, birth, aliases, i)
        JOIN {schema}.session s ON s.session = c.id
        WHERE (s.aliases IS DISTINCT FROM CASE WHEN c.flags & 2 = 0 THEN c.aliases END OR s.aliases IS NOT NULL AND {schema}.past(s.expires))
            AND CASE WHEN s.epoch = c.epoch AND s.incarnation = owner
                THEN s.seq < c.seq AND (c.birth IS NULL OR s.seq >= c.birth) AND (NOT s.deleted OR c.flags & 3 <> 0)
            ELSE c.flags & 1 <> 0 AND s.epoch < c.epoch AND (s.deleted OR c.i = ANY (ruins)) END;
        IF renames IS NOT NULL THEN
            WITH concerned AS (
                SELECT w.name, w.id, w.i FROM unnest(name_changes, name_ids, names) AS w (i, id, name) WHERE w.i = ANY (renames)
                UNION ALL
                SELECT a.alias, c.id, c.i FROM unnest(ids) WITH ORDINALITY AS c (id, i) JOIN {schema}.alias a ON a.session = c.id WHERE c.i = ANY (renames)
            ), made AS (
                INSERT INTO {schema}.alias AS a (alias, session)
                SELECT DISTINCT ON (k.name) k.name, k.id FROM concerned k ORDER BY k.name, k.i
                ON CONFLICT ON CONSTRAINT alias_pkey DO UPDATE SET session = a.session WHERE false -- which locks it
                RETURNING a.alias
            )
            SELECT array_agg(m.alias) INTO fresh FROM made m;

            IF NOT EXISTS (
                SELECT FROM unnest(name_changes, name_ids, names) AS w (i, id, name) JOIN {schema}.alias a ON a.alias = w.name
                WHERE w.i = ANY (renames) AND a.session <> w.id
            ) THEN
                DELETE FROM {schema}.alias a USING unnest(ids) WITH ORDINALITY AS c (id, i)
                WHERE c.i = ANY (renames) AND a.session = c.id
                    AND NOT EXISTS (SELECT FROM unnest(name_changes, names) AS w (i, name) WHERE w.i = c.i AND w.name = a.alias);
            ELSE -- one after the other
                DELETE FROM {schema}.alias a WHERE a.alias = ANY (fresh);
                FOR one IN
                    SELECT c.i, c.id, array(SELECT w.name FROM unnest(name_changes, names) WITH ORDINALITY AS w (i, name, n) WHERE w.i = c.i ORDER BY w.n) AS wanted
                    FROM unnest(ids) WITH ORDINALITY AS c (id, i) WHERE c.i = ANY (renames) ORDER BY c.i
                LOOP
                    SELECT w.name, a.session INTO alias, holder
                    FROM unnest(one.wanted) WITH ORDINALITY AS w (name, n) JOIN {schema}.alias a ON a.alias = w.name JOIN {schema}.session h ON h.session = a.session
                    WHERE a.session <> one.id AND NOT {schema}.gone(h) ORDER BY w.n LIMIT 1;
                    IF FOUND THEN
                        denied := denied || one.i; denied_names := denied_names || alias; denied_holders := denied_holders || holder;
                        CONTINUE;
                    END IF;
                    IF EXISTS (SELECT FROM {schema}.alias a WHERE a.alias = ANY (one.wanted) AND a.session <> ALL (ids || holders)) THEN
                        RAISE EXCEPTION 'the session that has an alias is another one now' USING ERRCODE = '40001';
                    END IF;
                    DELETE FROM {schema}.alias a WHERE a.session = one.id AND a.alias <> ALL (one.wanted);
                    INSERT INTO {schema}.alias AS a (alias, session) SELECT w.name, one.id FROM unnest(one.wanted) AS w (name)
                    ON CONFLICT ON CONSTRAINT alias_pkey DO UPDATE SET session = excluded.session WHERE a.session <> excluded.session;
                END LOOP;
            END IF;
        END IF;
    END IF;

    WITH written AS (
        UPDATE {schema}.session s SET
            epoch = c.epoch, seq = c.seq, node = owner_node, incarnation = owner,
            deleted = c.flags & 2 <> 0, ended = CASE WHEN c.flags & 2 <> 0 THEN clock_timestamp() END,
            released = c.flags & 6 = 4,
            expires = CASE WHEN c.flags & 2 = 0 AND c.expires IS NOT NULL THEN c.expires ELSE 0 END,
            schema = CASE WHEN c.flags & 2 = 0 AND c.schema IS NOT NULL THEN c.schema ELSE 0 END,
            aliases = CASE WHEN c.flags & 2 = 0 THEN c.aliases END,
            main = CASE WHEN c.flags & 16 <> 0 THEN c.main WHEN c.flags & 42 = 0 AND s.epoch = c.epoch THEN s.main END,
            main_until = CASE WHEN c.flags & 16 <> 0 THEN coalesce(c.main_until, 0) WHEN c.flags & 42 = 0 AND s.epoch = c.epoch THEN s.main_until ELSE 0 END
        FROM (
            SELECT * FROM unnest(ids, epochs, seqs, flags, mains, main_untils, births, expiries, schemas, alias_lists) WITH ORDINALITY LIMIT n
        ) AS c (id, epoch, seq, flags, main, main_until, birth, expires, schema, aliases, i)
        WHERE s.session = c.id AND CASE
            WHEN s.epoch = c.epoch AND s.incarnation = owner
                THEN s.seq < c.seq AND (c.birth IS NULL OR s.seq >= c.birth) AND (NOT s.deleted OR c.flags & 3 <> 0)
            ELSE c.flags & 1 <> 0 AND s.epoch < c.epoch AND (s.deleted OR c.i = ANY (ruins)) END
            AND (denied IS NULL OR c.i <> ALL (denied))
        RETURNING c.i
    )
    SELECT coalesce(array_agg(i), '{}') INTO done FROM written;

    IF every & 10 <> 0 THEN
        DELETE FROM {schema}.entry e
        USING unnest(ids, flags) WITH ORDINALITY AS c (id, flags, i)
        WHERE c.flags & 10 <> 0 AND c.i = ANY (done) AND e.session = c.id;
    END IF;
    IF delete_keys IS NOT NULL THEN
        DELETE FROM {schema}.entry e
        USING unnest(delete_changes, delete_ids, delete_keys) AS d (i, id, key)
        WHERE (cardinality(done) = n OR d.i = ANY (done)) AND e.session = d.id AND e.key = d.key;
    END IF;
    IF put_keys IS NOT NULL THEN
        INSERT INTO {schema}.entry (session, key, value, until)
        SELECT p.id, p.key, p.value, coalesce(p.until, 0)
        FROM unnest(put_changes, put_ids, put_keys, put_values, put_untils) AS p (i, id, key, value, until)
        WHERE cardinality(done) = n OR p.i = ANY (done)
        ON CONFLICT (session, key) DO UPDATE SET value = excluded.value, until = excluded.until;
    END IF;

    IF cardinality(done) < n THEN
        RETURN QUERY
        SELECT c.i::integer, (CASE WHEN c.i = ANY (denied) THEN 4 WHEN s.epoch = c.epoch AND s.incarnation = owner AND c.seq <= s.seq THEN 2 ELSE 3 END)::smallint,
            s.epoch, s.seq, s.node, s.incarnation, s.released, s.deleted, s.expires, s.schema, s.aliases,
            denied_names[array_position(denied, c.i)], denied_holders[array_position(denied, c.i)]
        FROM unnest(ids, epochs, seqs) WITH ORDINALITY AS c (id, epoch, seq, i)
        LEFT JOIN {schema}.session s ON s.session = c.id
        WHERE NOT c.i = ANY (done);
    END IF;
END $$;

-- claim decides claims of different sessions. For each it returns a row with the header, and the main entry if it is wanted; and then one for each other
-- entry that was asked for. The outcome is 1 granted, 2 held, 3 not found or 4 outbid.
CREATE FUNCTION {schema}.claim(
    ids bytea[], names bytea[], claimants uuid[], forces boolean[], makes boolean[], proposals bigint[],
    mains boolean[], alls boolean[],                -- whether the main entry is asked for; and all the others
    key_claims integer[], keys bytea[]              -- others, by name
) RETURNS TABLE (
    claim integer, outcome smallint, created boolean,
    epoch bigint, seq bigint, node bytea, incarnation uuid, released boolean, deleted boolean, expires bigint, schema bigint, aliases bytea,
    holder bytea, addr bytea, weight integer, left_ms bigint,
    key bytea, value bytea, until bigint
) LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    verdicts smallint[]; -- outcomes; of what is granted at a raised epoch 5
    gones boolean[];     -- nothing is left of what was there
BEGIN
    PERFORM {schema}.begin_write(true);
    IF true = ANY (makes) THEN
        INSERT INTO {schema}.session (session, epoch, incarnation, deleted)
        SELECT c.id, 0, c.claimant, true FROM unnest(ids, claimants, makes) AS c (id, claimant, makes)
        WHERE c.makes ORDER BY c.id
        ON CONFLICT DO NOTHING;
    END IF;
    PERFORM FROM {schema}.session s WHERE s.session = ANY (ids) ORDER BY s.session FOR NO KEY UPDATE;

    SELECT
        array_agg(CASE
            WHEN v.gone AND NOT v.makes THEN 3
            WHEN NOT v.gone AND v.mine THEN 1
            WHEN NOT v.gone AND NOT v.released AND v.alive AND NOT v.force THEN 2
            WHEN v.proposal <> 0 AND v.proposal <= v.epoch OR v.epoch = 9223372036854775807 THEN 4
            ELSE 5 END ORDER BY v.i),
        array_agg(v.gone ORDER BY v.i)
    INTO verdicts, gones
    FROM (
        SELECT c.i, c.force, c.makes, c.proposal, s.epoch, s.released, o.alive, m.mine,
            s.session IS NULL OR s.deleted OR {schema}.past(s.expires) AND (s.released OR m.mine OR NOT o.alive) AS gone
        FROM unnest(ids, claimants, forces, makes, proposals) WITH ORDINALITY AS c (id, claimant, force, makes, proposal, i)
        LEFT JOIN {schema}.session s ON s.session = c.id
        CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM {schema}.node n WHERE n.incarnation = s.incarnation AND n.ends > clock_timestamp()) AS alive) o
        CROSS JOIN LATERAL (SELECT NOT s.deleted AND NOT s.released AND s.incarnation = c.claimant AS mine) m
    ) v;

    IF 5 = ANY (verdicts) THEN
        IF true = ANY (gones) THEN
            DELETE FROM {schema}.entry e USING unnest(ids, verdicts, gones) AS c (id, verdict, gone)
            WHERE c.verdict = 5 AND c.gone AND e.session = c.id;
            IF EXISTS (SELECT FROM {schema}.alias) THEN
                PERFORM FROM {schema}.alias a JOIN unnest(ids, verdicts, gones) AS c (id, verdict, gone) ON a.session = c.id
                WHERE c.verdict = 5 AND c.gone ORDER BY a.alias FOR UPDATE OF a;
                DELETE FROM {schema}.alias a USING unnest(ids, verdicts, gones) AS c (id, verdict, gone)
                WHERE c.verdict = 5 AND c.gone AND a.session = c.id;
            END IF;
        END IF;
        UPDATE {schema}.session s SET
            epoch = greatest(c.proposal, s.epoch + 1), seq = 0, node = c.name, incarnation = c.claimant, released = false, deleted = false, ended = NULL,
            expires = CASE WHEN c.gone THEN 0 ELSE s.expires END,
            schema = CASE WHEN c.gone THEN 0 ELSE s.schema END,
            aliases = CASE WHEN NOT c.gone THEN s.aliases END,
            main = CASE WHEN NOT c.gone THEN s.main END,
            main_until = CASE WHEN c.gone THEN 0 ELSE s.main_until END
        FROM unnest(ids, names, claimants, proposals, verdicts, gones) AS c (id, name, claimant, proposal, verdict, gone)
        WHERE c.verdict = 5 AND s.session = c.id;
    END IF;

    RETURN QUERY
    SELECT c.i::integer, (CASE c.verdict WHEN 5 THEN 1 ELSE c.verdict END)::smallint, c.verdict = 5 AND c.gone,
        s.epoch, s.seq, s.node, s.incarnation, s.released, s.deleted, s.expires, s.schema, s.aliases,
        o.name, o.addr, o.weight, greatest(1, ceil(extract(epoch FROM o.ends - clock_timestamp()) * 1000))::bigint,
        ''::bytea, CASE WHEN c.main AND c.verdict IN (1, 5) AND NOT {schema}.past(s.main_until) THEN s.main END, s.main_until
    FROM unnest(ids, mains, verdicts, gones) WITH ORDINALITY AS c (id, main, verdict, gone, i)
    LEFT JOIN {schema}.session s ON s.session = c.id
    LEFT JOIN {schema}.node o ON c.verdict = 2 AND o.incarnation = s.incarnation;

    IF true = ANY (alls) OR cardinality(keys) > 0 THEN
        RETURN QUERY
        SELECT a.i::integer, NULL::smallint, NULL::boolean,
            NULL::bigint, NULL::bigint, NULL::bytea, NULL::uuid, NULL::boolean, NULL::boolean, NULL::bigint, NULL::bigint, NULL::bytea,
            NULL::bytea, NULL::bytea, NULL::integer, NULL::bigint,
            e.key, e.value, e.until
        FROM (
            SELECT c.i, c.id, NULL::bytea AS key FROM unnest(ids, alls, verdicts) WITH ORDINALITY AS c (id, alls, verdict, i)
            WHERE c.alls AND c.verdict IN (1, 5)
            UNION ALL
            SELECT c.i, c.id, k.key FROM unnest(key_claims, keys) AS k (i, key) JOIN unnest(ids, verdicts) WITH ORDINALITY AS c (id, verdict, i) USING (i)
            WHERE c.verdict IN (1, 5)
        ) a
        JOIN {schema}.entry e ON e.session = a.id AND (a.key IS NULL OR e.key = a.key)
        WHERE NOT {schema}.past(e.until);
    END IF;
END $$;

-- harden is a durable commit of something that nobody reads, so that all that was committed before it is durable.
CREATE FUNCTION {schema}.harden(memory uuid) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM {schema}.begin_write(true);
    PERFORM {schema}.remembers(memory);
    PERFORM pg_logical_emit_message(true, 'kvstore', '');
END $$;

-- keep_alive renews a lease, or ends it, and returns whether it ran until now. A lease that is lost with a crash of the
-- server was a hint only, and so is not waited for.
CREATE FUNCTION {schema}.keep_alive(id uuid, its_name bytea, its_addr bytea, its_weight integer, ttl interval) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    ran boolean;
BEGIN
    PERFORM {schema}.begin_write(false);
    SELECT ends > clock_timestamp() INTO ran FROM {schema}.node WHERE incarnation = id FOR UPDATE;
    IF ttl <= interval '0' THEN
        DELETE FROM {schema}.node WHERE incarnation = id;
    ELSE
        INSERT INTO {schema}.node VALUES (id, its_name, its_addr, its_weight, clock_timestamp() + ttl)
        ON CONFLICT (incarnation) DO UPDATE SET name = excluded.name, addr = excluded.addr, weight = excluded.weight, ends = excluded.ends;
    END IF;
    RETURN coalesce(ran, false);
END $$;

-- sweep removes some of the tombstones that are older than the retention, and nodes whose lease ended before it.
CREATE FUNCTION {schema}.sweep(retention interval, most integer) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM {schema}.begin_write(false);
    DELETE FROM {schema}.session WHERE session IN (
        SELECT session FROM {schema}.session WHERE deleted AND ended < clock_timestamp() - retention ORDER BY ended LIMIT most FOR UPDATE SKIP LOCKED);
    DELETE FROM {schema}.node WHERE ends < clock_timestamp() - retention;
END $$;
