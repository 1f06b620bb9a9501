// Package portmap is the program that tells on which port an RPC program listens: version 2 (RFC 1833 section 3) and
// versions 3 and 4, rpcbind (section 2). It asks and registers with the host's, and is a small one where there is none.
package portmap

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"holdfast/internal/xdr"
)

// Program, versions and port.
const (
	Program = 100000
	V2      = 2
	V3      = 3
	V4      = 4
	Port    = 111
)

// Procedures: of version 2, and of versions 3 and 4.
const (
	procNull    = 0
	procSet     = 1
	procUnset   = 2
	procGetport = 3
	procDump    = 4

	procGetaddr    = 3
	procGettime    = 6
	procUaddrTaddr = 7
	procVersaddr   = 9
)

// Protocols of version 2: IP protocol numbers.
const (
	TCP = 6
	UDP = 17
)

// A Mapping says that a program listens on a port.
type Mapping struct{ Prog, Vers, Prot, Port uint32 }

// XDR codes m.
func (m *Mapping) XDR(c *xdr.Codec) {
	c.Uint32(&m.Prog)
	c.Uint32(&m.Vers)
	c.Uint32(&m.Prot)
	c.Uint32(&m.Port)
}

// A Binding is rpcb: a Mapping in words. Netid is tcp, udp, tcp6 or udp6; Addr a universal address.
type Binding struct {
	Prog, Vers         uint32
	Netid, Addr, Owner string
}

const maxString = 1024

// XDR codes b.
func (b *Binding) XDR(c *xdr.Codec) {
	c.Uint32(&b.Prog)
	c.Uint32(&b.Vers)
	c.String(&b.Netid, maxString)
	c.String(&b.Addr, maxString)
	c.String(&b.Owner, maxString)
}

// list is a linked list: TRUE before each element, FALSE after the last.
func list[T any, P xdr.Type[T]](c *xdr.Codec, l *[]T) {
	if c.Decoding() {
		*l = nil
	}
	for i := 0; c.Err() == nil; i++ {
		more := i < len(*l)
		if c.Bool(&more); !more || c.Err() != nil {
			return
		}
		if c.Decoding() {
			var zero T
			*l = append(*l, zero)
		}
		P(&(*l)[i]).XDR(c)
	}
}

// Uaddr is the universal address of a port, RFC 5665 5.2.3.3.
func Uaddr(a netip.AddrPort) string {
	return fmt.Sprintf("%s.%d.%d", a.Addr(), a.Port()>>8, a.Port()&255)
}

// ParseUaddr understands a universal address.
func ParseUaddr(s string) (netip.AddrPort, error) {
	bad := fmt.Errorf("portmap: %q is no universal address", s)
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return netip.AddrPort{}, bad
	}
	j := strings.LastIndexByte(s[:i], '.')
	if j < 0 {
		return netip.AddrPort{}, bad
	}
	high, err1 := strconv.ParseUint(s[j+1:i], 10, 8)
	low, err2 := strconv.ParseUint(s[i+1:], 10, 8)
	a, err3 := netip.ParseAddr(s[:j])
	if err1 != nil || err2 != nil || err3 != nil {
		return netip.AddrPort{}, bad
	}
	return netip.AddrPortFrom(a, uint16(high<<8|low)), nil
}

// netids are the ways to reach a port by version 2's protocol.
func netids(prot uint32) (v4, v6 string) {
	if prot == UDP {
		return "udp", "udp6"
	}
	return "tcp", "tcp6"
}
