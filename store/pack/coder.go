package pack

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"
)

// coder makes records of values, and values of records.
type coder struct {
	minSize  int // negative: nothing is packed
	minGain  float64
	maxValue int
	known    map[uint32]bool // the IDs of the dictionaries
	encoders *pool[zstd.Encoder]
	decoders *pool[zstd.Decoder]
}

// window is how far back, in bytes, packing looks for what repeats. An encoder has memory for about twice that.
const window = 512 << 10

func newCoder(o Options) (*coder, error) {
	c := &coder{minSize: o.MinSize, minGain: o.MinGain, maxValue: o.MaxValue}
	var err error
	if c.known, err = dictionaryIDs(o.Dictionaries); err != nil {
		return nil, err
	}
	enc := []zstd.EOption{
		zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderLevel(level),
		zstd.WithWindowSize(window),
		zstd.WithSingleSegment(true), // so that the size is in the frame, however small it is
		zstd.WithEncoderCRC(false),   // the record's check is over the same
	}
	if n := len(o.Dictionaries); n > 0 {
		enc = append(enc, zstd.WithEncoderDict(o.Dictionaries[n-1]))
	}
	dec := []zstd.DOption{
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(uint64(o.MaxValue)),
		zstd.WithDecoderDicts(o.Dictionaries...),
	}
	n := runtime.GOMAXPROCS(0)
	c.encoders, err = newPool(n,
		func() (*zstd.Encoder, error) { return zstd.NewWriter(nil, enc...) },
		func(e *zstd.Encoder) { e.Close() })
	if err != nil {
		return nil, fmt.Errorf("store/pack: %w", err)
	}
	c.decoders, err = newPool(n,
		func() (*zstd.Decoder, error) { return zstd.NewReader(nil, dec...) },
		(*zstd.Decoder).Close)
	if err != nil {
		c.encoders.close()
		return nil, fmt.Errorf("store/pack: %w", err)
	}
	return c, nil
}

// level is the fastest: on small values those above it cost twice its time or more, and with a dictionary they save nothing beyond it.
const level = zstd.SpeedFastest

func (c *coder) close() {
	c.encoders.close()
	c.decoders.close()
}

// asIs reports whether the value is stored as it is for certain.
func (c *coder) asIs(value []byte) bool {
	return !c.worth(value) && kindOf(value) == raw
}

// worth reports whether it may pay to pack the value.
func (c *coder) worth(value []byte) bool {
	return c.minSize >= 0 && len(value) >= max(c.minSize, 1) && len(value) <= c.maxValue
}

// appendStored appends to dst what is stored of the value, unless that is the value itself: then it returns false, and dst.
func (c *coder) appendStored(dst []byte, e *zstd.Encoder, value []byte) ([]byte, bool) {
	start := len(dst)
	if c.worth(value) {
		dst = binary.LittleEndian.AppendUint64(dst, markPacked)
		dst = e.EncodeAll(value, dst)
		if saved := len(value) - (len(dst) - start); float64(saved) >= c.minGain*float64(len(value)) {
			putCheck(dst[start:], value) // in the place of the frame's magic number
			return dst, true
		}
		dst = dst[:start]
	}
	if kindOf(value) == raw {
		return dst, false
	}
	dst = binary.LittleEndian.AppendUint64(dst, markPlain)
	dst = append(dst, 0, 0, 0, 0)
	dst = append(dst, value...)
	putCheck(dst[start:], value)
	return dst, true
}

// The check of a record: the low 32 bits of XXH64 of the value, little-endian, as zstd has it at the end of a frame. It is of the value, not of the
// record, so that it also finds out a dictionary that has the right ID and is another one.
func check(value []byte) uint32 { return uint32(xxhash.Sum64(value)) }

func putCheck(record, value []byte) {
	binary.LittleEndian.PutUint32(record[markSize:], check(value))
}

// damage is why a stored value cannot be read.
type damage string

func (d damage) Error() string { return string(d) }

// value returns the value of what is stored, which is the callee's from then on: the value may be a part of it. The decoder is taken from the pool if
// it is needed, and left in d for the next call. An error that is no damage says nothing about the value.
func (c *coder) value(ctx context.Context, d **zstd.Decoder, stored []byte) ([]byte, error) {
	k := kindOf(stored)
	switch {
	case k == raw:
		return stored, nil
	case k == strange:
		return nil, damage("its mark is damaged, or of a later version of store/pack")
	case len(stored) < headSize:
		return nil, damage("it is cut")
	}
	want := binary.LittleEndian.Uint32(stored[markSize:])
	value := stored[headSize:]
	if k == packed {
		if *d == nil {
			got, err := c.decoders.take(ctx)
			if err != nil {
				return nil, err
			}
			*d = got
		}
		var err error
		if value, err = c.unpack(*d, stored[markSize:]); err != nil {
			return nil, err
		}
	}
	if check(value) != want {
		return nil, damage("its check is wrong")
	}
	return value, nil
}

// frameMagic begins every frame of zstd.
const frameMagic = "\x28\xb5\x2f\xfd"

// unpack returns what is in the frame, of which the first four bytes are still the check.
func (c *coder) unpack(d *zstd.Decoder, frame []byte) ([]byte, error) {
	copy(frame, frameMagic)
	var h zstd.Header
	switch err := h.Decode(frame); {
	case err != nil:
		return nil, damage(fmt.Sprintf("the head of its frame: %v", err))
	case h.FrameContentSize > uint64(c.maxValue):
		return nil, damage(fmt.Sprintf("it would unpack to %d bytes, and Options.MaxValue is %d", h.FrameContentSize, c.maxValue))
	case h.DictionaryID != 0 && !c.known[h.DictionaryID]:
		return nil, damage(fmt.Sprintf("it is packed with the dictionary %d, which is none of Options.Dictionaries", h.DictionaryID))
	}
	value, err := d.DecodeAll(frame, nil)
	switch {
	case err != nil:
		return nil, damage(fmt.Sprintf("its frame: %v", err))
	case uint64(len(value)) != h.FrameContentSize:
		return nil, damage(fmt.Sprintf("it unpacks to %d bytes instead of %d", len(value), h.FrameContentSize))
	}
	return value, nil
}
