package redis

import (
	"os"
	"testing"

	client "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

// The client prints each connection that it cannot make, of which there are many here.
func TestMain(m *testing.M) {
	client.SetLogger(&logging.VoidLogger{})
	os.Exit(m.Run())
}
