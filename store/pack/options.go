package pack

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// Options of a Store. The zero value works. They are read once, by New.
type Options struct {
	// MinSize is the size in bytes from which a value is packed, if that pays. Smaller ones are stored as they are. Zero: 64. Negative: nothing is packed
	// any more, and what is packed can be read: so a store is taken out of this package, see "Coming and going" in the package's comment.
	MinSize int

	// MinGain is the part of a value's bytes that packing has to save, all that it adds included; else the value is stored as it is. Above 0 and below
	// 1. Zero: 1/8.
	MinGain float64

	// MaxValue bounds what a value may unpack to, in bytes, and with it the memory that damaged or hostile data can have a reader take. A larger value is stored as
	// it is. What was packed under a higher bound is a *store.CorruptError under a lower one. Zero: 64 MiB. At most 1 GiB.
	MaxValue int

	// Dictionaries are what values have in common, in the format of zstd (RFC 8878, section 5): Train makes one, and so does zstd --train. The last one
	// packs, all unpack. A dictionary is known by the ID in it: no two may have the same. None: each value is packed by itself. New copies them.
	Dictionaries [][]byte
}

const (
	minGain = 1.0 / 8
	minSize = 64
)

func (o Options) withDefaults() (Options, error) {
	switch {
	case !(o.MinGain >= 0 && o.MinGain < 1): // NaN, too
		return o, fmt.Errorf("store/pack: Options.MinGain is %v: above 0 and below 1 is allowed", o.MinGain)
	case o.MaxValue < 0 || o.MaxValue > 1<<30:
		return o, fmt.Errorf("store/pack: Options.MaxValue is %d: 1 to %d bytes are allowed", o.MaxValue, 1<<30)
	}
	if o.MinGain == 0 {
		o.MinGain = minGain
	}
	if o.MinSize == 0 {
		o.MinSize = minSize
	}
	if o.MaxValue == 0 {
		o.MaxValue = 64 << 20
	}
	given := o.Dictionaries
	o.Dictionaries = make([][]byte, len(given))
	for i, d := range given {
		o.Dictionaries[i] = bytes.Clone(d)
	}
	return o, nil
}

// dictionaryIDs returns the IDs of dictionaries, which are sound.
func dictionaryIDs(ds [][]byte) (map[uint32]bool, error) {
	ids := make(map[uint32]bool, len(ds))
	for i, d := range ds {
		info, err := inspect(d)
		if err != nil {
			return nil, fmt.Errorf("store/pack: Options.Dictionaries[%d] is no dictionary of zstd: %w", i, err)
		}
		if ids[info] {
			return nil, fmt.Errorf("store/pack: Options.Dictionaries[%d] has the ID %d of an earlier one", i, info)
		}
		ids[info] = true
	}
	return ids, nil
}

func inspect(d []byte) (id uint32, err error) {
	info, err := zstd.InspectDictionary(d)
	switch {
	case err != nil:
		return 0, err
	case info.ContentSize() < 8:
		return 0, errors.New("it holds less than 8 bytes")
	}
	return info.ID(), nil
}
