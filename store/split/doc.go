// Package split keeps who owns a session in one store, and what the session holds in another.
//
//	owners, err := postgres.Open(ctx, "postgres://…", nil)
//	data, err := redis.Open(ctx, "redis://…", nil)
//	st := split.New(owners, data)
//
// It is for data in a store that is fast and may forget what it acknowledged, as a Redis Cluster does that loses a master before its
// replica has heard all: there a claim that was granted can vanish, and two nodes then own a session by the store's own word. With
// the ownership in a store that does not forget, that cannot happen.
//
// # What holds
//
//   - Who owns a session is decided by owners alone, in its one atomic step. If owners does not forget, no two claims are granted the same epoch, no epoch goes back,
//     and a claim that was granted stays: whatever becomes of data.
//   - Each claim also raises the epoch in data, before its entries are read there; each change is fenced in data, in the step that writes it. So a late write
//     of a former owner is refused as long as data remembers the claim.
//   - If data has forgotten a claim, the former owner's writes pass there, until the new owner's next write: that one is refused, as the
//     epoch on record is not its own. The new owner then drops the session, is told (Hooks.Fenced, Hooks.Lost), and with the next claim raises the
//     epoch in data again, to the one that it has in owners: it is not asked for another one. What the former owner wrote in between is part of what it finds.
//   - So that data does not forget claims, have it confirm them (a Redis store's Replicas, say). Then no late write lands at all, as long as what was confirmed stays.
//   - Aliases are data's, and written with the changes that name them: they are unique if they are in data. Owners knows nothing of them.
//   - What data forgets of changes that it acknowledged is lost, as without this package.
//
// A node's question for the owner (a Load) is answered from both, and owners wins.
//
// # What it costs
//
// A claim is three round trips: a read of data, a claim in owners, a claim in data. A change is the one of data; one that creates or deletes a session
// goes to owners, too; one that creates it with aliases first asks data for them, so that owners does not have what data will refuse. A Load asks both at once. A lease is kept in both. A Find of aliases reads them in data, and then asks owners for each session that it has found.
//
// A crash between two of these steps leaves the session as it was before, or as it is after: what owners granted, and data does
// not know of, is granted again to the same node, or to another when its lease is over.
//
// Both stores must be empty at first, or data may have been in use without owners: then the sessions found there are taken over, one by one, as they
// are claimed, once no node uses data alone any more.
package split
