package nfsdown

import (
	"context"

	"holdfast/internal/nfs4"
)

// opDelegreturn: no delegation is ever given, so no stateid stands for one. RFC 8881 18.6.
func opDelegreturn(context.Context, *compound, *nfs4.DelegreturnArgs) (*nfs4.DelegreturnRes, error) {
	return nil, nfs4.NFS4ERR_BAD_STATEID
}

// opGetDirDelegation says that there is none, and that there will be no signal: RFC 8881 18.39.
func opGetDirDelegation(context.Context, *compound, *nfs4.GetDirDelegationArgs) (*nfs4.GetDirDelegationRes, error) {
	return &nfs4.GetDirDelegationRes{NonFatal: nfs4.GDD4_UNAVAIL}, nil
}
