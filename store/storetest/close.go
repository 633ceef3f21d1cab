package storetest

import (
	"errors"
	"sync"

	"github.com/seed-6f1f505d/kvstore/store"
)

var closeRules = []rule{
	{"After Close every method gives [ErrClosed]. Close may be called twice.", []testcase{
		{"calls after Close", func(k *kit) {
			calls := everyMethod(k.own("s", "k", "v"))
			for range 2 {
				if err := k.st.Close(); err != nil {
					k.fail("Close gives error %v", err)
				}
				for _, call := range calls {
					if err := call.do(k.ctx, k.st); !errors.Is(err, store.ErrClosed) {
						k.fail("%s after Close gives error %v", call.name, err)
					}
				}
			}
		}},
		{"a malformed claim after Close", func(k *kit) {
			k.st.Close()
			if _, err := k.st.Claim(k.ctx, store.ClaimRequest{}); !errors.Is(err, store.ErrClosed) {
				k.fail("Claim after Close gives error %v", err)
			}
		}},
		{"Close during calls", func(k *kit) {
			calls := everyMethod(k.own("s", "k", "v"))
			var wg sync.WaitGroup
			begun := make(chan struct{}, len(calls))
			for _, call := range calls {
				wg.Go(func() {
					for n := 0; ; n++ {
						err := call.do(k.ctx, k.st)
						if n == 0 {
							begun <- struct{}{}
						}
						switch {
						case errors.Is(err, store.ErrClosed):
							return
						case err != nil:
							k.complain("%s gives error %v", call.name, err)
							return
						}
					}
				})
			}
			for range calls {
				<-begun
			}
			wg.Go(func() { k.st.Close() })
			if err := k.st.Close(); err != nil {
				k.complain("Close gives error %v", err)
			}
			wg.Wait()
		}},
	}},
	{"Close ends the use of the store and frees what it holds.", []testcase{
		{"results outlive it", func(k *kit) {
			a := k.own("s", "k", "value", "l", random(100_000))
			k.applied(k.naming(a.change(), "alias"))
			s := k.load("s")
			c := k.claim(store.ClaimRequest{Session: "s", Owner: a.owner, All: true})
			hs := k.walk(store.Query{})
			if err := k.st.Close(); err != nil {
				k.fail("Close gives error %v", err)
			}
			k.same(s.Entries, "k", "value", "l", random(100_000))
			k.same(c.Entries, "k", "value", "l", random(100_000))
			k.sameHeader(hs["s"], s.Header)
		}},
	}},
}
