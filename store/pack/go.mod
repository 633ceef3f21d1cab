module github.com/seed-6f1f505d/kvstore/store/pack

go 1.26.0

require (
	github.com/cespare/xxhash/v2 v2.3.0
	github.com/klauspost/compress v1.20.4
	github.com/seed-6f1f505d/kvstore v0.0.0
)

require (
	github.com/hashicorp/go-msgpack/v2 v2.1.5 // indirect
	go.etcd.io/bbolt v1.5.0 // indirect
	golang.org/x/sys v0.45.0 // indirect
)

replace github.com/seed-6f1f505d/kvstore => ../../
