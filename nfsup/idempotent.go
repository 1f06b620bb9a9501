package nfsup

import "holdfast/internal/nfs4"

// readers are the operations that change nothing at the server: their answers need not be kept in the
// reply cache (sa_cachethis, RFC 8881 2.10.6.1.3), and they may be repeated after a DELAY further on.
var readers = nfs4.Bits(
	uint32(nfs4.OP_ACCESS), uint32(nfs4.OP_GETATTR), uint32(nfs4.OP_GETFH), uint32(nfs4.OP_LOCKT),
	uint32(nfs4.OP_LOOKUP), uint32(nfs4.OP_LOOKUPP), uint32(nfs4.OP_NVERIFY), uint32(nfs4.OP_PUTFH),
	uint32(nfs4.OP_PUTPUBFH), uint32(nfs4.OP_PUTROOTFH), uint32(nfs4.OP_READ), uint32(nfs4.OP_READDIR),
	uint32(nfs4.OP_READLINK), uint32(nfs4.OP_RESTOREFH), uint32(nfs4.OP_SAVEFH), uint32(nfs4.OP_SECINFO),
	uint32(nfs4.OP_SECINFO_NO_NAME), uint32(nfs4.OP_SEQUENCE), uint32(nfs4.OP_TEST_STATEID),
	uint32(nfs4.OP_VERIFY), uint32(nfs4.OP_COMMIT), uint32(nfs4.OP_READ_PLUS), uint32(nfs4.OP_SEEK),
	uint32(nfs4.OP_IO_ADVISE), uint32(nfs4.OP_OFFLOAD_STATUS), uint32(nfs4.OP_GETXATTR), uint32(nfs4.OP_LISTXATTRS),
)

// idempotent tells whether ops may be executed twice.
func idempotent(ops []nfs4.Args) bool { return harmless(ops) }

// harmless tells whether ops have no effect.
func harmless(ops []nfs4.Args) bool {
	for _, o := range ops {
		if !readers.Has(uint32(o.Op())) {
			return false
		}
	}
	return true
}
