package rpc

import (
	"holdfast/internal/xdr"
)

// Flavours of credentials, RFC 5531 section 8.2, RFC 2203, RFC 9289.
const (
	AUTH_NONE  = 0
	AUTH_SYS   = 1
	AUTH_SHORT = 2
	AUTH_DH    = 3
	RPCSEC_GSS = 6
	AUTH_TLS   = 7
)

// Limits of credentials, RFC 5531 section 8.2 and appendix A.
const (
	MaxAuth    = 400 // bytes of a credential or verifier
	MaxMachine = 255 // bytes of a machine name
	MaxGroups  = 16  // supplementary groups
)

// A Cred is a credential: AUTH_NONE (the zero value), or AUTH_SYS with the rest of the fields.
// The credentials of a connection's calls share Groups: do not change it.
type Cred struct {
	Flavor   uint32
	Stamp    uint32
	Machine  string // at most MaxMachine arbitrary bytes
	UID, GID uint32
	Groups   []uint32 // at most MaxGroups, without GID
}

// xdrSys codes the body of an AUTH_SYS credential.
func (a *Cred) xdrSys(c *xdr.Codec) {
	c.Uint32(&a.Stamp)
	c.String(&a.Machine, MaxMachine)
	c.Uint32(&a.UID)
	c.Uint32(&a.GID)
	xdr.Slice(c, &a.Groups, MaxGroups, (*xdr.Codec).Uint32)
}

// encode writes a as opaque_auth.
func (a *Cred) encode(c *xdr.Codec) {
	flavor := a.Flavor
	c.Uint32(&flavor)
	mark := c.Mark()
	var n uint32
	c.Uint32(&n)
	switch flavor {
	case AUTH_NONE:
	case AUTH_SYS:
		a.xdrSys(c)
		c.PatchUint32(mark, uint32(c.Mark()-mark-4))
	default:
		c.Failf("credential of flavour %d", flavor)
	}
}

// ParseCred parses the body of a credential. The status is AUTH_OK, or why the call is rejected:
// AUTH_REJECTEDCRED for a flavour that is not served here, AUTH_BADCRED for a malformed AUTH_SYS.
func ParseCred(flavor uint32, body []byte) (Cred, AuthStat) {
	switch flavor {
	case AUTH_NONE:
		return Cred{}, AUTH_OK
	case AUTH_SYS:
	default:
		return Cred{}, AUTH_REJECTEDCRED
	}
	a := Cred{Flavor: AUTH_SYS}
	var c xdr.Codec
	c.ResetDecoder(body)
	a.xdrSys(&c)
	if c.Err() != nil || c.Len() != 0 {
		return Cred{}, AUTH_BADCRED
	}
	return a, AUTH_OK
}
