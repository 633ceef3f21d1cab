package main

// inside is what a session holds beside values under keys, and what finds it by that.
var inside = []mutation{
	// What a session holds beside values under keys.
	{"a page that is out of date brings a deleted key back", "span.go",
		`s.more().forgotten != forgotten { // something`, `s.more().forgotten < forgotten { // something`, "TestListedWhileDeleted"},
	{"what was listed once is known for the keys beside it, too", "span.go",
		`return span{path + "/", path + "0"}`, `return span{path, path + "0"}`, "TestChildren|TestTreesModel"},
	{"a key that came does not disturb who has listed", "commit.go",
		`		s.x.shape = s.ver
`, ``, "TestTreesConflict"},
	{"what expires is listed for ever", "span.go",
		`			if e.Expires != 0 {
`, `			if false {
`, "TestTreesExpire"},
	{"a rename writes over what is there", "tree.go",
		`if there || len(taken) > 0 {`, `if there || len(taken) < 0 {`, "TestRename|TestTreesModel"},
	{"a rename forgets when an entry ends", "tree.go",
		`c.val, c.expires.Std())`, `c.val, time.Time{})`, "TestRename"},
	{"an application's key may be the library's", "errors.go",
		`	if isOwn(key) {
		return fmt.Errorf("%w: session %q: key %.32q begins`, `	if false {
		return fmt.Errorf("%w: session %q: key %.32q begins`, "TestNames|TestRename"},
	{"ends of a queue that may be stored are taken for those that were", "own.go",
		`	o.stored = nil
	return false`, `	return false`, "TestQueueModel"},
	{"what flies is taken for what is stored", "own.go",
		` || s.has(flying) { // what`, ` { // what`, "TestFaultsSameAsFlies"},
	{"what is as it was is written again", "batch.go",
		`		if it.same {
			continue
		}
`, ``, "TestQueueCoalesces"},
	{"the last item of a queue takes others' places with it", "places.go",
		`	if r.items == 0 && !r.bounded && len(`, `	if !r.bounded && len(`, "TestShelf"},
	{"an empty page stays beside the others", "places.go",
		`		case r.items == 0:
			clear(r.pages)`, `		case false:
			clear(r.pages)`, "TestShelf"},
	{"empty queues stay in memory", "places.go",
		` > keptRows {
		delete(`, ` > 1<<30 {
		delete(`, "TestShelf"},
	{"a place that is used again has what was there", "places.go",
		`	e.charge, e.dirty, e.stored, e.armed = 0, false, false, false
`, ``, "TestShelf"},
	{"a page that was near is found when it is gone", "places.go",
		`		if r.near[i] == p {`, `		if false && r.near[i] == p {`, "TestShelf"},
	{"an item that the store refused is popped", "queue.go",
		`for st.cell = db.absent; head != tail && st.cell == db.absent; head`, `for st.cell = nil; head != tail && st.cell == nil; head`, "TestQueueWithHoles"},
	{"a pop loads one item at a time", "queue.go",
		`const queuePage = 64`, `const queuePage = 1`, "TestQueueIsNotLoaded"},
	{"two swaps of one version succeed", "step.go",
		`		if db.versionOf(c) != st.old {`, `		if false {`, "TestCompareAndSwap"},
	{"what was pushed and popped keeps its place among what is dirty", "commit.go",
		`	} else if int(x.idle) > len(d)/2+16 {`, `	} else if false {`, "TestPlacesOfWhatIsGone"},
	{"what is dirty loses its place with what is gone", "commit.go",
		`			if k.dirty {
				kept`, `			if k.dirty && k.key[0] == 0 {
				kept`, "TestPlacesOfWhatIsGone"},
	{"stored is said of what is in memory", "commit.go",
		`if ch.stored || db.opt.Mode`, `if db.opt.Mode`, "TestAcks|TestCompareAndSwap"},
	{"what is rejected while Sync waits for what came after it is told to nobody", "sync.go",
		`untold == nil && v.waits {`, `false {`, "TestSyncTellsOfWhatIsInFlight"},
	{"a counter goes round", "counter.go",
		`	if (was^sum)&(delta^sum) < 0 {`, `	if false {`, "TestCounter"},
	{"an alias of another session here is taken", "alias.go",
		`		if holder := db.names.take(a, s); holder != nil {`, `		if holder := db.names.take(a, s); false {`, "TestAliasClash"},
	{"a part of a refused transaction's aliases stays", "alias.go",
		`				if !slices.Contains(s.x.aliases, a) {
					db.names.leave(s, a)
				}
`, `				_ = a
`, "TestAliasClash"},
	{"a clash with a name that was given up is for good", "alias.go",
		`			ref.passes = true
		} else {
			ref.aliases = []string{clash.Alias}
		}`, `		}
		ref.aliases = []string{clash.Alias}`, "TestAliasMovesHere"},
	{"who wants a name waits for a session that another node has by now", "alias.go",
		` && (!o.settled() || f.s.waives(clash.Alias)) {`, ` {`, "TestAliasOfTheStolen"},
	{"the store is believed about an alias that was removed here", "alias.go",
		`s != nil && s.dropped(h, alias, db.self) {`, `s != nil && false {`, "TestAlias$"},
	{"aliases stay when their session leaves", "resident.go",
		`		db.names.leave(s, x.aliases...)
`, ``, "TestModelMemory"},
	{"a refused alias is sent again", "settle.go",
		`			gone = db.drop(s, f, ref.aliases)
`, ``, "TestAliasClash|TestAliasUnsupported"},
	{"what a newer program has changed is taken", "schema.go",
		`	if h.Schema <= db.opt.Schema || db.opt.AcceptNewer {`, `	if true {`, "TestSchema"},
	{"what was not to be taken is kept", "adopt.go",
		`			db.giveBack(c.Header)
`, ``, "TestSchema"},
	{"it is given back once, whether that arrives or not", "schema.go",
		`for fails := 1; !try(); fails++ {`, `for fails := 1; false; fails++ {`, "TestSchemaGivenBack"},
	{"an older program steals from a newer one", "adopt.go",
		`				return nil, err // its owner knows it
`, ``, "TestSchema$"},
	{"an older value is read as a newer one", "schema.go",
		`version < db.opt.Schema && db.opt.Upgrade != nil:`, `false:`, "TestSchema$|TestUpgradeFails"},
	// Ends.
	{"a slot of the wheel that now has come to is not emptied first", "wheel.go",
		`l > 0 && w.busy[l]&(1<<d) != 0 {`, `false && d > 0 {`, "TestWheel"},
	{"the expirer does not see that the clock went back", "alarms.go",
		`t < x.wheel.now-store.Time(jump.Milliseconds())`, `false`, "TestExpirerClock"},
	{"an alarm that was moved to an earlier time does not wake the expirer", "alarms.go",
		`first := t < x.until`, `first := false`, "Expiry|TouchTable|OnExpired"},
	{"what leaves memory leaves its alarms behind", "resident.go",
		`	s.fate.Or(1)
	db.disarm(s)
`, `	s.fate.Or(1)
`, "TestAlarms"},
	{"an expiry that moved later is an end all the same", "expiry.go",
		`case !at.Past(now):`, `case false:`, "TestTouch"},
	{"every touch is written", "touch.go",
		`s.x.floor < end-lag {`, `s.x.floor < end+lag {`, "TestTouchedForDays|TestTouchIsNot"},
	{"no touch is written", "touch.go",
		`s.x.floor == 0 || s.x.floor < end-lag {`, `s.x.floor == 0 || s.x.floor < lag {`, "TestTouchedForDays"},
	{"a touch forgets that an end before it is on its way", "touch.go",
		`		x.floor = min(x.floor, t)
`, ``, "TestTouchAndExpire"},
	{"an eviction forgets a touch", "evict.go",
		`if goes && s.behind() {`, `if false {`, "TestTouchIsNotForgotten"},
	{"a touch brings an end nearer", "touch.go",
		`if was == 0 || end <= was {`, `if was == 0 {`, "TestTouchAndExpire"},
	{"what is put again at its end is not told of", "expiry.go",
		`		db.tellEntry(s, key, c)
	}
	switch`, `	}
	switch`, "TestOnExpired"},
	{"a life that a Put ends is not told of", "commit.go",
		`		db.tellSession(s)
`, `		if ch.del {
			db.tellSession(s)
		}
`, "TestOnExpired"},
	{"sweepers do not mind the ring", "sweep.go",
		`!w.All && ring.Owner(h.Session) != db.self.Node`, `!w.All && ring.Owner(h.Session) == ""`, "TestSweepShares"},
	{"a sweeper takes an epoch that is far above", "sweep.go",
		`Epoch: h.Epoch + 1, Seq: seq`, `Epoch: h.Epoch + 2, Seq: seq`, "TestSweepShares"},
	{"events do not wait for a sweep", "sweep.go",
		`c = db.callFor(h.Session, sweep)`, `c = &call[V]{how: sweep, done: make(chan struct{})}`, "TestSweepersRace|TestSweepAndEvents"},
	{"what is swept may be what a claim has just made", "sweep.go",
		`Seq: seq, Birth: seq, Create`, `Seq: seq, Create`, "TestSweepIsLate"},
	{"a sweep does not ask again", "sweep.go",
		`const sweepAttempts = 3`, `const sweepAttempts = 1`, "TestSweepAndFaults"},
	{"who is refused counts as swept", "sweep.go",
		`if o := results[i].Outcome; o == store.Applied || o == store.Already {`, `if o := results[i].Outcome; o != store.Undecided {`, "TestSweepOfTheLiving"},
	{"bolt takes for absent a session whose key damage has altered", "store/bolt/read.go",
		`if pages.hides(key, maxHeader+maxInline) {`, `if false {`, "TestAlteredKeys"},
	{"bolt takes for absent an entry whose key damage has altered", "store/bolt/read.go",
		`if r.sound.hides(key, maxRecord) {`, `if false {`, "TestAlteredKeys"},
	{"bolt looks at no record before a range", "store/bolt/read.go",
		`; i >= 0 {
			beside(`, `; false && i >= 0 {
			beside(`, "TestAlteredKeys"},
	{"bolt looks at no record after a range", "store/bolt/read.go",
		`if k != nil && r.sound.leaf().has(k) {`, `if false {`, "TestAlteredKeys"},
	{"bolt gives away an alias whose key damage has altered", "store/bolt/aliases.go",
		`!b.upgraded && b.aliasPages.hides(`, `false && b.aliasPages.hides(`, "TestAlteredKeys"},
	{"bolt takes for damaged what it has just deleted", "store/bolt/sound.go",
		`		if bytes.Equal(k, key) {
			return false // the`, `		if false && bytes.Equal(k, key) {
			return false // the`, "TestContract|TestAlias"},
	// Timers.
	{"a timer fires before its time", "clock.go",
		`		if t.At.After(now) {`, `		if t.At.After(now.Add(time.Second)) {`, "TestTimers"},
	{"a timer fires for each look at it", "timer.go",
		`		tx.disarm(t.Name)
`, ``, "TestTimers"},
	{"a timer that was set anew while nobody looked fires at the old time", "timer.go",
		`err != nil || due != store.TimeOf(t.At) {`, `err != nil || due == 0 {`, "TestTimerMovesBeforeItFires"},
	{"a timer does not look at its payload", "timer.go",
		`		c, err := tx.cell(timerKey(t.Name))`, `		c, err := new(cell[V]), error(nil)`, "TestTimers|TestTimerChangesWhileItFires"},
	{"what a failed timer has changed stays", "timer.go",
		`		return r.f(ctx, tx, Firing[V]{Session: tx.s.id(), Epoch: epoch, Name: t.Name, At: t.At, Payload: c.val})
`, `		_ = r.f(ctx, tx, Firing[V]{Session: tx.s.id(), Epoch: epoch, Name: t.Name, At: t.At, Payload: c.val})
		return nil
`, "TestTimersFail"},
	{"one timer that fails stops the others", "clock.go",
		`			failed, err = true, nil
`, `			failed = true
`, "TestTimersFail"},
	{"a timer that failed is forgotten", "clock.go",
		`			if next == 0 || retry < next {`, `			if false {`, "TestTimersFail"},
	{"an alarm that goes off while its session is rung is lost", "clock.go",
		`		r.again = true
`, ``, "TestAlarmWhileRung"},
	{"a session is rung twice at a time", "clock.go",
		`if r := c.rung[id]; r != nil {`, `if r := c.rung[id]; r != nil && false {`, "TestTimersAtATime|TestTimerChangesWhileItFires"},
	{"an adopted session's timers are not set", "alias.go",
		`	db.timing(s, nil)
`, ``, "TestTimersOfTheDead"},
	{"an evicted session's timers are off", "resident.go",
		`	if st != evicted { // whose timers go on`, `	if true {`, "TestTimersOfTheEvicted"},
	{"a timer outlives its session's life", "commit.go",
		`	db.unmark(s)
`, ``, "TestTimersEnd"},
	{"marks do not come with a claim", "marks.go",
		`	x.marks = slices.DeleteFunc(slices.Clone(all), func(a string) bool { return !isMark(a) || isTermMark(a) && c.indexOf(a) == nil })
`, ``, "TestTimersOfTheDead"},
	{"marks are the application's aliases", "marks.go",
		`slices.DeleteFunc(slices.Clone(all), isMark)`, `slices.Clone(all)`, "TestTimersOfTheDead|TestTimersEnd"},
	{"a flush leaves the marks out", "batch.go",
		`s.x.names(), max`, `s.x.aliases, max`, "TestTimersOfTheDead"},
	{"who looks for what is due stops at a page", "due.go",
		`		if found.Next <= r.From {`, `		if true {`, "TestAdoptDue"},
	{"who looks for what is due takes what is not", "due.go",
		`To: dueBefore(now + 1)`, `To: dueBefore(now + 1<<40)`, "TestAdoptDue"},
	{"who looks for what is due takes what the living have", "due.go",
		` && db.orphaned(h, alive)`, ``, "TestAdoptDue"},
	{"what is due is looked for once", "due.go",
		`		timer.Reset(db.opt.Lease)
`, ``, "TestFaultsTimers|TestTimersOfTheDead"},
	{"who asks for the living waits for ever", "departures.go",
		`	ctx, cancel := context.WithTimeout(ctx, db.opt.StoreTimeout)
	defer cancel()
	nodes, err := db.store.Nodes(ctx)`, `	nodes, err := db.store.Nodes(ctx)`, "TestFaultsTimers"},
	{"a mark that is not of this session's alone", "marks.go",
		`	return append(append(b, id[:whoHead]...), sum[:]...)`, `	return append(append(b, id[:whoWhole]...), sum[:0]...)`, "TestMarksOfSessions"},
	{"a zero byte in a name ends it", "marks.go",
		`b = append(append(b, s[:i]...), 0, 0xFF)`, `b = append(append(b, s[:i]...), 0, 1)`, "TestTimerMarks"},
	{"timers and aliases are bounded apart", "marks.go",
		`	n := len(aliases) + len(marks)
`, `	n := max(len(aliases), len(marks))
`, "TestTimersInvalid"},
	// What is told of changes, and asked before them.
	{"commits are told in any order", "commit.go",
		`		db.tell(r)
`, `		go db.tell(r)
`, "TestOnCommitOrder|TestCommits"},
	{"what a full queue misses is not counted", "listen.go",
		`		l.missed++
`, ``, "TestSlow"},
	{"what was missed is told again and again", "listen.go",
		`	l.missed = 0
`, ``, "TestSlow"},
	{"a listener's queue grows without end", "listen.go",
		`l.held+r.cost > l.max`, `false`, "TestSlow"},
	{"a listener's queue is full for ever", "listen.go",
		`	l.held -= q.r.cost
`, ``, "TestSlow|TestOneLargeCommit"},
	{"what is larger than the queue is never told", "listen.go",
		`l.held > 0 && `, ``, "TestOneLargeCommit"},
	{"Close throws away what is to be told", "listen.go",
		`		l.end(false)
`, `		l.end(true)
`, "TestCloseAndListeners|TestWatchEnds"},
	{"Close does not wait for listeners", "listen.go",
		`ls.runs.Wait(); close(done)`, `close(done)`, "TestCloseAndListeners"},
	{"what Close could not tell is not counted", "listen.go",
		`left += l.end(true)`, `l.end(true)`, "TestCloseAndListeners"},
	{"after stop what waits is told", "listen.go",
		`	l.end(true)
	ls.mu.Lock()`, `	ls.mu.Lock()`, "TestStopListening"},
	{"a listener that goes takes another's place", "listen.go",
		`slices.DeleteFunc(slices.Clone(*was), func(o *listener`, `slices.DeleteFunc(*was, func(o *listener`, "TestListenersAreReplaced"},
	{"a walk of changes is not given up when it ends", "watch.go",
		`		defer leave()
`, ``, "TestWatchEnds"},
	{"a watch outlives its context", "watch.go",
		`context.AfterFunc(ctx, leave)`, `context.AfterFunc(ctx, func() {})`, "TestWatchEnds"},
	{"a session's watch takes others whose names begin alike", "changes.go",
		` && (!f.one || id == f.Sessions)`, ``, "TestWatchFilter"},
	{"a watch shows the library's own entries as keys", "changes.go",
		`!isOwn(key) && strings`, `strings`, "TestWatchFilter"},
	{"a watch shows all of a commit", "changes.go",
		`if !f.hasKey(d.key) {`, `if false {`, "TestWatchFilter"},
	{"a rejected entry is not told", "settle.go",
		`			db.reverts(s, nil, delta[V]{it.key, it.cell, it.e.cell.Load()})
`, ``, "TestCommits"},
	{"a rejected alias is not told", "alias.go",
		`		db.reverts(s, was)
`, `		_ = was
`, "TestCommits"},
	{"a tenure that goes on is told as a new one", "adopt.go",
		`	if h.Seq == 0 {
		return CauseAdopt`, `	if true {
		return CauseAdopt`, "TestCommitsOfTheEvicted|TestReplay"},
	{"what came after a lost answer is told as if it had been here", "adopt.go",
		`	if h.Seq == 0 {
		return CauseAdopt`, `	if false {
		return CauseAdopt`, "TestCommitsAfterALostClaim"},
	{"a session that leaves is not told", "resident.go",
		`	db.departs(s, st, why)
`, ``, "TestCommits|TestReplay"},
	{"what comes from the store is not told", "adopt.go",
		`	db.came(s, why)
`, ``, "TestCommits|TestReplay"},
	{"what is committed is not what was approved", "changes.go",
		` && slices.EqualFunc(r.deltas, o.deltas, func(a, b delta[V]) bool { return a.sameAs(b, absent) })`, ``, "TestBeforeCommitAgain|TestBeforeCommitRace"},
	{"aliases that moved are not put before the judges", "changes.go",
		`slices.Equal(r.was, o.was) && slices.Equal(r.now, o.now) && `, ``, "TestBeforeCommitAgain"},
	{"a judge who came meanwhile is passed by", "veto.go",
		`was.judges == js && `, ``, "TestBeforeCommitAgain|TestBeforeCommitAndAFullBuffer"},
	{"what is refused keeps its room", "commit.go",
		`			db.budget.release(room)
			room = 0
			switch err {`, `			switch err {`, "TestBeforeCommitAndAFullBuffer"},
	{"a Delete that is refused passes for done", "kvstore.go",
		` && !errors.Is(err, ErrRefused)`, ``, "TestBeforeCommitErrors"},
	{"who leaves the judges takes another's place", "veto.go",
		`all = slices.Clone(*was)`, `all = *was`, "TestJudgesInOrder"},

	// Indexes and queries.
	{"terms that change are not marked", "terms.go",
		`if !same(of, s.marks(), db.termsOf(w.cell)) {`, `if false {`, "TestTermsFollowTheEntry|TestQueriesAgainstAScan"},
	{"the terms of an entry that has expired stay", "expiry.go",
		`		ch.marks.terms = db.reterms(s, ch)
`, ``, "TestQueriesAgainstAScan"},
	{"a new life keeps the timers of one that had expired", "alias.go",
		`next, marks = nil, nil`, `next = nil`, "TestTermsFollowTheEntry"},
	{"a session without a term says nothing", "terms.go",
		`			next = append(next, nullMark(d.prefix, id))
`, ``, "TestTermsFollowTheEntry"},
	{"a version shares the terms of another", "terms.go",
		`slices.Equal(was.terms.all, all)`, `len(was.terms.all) == len(all)`, "TestTermsFollowTheEntry|TestQueriesAgainstAScan"},
	{"a session that comes in is not looked at", "alias.go",
		`	db.remark(s)
`, ``, "TestUndeclared"},
	{"a session that comes in is not found", "alias.go",
		`		db.terms.moved(s, nil, s.x.marks)
`, ``, "TestQueriesAgainstAScan|TestReindex"},
	{"a session that is evicted is still found in memory", "resident.go",
		`		db.terms.moved(s, s.marks(), nil)
`, ``, "TestQueriesAgainstAScan|TestMergeAgainstMutators"},
	{"who does not declare an index keeps its marks", "marks.go",
		` || isTermMark(a) && c.indexOf(a) == nil`, ``, "TestUndeclared"},
	{"marks say what could not be encoded", "batch.go",
		`if db.terms.of(it.key) != nil {`, `if false {`, "TestTermsOfTheRejected"},
	{"marks say what the store has refused", "settle.go",
		`		db.disowned(s, bad)
`, ``, "TestTermsOfTheRejected|TestQueriesAgainstAScan"},
	{"what is loaded after a refusal is not looked at", "load.go",
		`	db.remark(s)
	s.mu.Unlock()`, `	s.mu.Unlock()`, "TestTermsOfTheRejected"},
	{"the store is read before memory", "merge.go",
		`	if q.overlay {
		cs, next = db.residentPage(q)
	}
	stored, storedNext, damaged, err := db.storedPage(ctx, q)
`, `	stored, storedNext, damaged, err := db.storedPage(ctx, q)
	if q.overlay {
		cs, next = db.residentPage(q)
	}
`, "TestMergeOrder"},
	{"a page goes on where only one of two has ended", "merge.go",
		`if next == "" || storedNext != "" && storedNext < next {`, `if next == "" || storedNext != "" && storedNext > next {`, "TestQueriesAgainstAScan"},
	{"what is in memory and in the store is found twice", "merge.go",
		`	cs = slices.CompactFunc(cs, func(a, b candidate[V]) bool { return a.name == b.name })
	if next`, `	if next`, "TestQueriesAgainstAScan"},
	{"the store decides on what is in memory", "merge.go",
		`	for q.overlay {`, `	for false {`, "TestQueriesInStrictMode"},
	{"a mark is believed that memory does not have", "merge.go",
		`		if _, has := slices.BinarySearch(s.marks(), c.name); !has {
			return true, nil
		}
`, ``, "TestMarksDecide"},
	{"a mark is believed that the value does not bear out", "merge.go",
		`if q.index != nil && !slices.ContainsFunc(db.termsOf(cell)`, `if false && !slices.ContainsFunc(db.termsOf(cell)`, "TestMarksDecide"},
	{"what has expired is found in the store", "merge.go",
		`if snap.Header.Gone(time.Now()) {`, `if !snap.Header.Exists() {`, "TestQueriesAgainstAScan"},
	{"a prefix that ends with 0xFF finds nothing", "query.go",
		`	for b[len(b)-1] == 0xFF {
		b = b[:len(b)-1]
	}
`, ``, "TestTermRanges"},
	{"a cursor of another query is taken", "query.go",
		`!ok || name < s.from || s.to != "" && name >= s.to`, `!ok`, "TestQueriesInvalid"},
	{"Reindex passes for complete while others have sessions", "reindex.go",
		`p.done.Others+p.done.Remaining+p.done.Failed == 0`, `p.done.Failed == 0`, "TestReindex"},
	{"Reindex keeps what it has claimed", "reindex.go",
		`Release: !hs[i].HeldBy(db.self, h.Epoch) || hs[i].Released,`, `Release: false,`, "TestReindex"},
	{"Reindex releases what this node had evicted", "reindex.go",
		`Release: !hs[i].HeldBy(db.self, h.Epoch) || hs[i].Released,`, `Release: true,`, "TestReindexEvicted"},
	{"Reindex takes marks that another version needs", "reindex.go",
		`	if p.Drop {`, `	if true {`, "TestReindex"},
}
