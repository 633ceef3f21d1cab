package outage

import (
	"fmt"
	"net"
	"sync"
	"testing"
)

// Proxy is a way to a server on which connections can be made to hang.
type Proxy struct {
	Port int

	mu    sync.Mutex
	mute  bool // what the server says does not arrive
	deaf  bool // nor what it is told
	conns map[net.Conn]bool
	late  int        // goroutines that have something that was held back
	free  *sync.Cond // of mute, deaf and late
}

// NewProxy opens a way to a port of the loopback, until the test ends.
func NewProxy(t testing.TB, to int) *Proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Port: l.Addr().(*net.TCPAddr).Port, conns: map[net.Conn]bool{}}
	p.free = sync.NewCond(&p.mu)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", to))
			if err != nil {
				in.Close()
				continue
			}
			p.mu.Lock()
			p.conns[in], p.conns[out] = true, true
			p.mu.Unlock()
			wg.Go(func() { p.pass(out, in, &p.deaf) })
			wg.Go(func() { p.pass(in, out, &p.mute) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.Heal()
		wg.Wait()
	})
	return p
}

func (p *Proxy) pass(to, from net.Conn, held *bool) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		late := *held
		if late {
			p.late++
		}
		for *held {
			p.free.Wait()
		}
		p.mu.Unlock()
		_, werr := to.Write(buf[:n])
		if late {
			p.mu.Lock()
			p.late--
			p.free.Broadcast()
			p.mu.Unlock()
		}
		if err != nil || werr != nil {
			return
		}
	}
}

// Hang holds back what the server says, and if it is deaf what it is told, too.
func (p *Proxy) Hang(deaf bool) {
	p.mu.Lock()
	p.mute, p.deaf = true, deaf
	p.mu.Unlock()
}

// Heal lets through what waits, and then ends the connections that there are.
func (p *Proxy) Heal() {
	p.mu.Lock()
	p.mute, p.deaf = false, false
	conns := p.conns
	p.conns = map[net.Conn]bool{}
	p.free.Broadcast()
	for p.late > 0 {
		p.free.Wait()
	}
	p.mu.Unlock()
	for c := range conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			tcp.CloseWrite()
		}
	}
}
