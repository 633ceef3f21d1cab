package pack

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/dict"
)

const (
	dictSize  = 16 << 10 // at most, in bytes: twice as much saves nothing more on values of 256 bytes to 4 KiB
	hashBytes = 6
)

// Train makes a dictionary of samples: values as they are before they are packed, some hundreds of them or more (see [Sample]). It has up to 16 KiB of what the
// samples share, in pieces of them, so it is as confidential as they are. It is in the format of zstd (RFC 8878, section 5), and its ID is a hash of it, in
// the range that the RFC leaves to private use. The samples are not changed or kept, and the dictionary is the caller's. It takes seconds for some tens of
// megabytes, and memory of some times the samples.
//
// Samples that have nothing in common are an error.
func Train(samples [][]byte) (dictionary []byte, err error) {
	defer func() { // the builder of dictionaries meets bytes of any kind
		if p := recover(); p != nil {
			dictionary, err = nil, fmt.Errorf("store/pack: no dictionary of %d samples: %v", len(samples), p)
		}
	}()
	d, err := dict.BuildZstdDict(samples, dict.Options{MaxDictSize: dictSize, HashBytes: hashBytes, ZstdDictID: 1 << 16, ZstdLevel: level})
	if err != nil {
		return nil, fmt.Errorf("store/pack: no dictionary of %d samples: %w", len(samples), err)
	}
	binary.LittleEndian.PutUint32(d[4:], hashID(d))
	return d, nil
}

// hashID returns the ID for a dictionary. (RFC 8878, section 5: those below 32768, and from 2³¹ on, are registered.)
func hashID(d []byte) uint32 {
	const low, end = 1 << 15, 1 << 31
	return uint32(low + xxhash.Sum64(d[8:])%(end-low))
}
