module github.com/seed-6f1f505d/kvstore/store/nats

go 1.26.0

require (
	github.com/nats-io/nats.go v1.55.0
	github.com/seed-6f1f505d/kvstore v0.0.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/hashicorp/go-msgpack/v2 v2.1.5 // indirect
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/nats-io/nkeys v0.4.16 // indirect
	github.com/nats-io/nuid v1.0.1 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/seed-6f1f505d/kvstore => ../../
