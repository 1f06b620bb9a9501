package nfs4

import (
	"fmt"

	"holdfast/internal/xdr"
)

// An OpNum is the number of an operation of a COMPOUND: nfs_opnum4.
type OpNum uint32

// The operations.
const (
	OP_ACCESS               OpNum = 3
	OP_CLOSE                OpNum = 4
	OP_COMMIT               OpNum = 5
	OP_CREATE               OpNum = 6
	OP_DELEGPURGE           OpNum = 7
	OP_DELEGRETURN          OpNum = 8
	OP_GETATTR              OpNum = 9
	OP_GETFH                OpNum = 10
	OP_LINK                 OpNum = 11
	OP_LOCK                 OpNum = 12
	OP_LOCKT                OpNum = 13
	OP_LOCKU                OpNum = 14
	OP_LOOKUP               OpNum = 15
	OP_LOOKUPP              OpNum = 16
	OP_NVERIFY              OpNum = 17
	OP_OPEN                 OpNum = 18
	OP_OPENATTR             OpNum = 19
	OP_OPEN_CONFIRM         OpNum = 20
	OP_OPEN_DOWNGRADE       OpNum = 21
	OP_PUTFH                OpNum = 22
	OP_PUTPUBFH             OpNum = 23
	OP_PUTROOTFH            OpNum = 24
	OP_READ                 OpNum = 25
	OP_READDIR              OpNum = 26
	OP_READLINK             OpNum = 27
	OP_REMOVE               OpNum = 28
	OP_RENAME               OpNum = 29
	OP_RENEW                OpNum = 30
	OP_RESTOREFH            OpNum = 31
	OP_SAVEFH               OpNum = 32
	OP_SECINFO              OpNum = 33
	OP_SETATTR              OpNum = 34
	OP_SETCLIENTID          OpNum = 35
	OP_SETCLIENTID_CONFIRM  OpNum = 36
	OP_VERIFY               OpNum = 37
	OP_WRITE                OpNum = 38
	OP_RELEASE_LOCKOWNER    OpNum = 39
	OP_BACKCHANNEL_CTL      OpNum = 40
	OP_BIND_CONN_TO_SESSION OpNum = 41
	OP_EXCHANGE_ID          OpNum = 42
	OP_CREATE_SESSION       OpNum = 43
	OP_DESTROY_SESSION      OpNum = 44
	OP_FREE_STATEID         OpNum = 45
	OP_GET_DIR_DELEGATION   OpNum = 46
	OP_GETDEVICEINFO        OpNum = 47
	OP_GETDEVICELIST        OpNum = 48
	OP_LAYOUTCOMMIT         OpNum = 49
	OP_LAYOUTGET            OpNum = 50
	OP_LAYOUTRETURN         OpNum = 51
	OP_SECINFO_NO_NAME      OpNum = 52
	OP_SEQUENCE             OpNum = 53
	OP_SET_SSV              OpNum = 54
	OP_TEST_STATEID         OpNum = 55
	OP_WANT_DELEGATION      OpNum = 56
	OP_DESTROY_CLIENTID     OpNum = 57
	OP_RECLAIM_COMPLETE     OpNum = 58
	OP_ALLOCATE             OpNum = 59
	OP_COPY                 OpNum = 60
	OP_COPY_NOTIFY          OpNum = 61
	OP_DEALLOCATE           OpNum = 62
	OP_IO_ADVISE            OpNum = 63
	OP_LAYOUTERROR          OpNum = 64
	OP_LAYOUTSTATS          OpNum = 65
	OP_OFFLOAD_CANCEL       OpNum = 66
	OP_OFFLOAD_STATUS       OpNum = 67
	OP_READ_PLUS            OpNum = 68
	OP_SEEK                 OpNum = 69
	OP_WRITE_SAME           OpNum = 70
	OP_CLONE                OpNum = 71
	OP_GETXATTR             OpNum = 72
	OP_SETXATTR             OpNum = 73
	OP_LISTXATTRS           OpNum = 74
	OP_REMOVEXATTR          OpNum = 75
	OP_ILLEGAL              OpNum = 10044
)

// String returns the name of the operation without OP_.
func (o OpNum) String() string {
	if n := opNames[o]; n != "" {
		return n[3:]
	}
	return fmt.Sprintf("op(%d)", uint32(o))
}

// XDR codes o.
func (o *OpNum) XDR(c *xdr.Codec) { c.Uint32((*uint32)(o)) }

// A CBOpNum is the number of an operation of a CB_COMPOUND: nfs_cb_opnum4.
type CBOpNum uint32

// The callback operations.
const (
	OP_CB_GETATTR              CBOpNum = 3
	OP_CB_RECALL               CBOpNum = 4
	OP_CB_LAYOUTRECALL         CBOpNum = 5
	OP_CB_NOTIFY               CBOpNum = 6
	OP_CB_PUSH_DELEG           CBOpNum = 7
	OP_CB_RECALL_ANY           CBOpNum = 8
	OP_CB_RECALLABLE_OBJ_AVAIL CBOpNum = 9
	OP_CB_RECALL_SLOT          CBOpNum = 10
	OP_CB_SEQUENCE             CBOpNum = 11
	OP_CB_WANTS_CANCELLED      CBOpNum = 12
	OP_CB_NOTIFY_LOCK          CBOpNum = 13
	OP_CB_NOTIFY_DEVICEID      CBOpNum = 14
	OP_CB_OFFLOAD              CBOpNum = 15
	OP_CB_ILLEGAL              CBOpNum = 10044
)

// String returns the name of the operation without OP_.
func (o CBOpNum) String() string {
	if n := cbOpNames[o]; n != "" {
		return n[3:]
	}
	return fmt.Sprintf("cb_op(%d)", uint32(o))
}

// XDR codes o.
func (o *CBOpNum) XDR(c *xdr.Codec) { c.Uint32((*uint32)(o)) }

var opNames = map[OpNum]string{
	OP_ACCESS:               "OP_ACCESS",
	OP_CLOSE:                "OP_CLOSE",
	OP_COMMIT:               "OP_COMMIT",
	OP_CREATE:               "OP_CREATE",
	OP_DELEGPURGE:           "OP_DELEGPURGE",
	OP_DELEGRETURN:          "OP_DELEGRETURN",
	OP_GETATTR:              "OP_GETATTR",
	OP_GETFH:                "OP_GETFH",
	OP_LINK:                 "OP_LINK",
	OP_LOCK:                 "OP_LOCK",
	OP_LOCKT:                "OP_LOCKT",
	OP_LOCKU:                "OP_LOCKU",
	OP_LOOKUP:               "OP_LOOKUP",
	OP_LOOKUPP:              "OP_LOOKUPP",
	OP_NVERIFY:              "OP_NVERIFY",
	OP_OPEN:                 "OP_OPEN",
	OP_OPENATTR:             "OP_OPENATTR",
	OP_OPEN_CONFIRM:         "OP_OPEN_CONFIRM",
	OP_OPEN_DOWNGRADE:       "OP_OPEN_DOWNGRADE",
	OP_PUTFH:                "OP_PUTFH",
	OP_PUTPUBFH:             "OP_PUTPUBFH",
	OP_PUTROOTFH:            "OP_PUTROOTFH",
	OP_READ:                 "OP_READ",
	OP_READDIR:              "OP_READDIR",
	OP_READLINK:             "OP_READLINK",
	OP_REMOVE:               "OP_REMOVE",
	OP_RENAME:               "OP_RENAME",
	OP_RENEW:                "OP_RENEW",
	OP_RESTOREFH:            "OP_RESTOREFH",
	OP_SAVEFH:               "OP_SAVEFH",
	OP_SECINFO:              "OP_SECINFO",
	OP_SETATTR:              "OP_SETATTR",
	OP_SETCLIENTID:          "OP_SETCLIENTID",
	OP_SETCLIENTID_CONFIRM:  "OP_SETCLIENTID_CONFIRM",
	OP_VERIFY:               "OP_VERIFY",
	OP_WRITE:                "OP_WRITE",
	OP_RELEASE_LOCKOWNER:    "OP_RELEASE_LOCKOWNER",
	OP_BACKCHANNEL_CTL:      "OP_BACKCHANNEL_CTL",
	OP_BIND_CONN_TO_SESSION: "OP_BIND_CONN_TO_SESSION",
	OP_EXCHANGE_ID:          "OP_EXCHANGE_ID",
	OP_CREATE_SESSION:       "OP_CREATE_SESSION",
	OP_DESTROY_SESSION:      "OP_DESTROY_SESSION",
	OP_FREE_STATEID:         "OP_FREE_STATEID",
	OP_GET_DIR_DELEGATION:   "OP_GET_DIR_DELEGATION",
	OP_GETDEVICEINFO:        "OP_GETDEVICEINFO",
	OP_GETDEVICELIST:        "OP_GETDEVICELIST",
	OP_LAYOUTCOMMIT:         "OP_LAYOUTCOMMIT",
	OP_LAYOUTGET:            "OP_LAYOUTGET",
	OP_LAYOUTRETURN:         "OP_LAYOUTRETURN",
	OP_SECINFO_NO_NAME:      "OP_SECINFO_NO_NAME",
	OP_SEQUENCE:             "OP_SEQUENCE",
	OP_SET_SSV:              "OP_SET_SSV",
	OP_TEST_STATEID:         "OP_TEST_STATEID",
	OP_WANT_DELEGATION:      "OP_WANT_DELEGATION",
	OP_DESTROY_CLIENTID:     "OP_DESTROY_CLIENTID",
	OP_RECLAIM_COMPLETE:     "OP_RECLAIM_COMPLETE",
	OP_ALLOCATE:             "OP_ALLOCATE",
	OP_COPY:                 "OP_COPY",
	OP_COPY_NOTIFY:          "OP_COPY_NOTIFY",
	OP_DEALLOCATE:           "OP_DEALLOCATE",
	OP_IO_ADVISE:            "OP_IO_ADVISE",
	OP_LAYOUTERROR:          "OP_LAYOUTERROR",
	OP_LAYOUTSTATS:          "OP_LAYOUTSTATS",
	OP_OFFLOAD_CANCEL:       "OP_OFFLOAD_CANCEL",
	OP_OFFLOAD_STATUS:       "OP_OFFLOAD_STATUS",
	OP_READ_PLUS:            "OP_READ_PLUS",
	OP_SEEK:                 "OP_SEEK",
	OP_WRITE_SAME:           "OP_WRITE_SAME",
	OP_CLONE:                "OP_CLONE",
	OP_GETXATTR:             "OP_GETXATTR",
	OP_SETXATTR:             "OP_SETXATTR",
	OP_LISTXATTRS:           "OP_LISTXATTRS",
	OP_REMOVEXATTR:          "OP_REMOVEXATTR",
	OP_ILLEGAL:              "OP_ILLEGAL",
}

var cbOpNames = map[CBOpNum]string{
	OP_CB_GETATTR:              "OP_CB_GETATTR",
	OP_CB_RECALL:               "OP_CB_RECALL",
	OP_CB_LAYOUTRECALL:         "OP_CB_LAYOUTRECALL",
	OP_CB_NOTIFY:               "OP_CB_NOTIFY",
	OP_CB_PUSH_DELEG:           "OP_CB_PUSH_DELEG",
	OP_CB_RECALL_ANY:           "OP_CB_RECALL_ANY",
	OP_CB_RECALLABLE_OBJ_AVAIL: "OP_CB_RECALLABLE_OBJ_AVAIL",
	OP_CB_RECALL_SLOT:          "OP_CB_RECALL_SLOT",
	OP_CB_SEQUENCE:             "OP_CB_SEQUENCE",
	OP_CB_WANTS_CANCELLED:      "OP_CB_WANTS_CANCELLED",
	OP_CB_NOTIFY_LOCK:          "OP_CB_NOTIFY_LOCK",
	OP_CB_NOTIFY_DEVICEID:      "OP_CB_NOTIFY_DEVICEID",
	OP_CB_OFFLOAD:              "OP_CB_OFFLOAD",
	OP_CB_ILLEGAL:              "OP_CB_ILLEGAL",
}
