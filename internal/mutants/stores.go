package main

// stores is what a store, or a wrapper of one, does.
var stores = []mutation{
	// What a store may forget.
	{"what was acknowledged is not kept", "internal/redo/redo.go",
		`			l.keep(changes, rs)
`, ``, "TestNothingAcknowledgedIsForgotten"},
	{"what a barrier does not cover is kept no longer", "internal/redo/redo.go",
		`l.forget(upto)`, `l.forget(max(upto, l.before+uint64(len(l.kept))))`, "TestWrittenDuringABarrier"},
	{"new changes are written before what was forgotten", "internal/redo/redo.go",
		`		l.again, l.upto = now, 0
	}
`, `		l.again, l.upto = now, 0
	}
	l.memory = now
`, "TestRecallGoesOn"},
	{"what cannot be written again is not told", "internal/redo/redo.go",
		`				lost = append(lost, some[i].Session)
`, ``, "TestTheForgottenAndClaimed"},
	{"what is written again begins anew each time", "internal/redo/redo.go",
		`	if l.again != now {`, `	if true {`, "TestRecallGoesOn"},
	{"what was written again stays no longer than before", "internal/redo/redo.go",
		`		l.kept[i].at = at // it may be forgotten once more
`, `		_ = at
`, "TestForgottenTwice"},
	{"what is lost is waited for", "harden.go",
		`		case lost != nil:`, `		case lost != nil && false:`, "TestForgotten"},
	{"who is gone is told again", "departures.go",
		`				living = now
`, `				if living == nil {
					living = now
				}
`, "TestDepartures"},
	{"oneself is told, too", "departures.go",
		`if n.Incarnation != db.self.Incarnation && !yield(n, nil) {`, `if !yield(n, nil) {`, "TestDepartures"},
	{"a store that does not watch is not asked", "departures.go",
		`			timer.Reset(every)
`, ``, "TestDepartures"},
	{"a watch wakes nobody", "departures.go",
		`case look <- struct{}{}:`, `case chan<- struct{}(nil) <- struct{}{}:`, "TestDepartures"},
	{"a watch that ended is not begun again", "departures.go",
		`errors.Is(err, errors.ErrUnsupported) {`, `errors.Is(err, errors.ErrUnsupported) || failures > 0 {`, "TestDeparturesInAnOutage"},
	{"an outage is told at each look", "departures.go",
		`if !failing && !yield(`, `if (!failing || true) && !yield(`, "TestDeparturesInAnOutage"},
	{"what ended in an outage is not told", "departures.go",
		`			failing = err != nil
`, `			if failing = err != nil; failing {
				living = nil
			}
`, "TestDeparturesInAnOutage"},

	// Aliases.
	{"an alias may be had twice", "store/fence.go",
		`h.Session != c.Session && !gone(h, alive, now)`, `h.Session != c.Session && !gone(h, alive, now) && false`, "TestJudgeAliases|TestContract"},
	{"an alias is kept from the session that has it", "store/fence.go",
		`h.Session != c.Session && !gone(h, alive, now)`, `!gone(h, alive, now)`, "TestJudgeAliases|TestContract"},
	{"a lookup finds what is gone", "store/fence.go",
		`	if gone(h, ownerAlive, now) {
		return Header{}`, `	if false {
		return Header{}`, "TestJudgeAliases|TestContract"},
	{"a session frees what another took", "store/memory/memory.go",
		`if id, _ := st.aliases.Get(a); id == s.header.Session && !slices.Contains(aliases, a) {`, `if !slices.Contains(aliases, a) {`, "TestContract"},
	{"a new life keeps the former one's aliases", "store/memory/memory.go",
		`			st.rename(s, nil)
`, ``, "TestContract"},
	{"bolt believes pages of aliases", "store/bolt/aliases.go",
		`	if err := b.soundAlias(key, false); err != nil {
		return "", err
	}
`, ``, "TestFlipped|TestWrongPages|TestNumbers"},
	{"bolt gives away an alias whose record is damaged", "store/bolt/aliases.go",
		`				refused = b.store.wrap(damaged.CorruptError)
`, ``, "TestAliasDamaged"},
	{"bolt indexes aliases, and does not say so", "store/bolt/aliases.go",
		`Put(keyFormat, formatValue(format))`, `Put(keyFormat, formatValue(formatBefore))`, "TestFormatBefore"},
	{"Check does not look for what the index of aliases lacks", "store/bolt/check.go",
		`		c.names(string(session), &h)
`, ``, "TestAliasesDisagree|TestFormatBefore"},
	{"split tells the owner that data knows", "store/split/split.go",
		`return merge(owned, h), err`, "owned.Epoch = 0\n\treturn merge(owned, h), err", "TestLookup"},

	// Aliases in their order.
	{"memory finds what is gone", "store/memory/memory.go",
		`store.JudgeLookup(s.header, alive, now).Epoch == 0 {`, `store.JudgeLookup(s.header, alive, now).Epoch == 0 && false {`, "TestContract"},
	{"memory's page forgets the rest", "store/memory/memory.go",
		`			f.Next = alias
`, ``, "TestContract"},
	{"an ordered map loses what a full leaf has below its middle", "internal/ordered/ordered.go",
		`vals: slices.Clone(l.vals[half:])}`, `vals: slices.Clone(l.vals[:len(l.vals)-half])}`, "TestAgainstAMap"},
	{"bolt passes by aliases that a page hides", "store/bolt/aliases.go",
		`through(from, k); err != nil {`, `through(from, k); false {`, "TestFindMissesNothing"},
	{"bolt takes a range that damage hides for empty", "store/bolt/aliases.go",
		`through(from, end); err != nil {`, `through(from, end); false {`, "TestFindMissesNothing"},
	{"bolt finds aliases in a transaction without end", "store/bolt/aliases.go",
		`if n == findPage || len(found.Aliases) == limit {`, `if len(found.Aliases) == limit {`, "TestFindPage"},
	{"bolt finds beside a damaged alias, and does not say so", "store/bolt/aliases.go",
		`			bad = append(bad, b.store.wrap(err))
`, ``, "TestAliasDamaged|TestFindBesideDamage"},
	{"bolt finds what is gone", "store/bolt/aliases.go",
		`	return store.JudgeLookup(h, alive, b.wall), nil`, `	_ = alive
	return h, nil`, "TestContract"},
	{"split fences a creation that data has", "store/split/apply.go",
		`if was.HeldBy(c.Owner, c.Epoch) && c.Seq <= was.Seq {`, `if c.Seq == 0 && was.HeldBy(c.Owner, c.Epoch) && c.Seq <= was.Seq {`, "TestRefusedCreation"},
	{"split does not say which epoch a creation has to be above", "store/split/apply.go",
		`if own := r.Header; own.Deleted && `, `if own := r.Header; c.Seq == 0 && own.Deleted && `, "TestRefusedCreation"},
	{"split leaves in owners what fails by an alias", "store/split/apply.go",
		`	return refused, nil
`, `	return nil, nil
`, "TestCreationWithATakenAlias"},
	{"split takes a claim that data has not heard of for no reason to fence", "store/split/apply.go",
		`own.Epoch >= c.Epoch || own.Exists() && own.Epoch != was.Epoch {`, `own.Epoch >= c.Epoch && own.Epoch < 1 {`, "TestCreationOfAClaimedSession"},
	{"split finds the owners that data knows", "store/split/split.go",
		`			n.Header = merge(owned[i], n.Header)
`, ``, "TestLookup"},
	{"split finds a session whose owner it could not ask for", "store/split/split.go",
		`errs[i] == nil {`, `errs[i] == nil || true {`, "TestFind"},
	{"hidden aliases are found in the order in which they are hidden", "store/seal/read.go",
		`	f, ok := s.inner.(store.Finder)
	if !ok || s.names != nil {`, `	f, ok := s.inner.(store.Finder)
	if !ok {`, "TestPowers"},

	// The file.
	{"bolt does not verify checksums", "store/bolt/record.go",
		`if binary.BigEndian.Uint64(content[n:]) != checksum(key, content[:n]) {`, `if false {`, "TestFlipped|TestHeaderRecord"},
	{"bolt's checksum leaves the key out", "store/bolt/record.go",
		`	d.Write(key)
`, ``, "TestWrongPages|TestHeaderRecord|Record|Swapped"},
	{"bolt tears a call apart", "store/bolt/commit.go",
		`		for _, it := range items {
			if err := b.do(it); err != nil {`, `		for i, it := range items {
			if i > 0 {
				it.fail(nil)
				continue
			}
			if err := b.do(it); err != nil {`, "TestContract|TestAgainstMemory"},
	{"bolt says that it has four writers", "store/bolt/bolt.go",
		`Writers() int { return 1 }`, `Writers() int { return 4 }`, "TestOneWriter"},
	{"Check takes a bucket for a tombstone's record", "store/bolt/check.go",
		`	if e.bucket {
		c.report(fmt.Errorf("index of tombstones`, `	if false {
		c.report(fmt.Errorf("index of tombstones`, "TestCheckSeesBucketInIndex"},
	{"bolt goes on after a sync that failed", "store/bolt/guard.go",
		`case s.rolledBack(id, err):`, `case true:`, "Sync|Full"},
	{"bolt goes on after half a meta page", "store/bolt/guard.go",
		`return p.meta() == nil && p.txid < uint64(id)`, `s.txid = 0
	return p.meta() == nil`, "TestFaultAtEachCall"},
	{"bolt believes what a killed process left unsynced", "store/bolt/settle_linux.go",
		`	if err := f.Sync(); err != nil {
		return err
	}
`, ``, "TestOpenAsksTheDisk"},
	{"bolt believes memory after a sync that failed", "store/bolt/settle_linux.go",
		`	syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), 0, 0, fadviseDontNeed, 0, 0)
`, ``, "TestOpenAsksTheDisk"},
	{"bolt syncs the name of a fresh file only", "store/bolt/open.go",
		`(fresh || !opt.NoSync)`, `fresh`, "TestOpenAsksTheDisk"},
	{"bolt does not open what a power cut left half made", "store/bolt/open.go",
		`half && readOnly {`, `false {`, "TestHalfMade"},
	{"bolt empties a small file with something in it", "store/bolt/halfmade.go",
		`!bytes.Equal(got, want[i:end]) && `, `false && `, "TestHalfMade"},
	{"bolt acknowledges what is written into a file that is gone", "store/bolt/guard.go",
		`return s.wrap(s.place.look()) // after`, `return nil // after`, "TestReplacedWhileOpen"},
	{"bolt takes another file for its own", "store/bolt/place.go",
		`!os.SameFile(info, p.file)`, `info == nil`, "TestReplacedWhileOpen"},
	{"bolt goes on writing into a file that is gone", "store/bolt/guard.go",
		`	if s.place.lost {`, `	if false {`, "TestReplacedWhileOpen"},
	{"bolt writes into a file that was written over", "store/bolt/guard.go",
		`s.txid != 0 && id != s.txid+1`, `false`, "TestWrittenOver"},
	{"a walk does not look where it seeks", "store/bolt/sound.go",
		`		if hi == nil || to != nil && bytes.Compare(to, hi) < 0 {
			return nil
		}
		from = hi
`, `		if to == nil || hi == nil || s.leaf().has(to) {
			return nil
		}
		from = to
`, "TestNothingIsPassedBy"},

	// What is sealed.
	{"a sealed value is not bound to its session", "store/seal/record.go",
		`p.data = appendString(p.data[:0], session)`, `p.data = p.data[:0]`, "TestBinding|TestDamage"},
	{"a sealed value is not bound to its key", "store/seal/record.go",
		`	b = appendString(b, key)
`, ``, "TestBinding|TestDamage"},
	{"a sealed value can be given another expiry", "store/seal/record.go",
		`uint64(expires))`, `0)`, "TestBinding|TestDamage"},
	{"session, expiry and key run together in what is sealed", "store/seal/record.go",
		`	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
`, ``, "TestBinding|TestFormat"},
	{"a sealed value can be of an epoch to come", "store/seal/ring.go",
		`h.epoch > epoch`, `false`, "TestBinding|TestDamage"},
	{"all values are sealed with one nonce", "store/seal/record.go",
		`	binary.BigEndian.PutUint64(p.nonce[4:], count)
`, ``, "TestFormat"},
	{"two values are sealed with one count", "store/seal/ring.go",
		`return end - blocks, end`, `return end / blocks, end`, "TestNoNonceTwice|TestFormat"},
	{"a subkey seals without end", "store/seal/ring.go",
		`end <= maxBlocks`, `true`, "TestBlocks|TestNoNonceTwice"},
	{"what was never sealed is read", "store/seal/read.go",
		`errors.Is(err, errPlain) && s.plain`, `errors.Is(err, errPlain)`, "TestAcceptPlain|TestDamage"},
	{"a hidden name that was tampered with is shown", "store/seal/names.go",
		`!hmac.Equal(iv, want[:]) ||`, `len(want) == 0 ||`, "TestHiddenNames|TestDamagedNames"},
	{"to seal anew takes sessions from the living", "store/seal/reseal.go",
		`Owner: p.owner, All: true}`, `Owner: p.owner, All: true, Force: true}`, "TestReseal"},
	{"a pass over sealed values says it is done although some could not be read", "store/seal/reseal.go",
		`ok = err == nil; !ok {`, `ok = true; !ok {`, "TestResealFails"},
}
