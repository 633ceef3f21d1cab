package main

import "slices"

// mutation is one way in which the code can be wrong.
type mutation struct {
	name string
	file string // from the module's root
	old  string // stands there once
	new  string
	by   string // a regexp of the tests that should notice: run first, those of the file's package before others
}

// mutations are all of them.
var mutations = slices.Concat(core, stores, inside)

// core is what every session lives by: this package's root, and the fence.
var core = []mutation{
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
	{"half of a transaction is flushed", "batch.go",
		`for ; n < len(x.dirty) && !(s.has(probing) && len(b.items) > first); n++ {`,
		`for ; n < (len(x.dirty)+1)/2 && !(s.has(probing) && len(b.items) > first); n++ {`, "TestModel|TestZombieAgainstAdopter"},
	{"a creation does not say when it began", "batch.go",
		`		f.change.Birth = s.x.birth
`, ``, "TestCreateAgain"},
	{"put and deleted in one window is written", "commit.go",
		`if w.cell == db.absent && !e.stored {`, `if w.cell == db.absent && !e.stored && false {`, "TestPutAndDeleteInOneWindow|TestModel"},
	{"Close forgets what was just collected", "flush.go",
		`				db.recall(&b.flights[last])
`, ``, "AfterClose"},
	{"Close does not see what is being encoded", "flush.go",
		`if taken && !l.launch(b) {`, `if false {`, "TestClose"},
	{"probing takes the main entry always", "batch.go",
		`mainWaits := s.has(probing) &&`, `mainWaits := false && s.has(probing) &&`, "Probing"},
	{"the answer waits for all that is gathered", "flush.go",
		`if until != nil && db.now()-now > lookahead {`, `if false {`, "TestAnswerDoesNotWaitForTheNextBatch"},
	{"a session is in a batch twice", "flush.go",
		`		case s.has(flying): // likewise`, `		case false: // likewise`, "TestOneFlightInABatch"},
	{"two flushes have one number", "batch.go",
		`seq := db.seq.Add(1)`, `seq := db.seq.Add(1) | 1`, "TestFaults|TestModel"},

	// The next one is gathered meanwhile.
	{"nothing is gathered while the store has a batch", "flush.go",
		`		l.gather(&l.batches[1-l.filling], true, answer)
`, ``, "TestGathersAhead"},
	{"an answer is settled before the store has the next batch", "flush.go",
		`if answered && waited && l.limit == db.opt.MaxBatch && l.begun() {`, `if answered && waited && l.limit < 0 {`, "TestNextBatchBeforeTheAnswerIsSettled"},
	{"an answer is not settled while the store has the next batch", "flush.go",
		`	l.conclude()
	if more {`, `	if more {`, "TestNextBatchBeforeTheAnswerIsSettled"},
	{"an answer waits for a gatherer that is slower than the store", "flush.go",
		`if answered && waited && `, `if answered && (waited || true) && `, "TestAnswerDoesNotWaitForTheNextBatch"},
	{"who is waited for waits for an answer that is there", "flush.go",
		`if len(l.first) > 0 {
		l.conclude()`, `if len(l.first) < 0 {
		l.conclude()`, "TestOneFlightInABatch"},
	{"a lane ends and owes an answer", "buffer.go",
		`	defer l.conclude()
`, ``, "TestCloseWithABatchGathered"},
	{"IDs before all the others are flushed after them", "buffer.go",
		`	case id < prefix:
		return 0`, `	case id < prefix:
		return math.MaxUint64`, "TestPlaceOf"},
	{"a batch that is gathered ahead is full", "flush.go",
		`limit, bytes = limit-(limit+3)/4, bytes-bytes/4`, `limit, bytes = limit+0, bytes+0`, "TestGathersAhead"},
	{"what was gathered is sent after a failure", "flush.go",
		`if l.limit < db.opt.MaxBatch {
		l.unload()`, `if l.limit < 0 {
		l.unload()`, "TestGatheredBeforeAFailure"},
	{"what was gathered counts as proposed", "settle.go",
		`s.setIf(blind, s.has(creating) && !f.unsent)`, `s.setIf(blind, s.has(creating))`, "TestGatheredBeforeAFailure"},
	{"a lane ends with what it has gathered", "buffer.go",
		`	defer l.unload()
`, ``, "TestCloseWithABatchGathered"},
	{"Close does not see what was gathered", "close.go",
		`			for k := range l.batches {`, `			for k := range l.batches[:1] {`, "TestCloseWithABatchGathered"},
	{"Flush does not wait for what was gathered", "buffer.go",
		`	if len(l.ready) > 0 || l.begun() {
		return`, `	if len(l.ready) > 0 {
		return`, "TestPoisonedEntry"},
	{"a drained lane ends before what was gathered", "buffer.go",
		`if l.draining && !l.begun() && len(`, `if l.draining && len(`, "TestOneWriter|TestPreloadRateFollows"},
	{"the queue is taken before what was gathered", "buffer.go",
		`if len(l.ready) == 0 && !l.begun() && len(l.queue) > 0 {`, `if len(l.ready) == 0 && len(l.queue) > 0 {`, "Lag"},
	{"what a transaction has written is read as it was", "store/bolt/apply.go",
		`if bytes.Equal(key, b.written) {`, `if len(key) == 0 && bytes.Equal(key, b.written) {`, "TestAgainstMemory|TestContract"},

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
		`			db.expel(s, f, &FencedError{Session: s.id(), Epoch: f.change.Epoch, By: r.Header})
			return
`, `			return
`, "TestFaultsFencedInFlight|TestLostByAFence"},
	{"one bad entry takes its session along", "settle.go",
		`if blamed == nil {`, `if true {`, "TestPoison"},
	{"what was rejected is not told", "settle.go",
		`		db.lost(Lost{Session: s.id(), Epoch: s.epoch, Cause: rejected, Entries: lost, Aliases: aliases, Timers: timers})
`, `		_, _ = aliases, timers
`, "TestPoison"},
	{"what was rejected is not told by the next Sync", "settle.go",
		`rejected != nil && !told`, `false && !told`, "TestProbingIsFair"},
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
		`if s.has(blind) && !`, `if false && !`, "TestLateCreation|TestFaultsBlindCreation|TestCreate"},
	{"a creation above this node's own tombstone is doubtful", "settle.go",
		` || h.HeldBy(db.self, h.Epoch) && h.Seq > 0`, ``, "TestFaultsCreationAboveOwnTombstone"},
	{"a deleted creation that was another's is a fence", "adopt.go",
		`			return true, nil // what was deleted here`, `			return false, err // what was deleted here`, "TestAdoptOrCreateAfterADeletedCreation"},

	// When.
	{"the age counts from the last change", "buffer.go",
		`	s.set(queued)
	s.since = now
`, `	s.set(queued)
	s.since = now
	l.since = now
`, "TestSyncTakesOnlyWhatItWaitsFor"},
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
`, ``, "TestFlushWaitsForProbing"},
	{"the dead are waited for", "buffer.go",
		`r.due <= now || r.s.dead()`, `r.due <= now`, "TestNobodyWaitsForTheFenced"},
	{"the bound is not kept", "budget.go",
		`if used+n > b.max {`, `if false {`, "TestFullBuffer|TestOutage"},
	{"who is refused room does not kick", "budget.go",
		`	for _, l := range db.lanes {
		l.kick()
	}
`, ``, "TestRejectFlushes"},
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
		`case rejected != nil && w.ver <= ver:`, `case rejected != nil && w.ver < 0*ver:`, "TestAliasClash"},

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
		`return s.saved == s.ver && !s.has(queued) && !s.has(flying) && !s.has(head) &&`, `return true &&`, "Evict"},
	{"an evicted session's lives are forgotten", "lifeline.go",
		`line := db.lifelines.find(s.id()); line != nil`, `line := db.lifelines.find(s.id()); line != nil && line.id == ""`, "TestHandleOfAFormerLife"},
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
	{"who brings a session in does not wait for the one that goes", "adopt.go",
		`		db.sieve.shrink(db, s)
	}
	close(c.done)`, `		go db.sieve.shrink(db, s)
	}
	close(c.done)`, "TestEvictsBeforeItAnswers"},
	{"eviction ignores visits", "evict.go",
		`if !p.s.sieved().visited.Swap(false) {`, `if p.s.sieved().visited.Store(false); true {`, "TestEvictionResistsScans"},
	{"a handle is on every life", "resident.go",
		`, life != anyLife && life != s.life()`, ``, "TestHandleOfAFormerLife|Life"},
	{"expiry is not judged on reads", "resident.go",
		`	return t != 0 && store.Time(t).Past(time.Now())`, `	return t != 0 && false && store.Time(t).Past(time.Now())`, "Expiry"},
	{"deleted keys are remembered for ever", "settle.go",
		`it.key != "" && (s.sure(it.key) || s.x.beside(it.key) > absentKept)`, `it.key != "" && s.sure(it.key)`, "Absent|Deleted|Forgotten|Remember"},
	{"index: a full group is not marked", "index.go",
		`			g.tags.Store(tags | spill)
			spilled++
`, ``, "Index"},
	{"index: the slot stays when a session goes", "index.go",
		`				g.tags.Store(tags &^ (0xff << (8 * slot)))
`, ``, "Index"},
	{"index: a tag is taken for the ID", "kvstore.go",
		`	if f == nil || !f.is(id) {
		f = db.sessions.search(hash, id)`, `	if f == nil {
		f = db.sessions.search(hash, id)`, "TestGetTellsSessionsApart"},
	{"index: who has an ID keeps the session", "index.go",
		`	s.session.Store(nil) // who`, `	// who`, "TestKeptIDKeepsNoSession"},
	{"a session is called what the store calls it", "adopt.go",
		`s := db.newSession(id, h.Epoch)`, `s := db.newSession(h.Session, h.Epoch)`, "TestStoreMisnamesSessions"},
	{"a session that a walk has found may be called anything", "adoptall.go",
		`	if checkID(id) != nil {
		return nil
	}
`, ``, "TestStoreMisnamesSessions"},
	{"front: the end of an ID is not compared", "front.go",
		` && *(*[16]byte)(unsafe.Add(p, n-16)) == *(*[16]byte)(unsafe.Add(q, n-16))`, ``, "TestFrontID"},
	{"a transaction does not check what it read", "tx.go",
		`		if s.version(r.key, absent) != r.cell {`, `		if s.version(r.key, absent) != r.cell && false {`, "Update|Tx|Conflict|TestStorm"},
	{"a transaction is not tried before it is made", "tx.go",
		`if len(tx.writes) < 2 {`, `if len(tx.writes) < 200 {`, "TestTransactionThatCannotBeStored"},

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
		` && !slices.Contains(lost.Sessions, s.id())`, ` && false`, "TestForgotten"},
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
		`	s.assign(complete, len(c.Unread) == 0)
`, ``, "TestPreloadFormer"},
	{"a session passes for whole of which an entry could not be read", "adoptall.go",
		`s.assign(complete, len(c.Unread) == 0)`, `s.set(complete)`, "TestAlteredKey"},
	{"what is damaged hides no key", "span.go",
		`k.has(key) && !k.doubtful`, `k.has(key)`, "TestAlteredKey"},
	{"a damaged key is free for a rename", "tree.go",
		` || !tx.s.doubts(key) {`, ` || true {`, "TestAlteredKey"},
	{"a question for many does not ask for all entries", "adoptall.go",
		`Keys: keys, All: q.whole}`, `Keys: keys}`, "TestPreloadFormer"},
	{"of many claims one that meets damage has no error", "store/bolt/apply.go",
		`			answers[i] = store.Claim{Err: c.items[i].err}
`, ``, "TestContract"},
	{"what was just released is taken back", "orphans.go",
		`h.Owner == db.self && !h.Released`, `h.Owner == db.self`, "Drain|Orphans"},
	{"a release does not give the ownership up", "batch.go",
		`Release: s.has(release) && whole,`, `Release: false,`, "Release"},
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
		` || s.has(wipe) && (!s.has(creating) || s.has(blind) || f != nil && f.begins())`, ``, "TestLostEndOfWhatMayBeStored"},
	{"a life that may be stored ends untold, with one in flight", "adopt.go",
		` || f != nil && f.begins())`, `)`, "TestLostEndOfWhatMayBeStored"},
	{"a life that may be stored ends untold, before a flight", "adopt.go",
		`(!s.has(creating) || s.has(blind) ||`, `(!s.has(creating) ||`, "TestLostEndOfWhatMayBeStored"},
	{"a life that may be stored ends untold, with a flight", "batch.go",
		`(f.change.Birth == 0 || f.s.has(blind))`, `f.change.Birth == 0`, "TestLostEndOfWhatMayBeStored"},
	{"a strict node serves what it may have given away", "lease.go",
		`	case s.x != nil && s.x.regain > s.saved:
		return sessionError(s.id(), ErrSuspended)
`, ``, "TestStrictAfterAReleaseGivenUp"},
	{"a strict node reads what it is giving away", "lease.go",
		`	case s.has(release):
		return sessionError(s.id(), ErrReleased)
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
		`		epoch, ours := s.epoch, s.has(creating)
		s.mu.Unlock()
`, `		epoch, ours := s.epoch, s.has(creating)
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
}
