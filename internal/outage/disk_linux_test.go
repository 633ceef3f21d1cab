package outage

import (
	"os"
	"path/filepath"
	"testing"
)

// What was synced is there after the power was cut, and what was not is not.
func TestDisk(t *testing.T) {
	d := NewDisk(t, 32<<20)
	write := func(name string, sync bool) {
		t.Helper()
		f, err := os.Create(filepath.Join(d.Dir, name))
		if err == nil {
			_, err = f.WriteString(name)
		}
		if err == nil && sync {
			err = f.Sync()
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write("synced", true)
	write("written", false)
	d.Cut(t, nobody{})
	if err := os.WriteFile(filepath.Join(d.Dir, "late"), nil, 0o600); err == nil {
		t.Error("without power a file is made")
	}
	d.Restore(t)
	if b, err := os.ReadFile(filepath.Join(d.Dir, "synced")); string(b) != "synced" {
		t.Errorf("what was synced: %q, %v", b, err)
	}
	if b, _ := os.ReadFile(filepath.Join(d.Dir, "written")); len(b) > 0 {
		t.Errorf("what was not synced has survived: %q", b)
	}
}

type nobody struct{}

func (nobody) Freeze() {}
func (nobody) Kill()   {}
