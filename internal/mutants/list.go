package main

// mutation is one way in which the code can be wrong.
type mutation struct {
	name string
	file string // from the module's root
	old  string // stands there once
	new  string
	by   string // a regexp of the tests that should notice: run first, those of the file's package before others
}

var mutations = []mutation{
	// The fence.
	{"a change of any tenure is applied", "store/fence.go",
		`h.Epoch > 0 && h.HeldBy(c.Owner, c.Epoch):`, `h.Epoch > 0:`, "TestJudgeChange|TestStealersRace|TestZombieAgainstAdopter"},
	{"a change is fenced by its epoch only if that is older", "store/fence.go",
		`h.HeldBy(c.Owner, c.Epoch):`, `h.Owner.Incarnation == c.Owner.Incarnation:`, "TestJudgeChange|TestCreateAgain"},
	{"the late twin of a change is applied", "store/fence.go",
		`c.Seq <= h.Seq`, `c.Seq == h.Seq`, "TestJudgeChange|TestFaultsFlush"},
	{"a repeated change is fenced", "store/fence.go",
		`return Already, h, false`, `return Fenced, h, false`, "TestJudgeChange|TestFaultsFlush"},
	{"a change finds no header and takes it for free", "store/fence.go",
		`c.Create && c.Epoch > h.Epoch`, `c.Epoch > h.Epoch`, "TestJudgeChange|TestContract"},
	{"a creation replaces a session that lives", "store/fence.go",
		`c.Epoch > h.Epoch && gone(h, ownerAlive, now):`, `c.Epoch > h.Epoch:`, "TestJudgeChange|TestContract"},
	{"a creation may use an epoch again", "store/fence.go",
		`c.Create && c.Epoch > h.Epoch`, `c.Create && c.Epoch >= h.Epoch`, "TestJudgeChange|TestContract"},
	{"a change goes on in a session that was deleted", "store/fence.go",
		`h.Deleted && !c.Delete && !c.Create || `, ``, "TestJudgeChange|TestContract"},
	{"a creation passes for a change of what was there", "store/fence.go",
		` || h.Seq < c.Birth`, ``, "TestCreateAgain|TestJudgeChange"},
	{"a claim does not raise the epoch", "store/fence.go",
		`max(r.Epoch, h.Epoch+1)}`, `max(r.Epoch, h.Epoch, 1)}`, "TestJudgeClaim|TestOneWinner"},
	{"a claim takes a session whose owner lives", "store/fence.go",
		`!h.Released && ownerAlive && !r.Force:`, `!h.Released && ownerAlive && !r.Force && false:`, "TestJudgeClaim|TestContract"},
	{"what has expired is gone though its owner lives", "store/fence.go",
		`h.Expires.Past(now) && (h.Released || !ownerAlive)`, `h.Expires.Past(now)`, "TestJudge|TestContract"},
	{"a delete forgets the epoch", "store/memory/memory.go",
		`	s.header = next
`, `	s.header = next
	if next.Deleted {
		s.header.Epoch = 0
	}
`, "TestContract|TestSessionExpiry"},
	{"bolt forgets the epoch with a delete", "store/bolt/write.go",
		`	h.set(&p.next)
`, `	h.set(&p.next)
	if p.next.Deleted {
		h.epoch = 1
	}
`, "TestContract|TestAgainstMemory"},

	// One flush.
	{"half of a transaction is flushed", "flush.go",
		`for ; n < len(x.dirty) && !(s.probing && len(b.items) > first); n++ {`,
		`for ; n < (len(x.dirty)+1)/2 && !(s.probing && len(b.items) > first); n++ {`, "TestModel|TestZombieAgainstAdopter"},
	{"a creation does not say when it began", "flush.go",
		`		f.change.Birth = s.x.birth
`, ``, "TestCreateAgain"},
	{"put and deleted in one window is written", "commit.go",
		`if w.cell == db.absent && !e.stored {`, `if w.cell == db.absent && !e.stored && false {`, "TestPutAndDeleteInOneWindow|TestModel"},
	{"Close forgets what was just collected", "flush.go",
		`				db.recall(&b.flights[len(b.flights)-1])
`, ``, "AfterClose"},
	{"Close does not see what is being encoded", "flush.go",
		`if taken && !l.launch() {`, `if false {`, "TestClose"},
	{"probing takes the main entry always", "flush.go",
		`mainWaits := s.probing &&`, `mainWaits := false && s.probing &&`, "Probing"},
	{"a session is in a batch twice", "flush.go",
		`		case s.flying: // likewise`, `		case false: // likewise`, "TestOneFlightInABatch"},
	{"two flushes have one number", "flush.go",
		`seq := db.seq.Add(1)`, `seq := db.seq.Add(1) | 1`, "TestFaults|TestModel"},

	// Its answer.
	{"dirty is cleared unconditionally", "settle.go",
		`newer := it.e.dirty || f.life != s.life()`, `newer := false
		it.e.dirty = false`, "TestFaultsFlush|TestPutAgainstAcknowledgement|TestModel"},
	{"a failed flush is merged over what is newer", "settle.go",
		`newer := it.e.dirty || f.life != s.life()`, `newer := stored && it.e.dirty || f.life != s.life()
		if !newer && !stored {
			it.e.cell.Store(it.cell)
		}`, "TestFaults|TestModel|TestPutAgainst"},
	{"what is in flight is merged into the next life", "settle.go",
		`newer := it.e.dirty || f.life != s.life()`, `newer := it.e.dirty`, "TestFaults|TestModel"},
	{"what had no answer is dropped", "settle.go",
		`			it.e.charge = it.charge
			s.mark(it.key, it.e)
			merged = true
`, `			free += int64(it.charge)
`, "TestFaults"},
	{"a session that was fenced stays in memory", "settle.go",
		`			db.expel(s, f, &FencedError{Session: s.id, Epoch: f.change.Epoch, By: r.Header})
			return
`, `			return
`, "TestFaultsFencedInFlight|TestLostByAFence"},
	{"one bad entry takes its session along", "settle.go",
		`if blamed == nil {`, `if true {`, "TestPoison"},
	{"what was rejected is not told", "settle.go",
		`		db.lost(Lost{Session: s.id, Epoch: s.epoch, Cause: rejected, Entries: lost, Aliases: aliases, Timers: timers})
`, `		_, _ = aliases, timers
`, "TestPoison"},
	{"what was rejected is not told by the next Sync", "settle.go",
		`rejected != nil && !told`, `false && !told`, "Told|Rejected"},
	{"what Close has handed over is settled too", "settle.go",
		`if f.ended { // Close`, `if false { // Close`, "AfterClose"},
	{"the rest of a probed session has no age", "settle.go",
		`, f.upto > f.ver:`, `, false:`, "Prob|TestPoison"},
	{"what cannot be encoded is dropped if the rest was stored, and the session fenced", "adopt.go",
		`if stored && it.err == nil {`, `if stored {`, "TestFencedBesideTheUnencodable"},
	{"a hand-over that was given up stays in the store", "sync.go",
		`		db.headAgain(s) // the store may have it as released, or be about to
`, ``, "TestFaultsRelease"},
	{"a creation is proposed again though it may have been applied", "settle.go",
		`if s.blind && !`, `if false && !`, "TestLateCreation|TestFaultsBlindCreation|TestCreate"},
	{"a creation above this node's own tombstone is doubtful", "settle.go",
		` || h.HeldBy(db.self, h.Epoch) && h.Seq > 0`, ``, "TestFaultsCreationAboveOwnTombstone"},
	{"a deleted creation that was another's is a fence", "adopt.go",
		`			return true, nil // what was deleted here`, `			return false, err // what was deleted here`, "TestAdoptOrCreateAfterADeletedCreation"},

	// When.
	{"the age counts from the last change", "buffer.go",
		`	s.queued, s.since = true, now
`, `	s.queued, s.since = true, now
	l.since = now
`, "TestModel|Lag|Delay"},
	{"no backoff", "buffer.go",
		`return db.world.Rand(int64(ceil)) + 1`, `return db.world.Rand(int64(min(ceil, 1))) + 1`, "TestNobodyWaitsForTheFenced|Backoff"},
	{"what is flushed before its turn has no age", "buffer.go",
		`	l.hold(s.since)
	if l.waiting`, `	if l.waiting`, "TestSync"},
	{"the queue is never empty before its time", "buffer.go",
		`if l.waiting--; l.waiting == 0 {`, `if l.waiting--; l.waiting == -99 {`, "TestSync"},
	{"what is sent again has no age", "buffer.go",
		`		if l.since == 0 || s.since < l.since {
			l.since = s.since
		}
`, ``, "TestFaults|Lag|Outage|TestModel"},
	{"the dead are waited for", "buffer.go",
		`r.due <= now || r.s.dead()`, `r.due <= now`, "TestNobodyWaitsForTheFenced"},
	{"the bound is not kept", "budget.go",
		`if used+n > b.max {`, `if false {`, "TestFullBuffer|TestOutage"},
	{"who is refused room does not kick", "budget.go",
		`	for _, l := range db.lanes {
		l.kick()
	}
`, ``, "TestFull|TestWaiter|Room"},
	{"expiry breaks the bound", "expiry.go",
		`if !db.budget.try(need) {`, `if db.budget.force(need); false {`, "Full|Expiry"},
	{"Sync returns at once", "sync.go",
		`	if s.saved >= ver {
		return
	}
`, `	if s.saved <= ver {
		return
	}
`, "Sync"},
	{"Flush returns at once", "sync.go",
		`	case t == 0 || t > now:
	case l.ended:`, `	case t != -2:
	case l.ended:`, "Flush"},
	{"a Sync that waits is told that a rejection was stored", "sync.go",
		`case rejected != nil && w.ver <= ver:`, `case rejected != nil && w.ver < 0*ver:`, "TestPoison|Told|Reject"},

	// Memory.
	{"a load overwrites a newer write", "load.go",
		`	if e.cell.Load() != nil {
		return
	}
`, ``, "TestFaultsLoad|TestLoadAgainstPut|TestModel"},
	{"a change does not take the load out", "commit.go",
		`		delete(s.x.loads, w.key) // what it finds is older than this
`, ``, "TestFaultsLoad|TestLoadAgainstPut|TestModel|TestLoad"},
	{"a key is loaded by everyone who asks", "load.go",
		`		l := x.loads[key]
		if l == nil {`, `		l := x.loads[key]
		if true {`, "TestFaultsLoad|TestLoadAgainstPut"},
	{"what is loaded is not checked to be ours", "load.go",
		`held := h.HeldBy(db.self, epoch)`, `held := true`, "TestFaultsLoad|Audit|Strict|Lapse"},
	{"dirty sessions are evicted", "resident.go",
		`return s.saved == s.ver && !s.queued && !s.flying && !s.head &&`, `return true &&`, "Evict"},
	{"an evicted session's lives are forgotten", "lifeline.go",
		`line := db.lifelines.find(s.id); line != nil`, `line := db.lifelines.find(s.id); line != nil && line.id == ""`, "TestHandleOfAFormerLife"},
	{"an evicted session's handle takes the epoch of the next life for a fence", "lifeline.go",
		`if s.x != nil && s.x.line != nil {
		return`, `if false {
		return`, "TestFenceOnAnEvictedHandle"},
	{"the store is believed about a session that has left", "load.go",
		`		if s.state != live {
			err = s.left() // before it was asked for, or meanwhile
		}
`, ``, "TestFenceOnAnEvictedHandle|TestHandleThatLeftBeforeALapse"},
	{"a creation that has left is still to be stored", "load.go",
		`		case err != nil:
			return false, err
		case held:`, `		case err != nil && !(ours && !h.Exists()):
			return false, err
		case held:`, "TestStealOfACreationFencedMeanwhile"},
	{"what this node has released passes for its new creation", "load.go",
		`(s.x == nil || s.x.birth == 0 || h.Seq < s.x.birth)`, `false`, "TestStealOfACreationAfterRelease"},
	{"an attempt to store a creation is taken for a former tenure", "load.go",
		`(s.x == nil || s.x.birth == 0 || h.Seq < s.x.birth)`, `true`, "TestStealOfACreationStoredMeanwhile|Faults"},
	{"eviction ignores visits", "evict.go",
		`if !p.s.visited.Swap(false) {`, `if p.s.visited.Store(false); true {`, "TestEvictionResistsScans"},
	{"a handle is on every life", "resident.go",
		`, life != anyLife && life != s.life()`, ``, "TestHandleOfAFormerLife|Life"},
	{"expiry is not judged on reads", "resident.go",
		`	return t != 0 && store.Time(t).Past(time.Now())`, `	return t != 0 && false && store.Time(t).Past(time.Now())`, "Expiry"},
	{"deleted keys are remembered for ever", "settle.go",
		`it.key != "" && (s.sure(it.key) || len(*s.x.places(it.key)) > absentKept)`, `it.key != "" && s.sure(it.key)`, "Absent|Deleted|Forgotten|Remember"},
	{"index: a full group is not marked", "index.go",
		`			g.tags.Store(tags | spill)
			spilled++
`, ``, "Index"},
	{"index: the slot stays when a session goes", "index.go",
		`				g.tags.Store(tags &^ (0xff << (8 * slot)))
`, ``, "Index"},
	{"a transaction does not check what it read", "tx.go",
		`		if s.version(r.key, absent) != r.cell {`, `		if s.version(r.key, absent) != r.cell && false {`, "Update|Tx|Conflict|TestStorm"},
	{"a transaction is not tried before it is made", "tx.go",
		`if len(tx.writes) < 2 {`, `if len(tx.writes) < 200 {`, "Tx|Update|TestCodecFails"},

	// Ownership.
	{"that the lease did not run is ignored", "lease.go",
		`(!ran || db.now() >= was)`, `(ran && db.now() >= was)`, "TestFaultsLease|Laps"},
	{"a lapse that the clock shows is ignored", "lease.go",
		`(!ran || db.now() >= was)`, `!ran`, "TestFaultsLease|Laps"},
	{"a renewal outlives the lease", "close.go",
		`	case <-db.lease.idle:
	case <-timer.C:`, `	default:`, "TestNoRenewalOutlivesTheLease"},
	{"the lease counts from the answer", "lease.go",
		`db.lease.until.Store(sent + int64(db.opt.Lease))`, `db.lease.until.Store(max(sent, db.now()) + int64(db.opt.Lease))`, "TestLeaseCountsFromTheCall"},
	{"strict serves after the lease", "lease.go",
		`db.opt.Strict && db.now() > db.lease.until.Load()-int64(db.opt.Lease)/10`, `false`, "TestStrict|TestFaultsLease"},
	{"strict is asked only at the start", "commit.go",
		`	if err := db.inTime(); err != nil { // time may have passed since serve
		return err
	}
`, `	if db.closing.Load() {
		return ErrClosed
	}
`, "Strict"},
	{"an audit stops at damage", "lease.go",
		`			if !errors.As(err, &damaged) {
				return err
			}
			failed = err`, `			_ = errors.As(err, &damaged)
			return err`, "Audit|Damage"},
	{"Create does not ask after a lost claim", "adopt.go",
		`if db.sieve == nil && !db.astray.Load() {`, `if db.sieve == nil {`, "TestCreateAfterALostClaim"},
	{"who waits for another's call takes what that gets", "adopt.go",
		`if c.how == how {`, `if c.how == how || c.err == nil && c.how != vacant {`, "TestWaitsForAnothersLoad"},
	{"a survivor takes all shares", "orphans.go",
		`|| ring.Owner(h.Session) == db.self.Node`, `|| ring != nil`, "TestSurvivorsShare"},
	{"a takeover is not limited", "orphans.go",
		`if p.next.CompareAndSwap(last, at+int64(n)*int64(p.every)) {`, `if p.next.CompareAndSwap(last, at) {`, "TestOrphansRate"},
	{"Sync does not wait until it is durable", "sync.go",
		`	err := db.harden(ctx)
`, `	err := error(nil)
`, "TestBarrier"},
	{"what another session lost is an error of this one's Sync", "sync.go",
		` && !slices.Contains(lost.Sessions, s.id)`, ` && false`, "TestForgotten"},
	{"Flush does not wait until it is durable", "sync.go",
		`	if err := db.harden(ctx); err != nil {
		return fmt.Errorf`, `	if err := error(nil); err != nil {
		return fmt.Errorf`, "TestBarrier"},
	{"Close does not wait until it is durable", "close.go",
		`if err := db.harden(ctx); err != nil {`, `if err := error(nil); err != nil {`, "TestBarrier"},
	{"a barrier counts for what was acknowledged while it ran", "harden.go",
		`h.sure.Store(acks)`, `h.sure.Store(max(acks, h.acks.Load()))`, "TestBarrierCoversNothingLater"},
	{"a barrier that failed counts", "harden.go",
		`		case err == nil:
			return nil
		case lost != nil:`, `		case err == nil || failed == 0:
			return nil
		case lost != nil:`, "TestBarrierFails"},
	{"many claims take the time of one", "orphans.go",
		`if p.next.CompareAndSwap(last, at+int64(n)*int64(p.every)) {`, `if p.next.CompareAndSwap(last, at+int64(p.every)) {`, "TestOrphansInBatches"},
	{"many claims ask for what is asked for already", "adoptall.go",
		`|| db.sessions.load(id) != nil || st.calls[id] != nil {`, `|| db.sessions.load(id) != nil {`, "TestOrphansMeetDemand"},
	{"a missing answer among many is taken for one", "adoptall.go",
		`case cs[n].Err != nil:`, `case false:`, "TestOrphansQuestionFails"},
	{"a restarted node preloads what others had", "preloader.go",
		`(h.Owner.Node != w.db.self.Node || h.Owner == w.db.self)`, `h.Owner == w.db.self`, "TestPreloadFormer"},
	{"a preload takes back what was just released", "preloader.go",
		`(h.Owner.Node != w.db.self.Node || h.Owner == w.db.self)`, `h.Owner.Node != w.db.self.Node`, "TestPreloadOwn"},
	{"a preload leaves what a claim without an answer gave", "preloader.go",
		`case h.Owner == w.db.self && !h.Released:`, `case false:`, "TestPreloadOwn"},
	{"a preload takes all shares", "preloader.go",
		`w.Share == ByRing && ring.Owner(h.Session) != w.db.self.Node`, `w.Share == ByRing && ring == nil`, "TestPreloadShares"},
	{"a preload asks for what somebody alive has", "preloader.go",
		`case !w.db.orphaned(h, alive):`, `case alive == nil:`, "TestPreloadMatch"},
	{"a preload does not ask the predicate", "preloader.go",
		`return w.matches(h)`, `return true`, "TestPreloadMatch"},
	{"a batch of a preload takes the time of one session", "preloader.go",
		`w.turn(ctx, len(ids)+len(partly))`, `w.turn(ctx, 1)`, "TestPreloadProgress"},
	{"a preload does not stand back for demand", "preloader.go",
		`if err := w.turn(ctx, len(ids)+len(partly)); err != nil {`, `if err := ctx.Err(); err != nil {`, "TestDemandOvertakesPreload"},
	{"a preload goes on in a full memory", "preloader.go",
		`case !w.full && room >= n:`, `case !w.full:`, "TestPreloadFull"},
	{"a preload ends what is under way as the memory will be full", "preloader.go",
		`case w.full && w.aloft == 0:`, `case w.full:`, "TestPreloadFull"},
	{"a question of a preload is not repeated", "preloader.go",
		`if try < preloadTries && !full {`, `if try < 1 && !full {`, "TestFaultsPreload"},
	{"a preload goes on while the store does not answer", "preloader.go",
		`case len(mute) == n && w.silent.Add(1) >= preloadSilence:`, `case false:`, "TestFaultsPreload"},
	{"a preload ends for a few sessions about which the store does not answer", "preloader.go",
		`			w.silent.Store(0)
`, ``, "TestPreloadHalfMute"},
	{"a preloaded session is not looked at", "preloader.go",
		`if err = w.fill(ctx, ids[i]); err == nil {`, `if err == nil {`, "TestPreloadDamage"},
	{"a preload leaves what an event has brought in half", "preloader.go",
		`w.judge(ctx, id, w.fill(ctx, id), Preloaded{Here: 1})`, `w.judge(ctx, id, nil, Preloaded{Here: 1})`, "TestFaultsPreload"},
	{"a walk that failed passes for complete", "preloader.go",
		`return fmt.Errorf("the walk of the store's sessions ended before its end: %w", err)`, `return nil`, "TestFaultsPreload"},
	{"a preload passes by damaged headers", "preloader.go",
		`			f(damaged.Session, err) // the walk goes on
`, ``, "TestPreloadDamage"},
	{"Close does not end a preload", "preloader.go",
		`context.AfterFunc(end, func() { w.job.stop(ErrClosed) })()`, `context.AfterFunc(end, func() {})()`, "TestPreloadEnds"},
	{"Drain does not end a preload", "sync.go",
		`if err := db.preloads.end(ctx, ErrDraining); err != nil {`, `if err := ctx.Err(); err != nil {`, "TestPreloadEnds"},
	{"Drain does not wait for the end of a preload", "preloading.go",
		`		case <-p.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil`, `		default:
			_ = p
		}
	}
	return nil`, "TestPreloadEnds"},
	{"a slow hook of a preload has calls pile up", "preloader.go",
		`if w.job.told.CompareAndSwap(false, true) {`, `if true {`, "TestPreloadSlowHook"},
	{"a preload does not tell of its end", "preloader.go",
		`		w.db.notes.post(func() { w.Progress(w.job.Progress()) })
`, ``, "TestPreloadProgress|TestPreloadSlowHook"},
	{"a preload does not count", "preloader.go",
		`		w.job.count(n)
`, ``, "TestPreloadProgress"},
	{"the rate of a preload is that of all the time", "preloading.go",
		`p.marks = [2]mark{p.marks[1], {now, p.is.Done()}}`, `_ = now`, "TestPreloadRateFollows"},
	{"a preload's list of what is missing has no bound", "preloading.go",
		`if len(p.missing) < missingMax {`, `if true {`, "TestPreloadDamage"},
	{"a preload asks for more at once than it may", "preload.go",
		`w.takers = min(p.InFlight/w.size, mostTakers)`, `w.takers = mostTakers`, "TestPreloadWalksNoFurther"},
	{"a session that came whole is loaded once more", "adoptall.go",
		`	s.complete = len(c.Unread) == 0
`, ``, "TestPreloadFormer"},
	{"a session passes for whole of which an entry could not be read", "adoptall.go",
		`s.complete = len(c.Unread) == 0`, `s.complete = true`, "TestPreloadUnread"},
	{"a question for many does not ask for all entries", "adoptall.go",
		`Keys: keys, All: q.whole}`, `Keys: keys}`, "TestPreloadFormer"},
	{"of many claims one that meets damage has no error", "store/bolt/apply.go",
		`			answers[i] = store.Claim{Err: c.items[i].err}
`, ``, "TestContract"},
	{"what was just released is taken back", "orphans.go",
		`h.Owner == db.self && !h.Released`, `h.Owner == db.self`, "Drain|Orphans"},
	{"a release does not give the ownership up", "flush.go",
		`Release: s.release && whole,`, `Release: false,`, "Release"},
	{"a hook that panics ends the program", "hooks.go",
		`		if v := recover(); v != nil {
			n.panic(v)
		}
	}()
	f()`, `	}()
	f()`, "Hook"},

	{"Drain takes Close's clearing for its own", "sync.go",
		`		case db.closing.Load(): // it takes out of memory what was not handed over, too
			return ErrClosed
`, ``, "TestCloseEndsDrain"},
	{"after Close something has an age still", "close.go",
		`		l.held.Store(0)
`, ``, "TestCloseEndsDrain"},
	{"that a former life's end is lost is not told", "adopt.go",
		` || s.wipe && (!s.creating || s.blind || f != nil && f.begins())`, ``, "TestLostHeaders"},
	{"a life that may be stored ends untold, with one in flight", "adopt.go",
		` || f != nil && f.begins())`, `)`, "TestLostEndOfWhatMayBeStored"},
	{"a life that may be stored ends untold, before a flight", "adopt.go",
		`(!s.creating || s.blind ||`, `(!s.creating ||`, "TestLostEndOfWhatMayBeStored"},
	{"a life that may be stored ends untold, with a flight", "flush.go",
		`(f.change.Birth == 0 || f.s.blind)`, `f.change.Birth == 0`, "TestLostEndOfWhatMayBeStored"},
	{"a strict node serves what it may have given away", "lease.go",
		`	case s.x != nil && s.x.regain > s.saved:
		return sessionError(s.id, ErrSuspended)
`, ``, "TestStrictAfterAReleaseGivenUp"},
	{"a strict node reads what it is giving away", "lease.go",
		`	case s.release:
		return sessionError(s.id, ErrReleased)
`, ``, "TestStrictAfterAReleaseGivenUp"},

	// Locks: which may be held while another is taken, and what none is held across.
	{"a session's lock is taken under its lane's", "buffer.go",
		`	// What is ready goes first: so its age is known.
`, `	for _, s := range l.queue {
		s.mu.Lock()
		s.mu.Unlock()
	}
`, "TestLaneWaitsForNoSession"},
	{"a stripe's lock is held while a call waits for the store", "adopt.go",
		`		st.mu.Unlock()
		select {
		case <-c.done:`, `		defer st.mu.Unlock()
		select {
		case <-c.done:`, "Adopt"},
	{"a session's lock is held across a call to the store", "load.go",
		`		epoch, ours := s.epoch, s.creating
		s.mu.Unlock()
`, `		epoch, ours := s.epoch, s.creating
		defer s.mu.Unlock()
`, "TestNoLockIsHeldOutside"},
	{"the codec runs under the session's lock", "flush.go",
		`			taken, suspect = b.collect(db, s), alone
`, `			taken, suspect = b.collect(db, s), alone
			if taken {
				b.encode(db, &b.flights[len(b.flights)-1])
				taken = false
			}
`, "TestNoLockIsHeldOutside"},
	{"hooks run under the session's lock", "hooks.go",
		`func (n *notifier) post(f func()) {
`, `func (n *notifier) post(f func()) {
	if n.wake != nil {
		n.call(f)
		return
	}
`, "TestNoLockIsHeldOutside"},

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
`, "TestNothingAcknowledgedIsForgotten|TestTheForgottenAndClaimed"},
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
		`Writers() int { return 1 }`, `Writers() int { return 4 }`, "Writers"},
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
		` || s.flying { // what`, ` { // what`, "TestQueueModel"},
	{"what is as it was is written again", "flush.go",
		`		if it.same {
			continue
		}
`, ``, "TestQueueCoalesces"},
	{"an item that the store refused is popped", "queue.go",
		`for got = db.absent; head != tail && got == db.absent; head`, `for got = nil; head != tail && got == nil; head`, "TestQueueWithHoles"},
	{"a pop loads one item at a time", "queue.go",
		`const queuePage = 64`, `const queuePage = 1`, "TestQueueIsNotLoaded"},
	{"two swaps of one version succeed", "cas.go",
		`		case h.db.versionOf(c) != old:
`, `		case false:
`, "TestCompareAndSwap"},
	{"stored is said of what is in memory", "commit.go",
		`if ch.stored || db.opt.Mode`, `if db.opt.Mode`, "TestAcks|TestCompareAndSwap"},
	{"a counter goes round", "counter.go",
		`	if (was^sum)&(delta^sum) < 0 {`, `	if false {`, "TestCounter"},
	{"an alias of another session here is taken", "alias.go",
		`		if holder := db.names.take(a, s); holder != nil {`, `		if holder := db.names.take(a, s); false {`, "TestAliasClash"},
	{"a part of a refused transaction's aliases stays", "alias.go",
		`				if !slices.Contains(s.x.aliases, a) {
					db.names.leave(s, a)
				}
`, ``, "TestAliasClash"},
	{"a clash with a name that was given up is for good", "alias.go",
		`			ref.passes = true
		} else {
			ref.aliases = []string{clash.Alias}
		}`, `		}
		ref.aliases = []string{clash.Alias}`, "TestAliasMovesHere"},
	{"the store is believed about an alias that was removed here", "alias.go",
		`s != nil && s.dropped(h, alias, db.self) {`, `s != nil && false {`, "TestAlias$"},
	{"aliases stay when their session leaves", "resident.go",
		`		db.names.leave(s, x.aliases...)
`, ``, "TestAlias"},
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
	{"bolt gives away an alias whose key damage has altered", "store/bolt/aliases.go",
		`!b.upgraded && b.aliasPages.hides(`, `false && b.aliasPages.hides(`, "TestAlteredKeys"},
	{"bolt takes for damaged what it has just deleted", "store/bolt/sound.go",
		`			return false // the transaction has deleted it: these are the pages from before
`, `			continue
`, "TestContract|TestAlias"},
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
		`		return r.f(ctx, tx, Firing[V]{Session: tx.s.id, Epoch: epoch, Name: t.Name, At: t.At, Payload: c.val})
`, `		_ = r.f(ctx, tx, Firing[V]{Session: tx.s.id, Epoch: epoch, Name: t.Name, At: t.At, Payload: c.val})
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
	{"a flush leaves the marks out", "flush.go",
		`s.x.names(), max`, `s.x.aliases, max`, "TestTimersOfTheDead"},
	{"who looks for what is due stops at a page", "due.go",
		`		if found.Next <= r.From {`, `		if true {`, "TestAdoptDue"},
	{"who looks for what is due takes what is not", "due.go",
		`To: dueBefore(now + 1)`, `To: dueBefore(now + 1<<40)`, "TestAdoptDue"},
	{"who looks for what is due takes what the living have", "due.go",
		` && db.orphaned(h, alive)`, ``, "TestAdoptDue"},
	{"what is due is looked for once", "due.go",
		`		timer.Reset(db.opt.Lease)
`, ``, "TestTimersEnd"},
	{"who asks for the living waits for ever", "departures.go",
		`	ctx, cancel := context.WithTimeout(ctx, db.opt.StoreTimeout)
	defer cancel()
	nodes, err := db.store.Nodes(ctx)`, `	nodes, err := db.store.Nodes(ctx)`, "TestFaultsTimers"},
	{"a mark that is not of this session's alone", "marks.go",
		`	return append(append(b, id[:whoHead]...), sum[:]...)`, `	return append(b, id[:whoWhole]...)`, "TestMarksOfSessions"},
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
		`slices.DeleteFunc(slices.Clone(*was), func(o *listener`, `slices.DeleteFunc(*was, func(o *listener`, "TestListenersComeAndGo|TestStopListening"},
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
		`c.Header.Seq > 0 {`, `false {`, "TestCommitsOfTheEvicted|TestReplay"},
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
	{"marks say what could not be encoded", "flush.go",
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
