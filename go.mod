module github.com/seed-6f1f505d/kvstore

go 1.26.0

require (
	github.com/cespare/xxhash/v2 v2.3.0
	github.com/hashicorp/go-msgpack/v2 v2.1.5
	go.etcd.io/bbolt v1.5.0
	golang.org/x/sync v0.24.0
)

require golang.org/x/sys v0.45.0 // indirect
