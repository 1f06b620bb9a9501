package remote

import (
	"errors"
	"strconv"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// attrWanted is what GETATTR and READDIR ask for. An origin leaves out what it does not have.
var attrWanted = nfs4.Bits(
	nfs4.FATTR4_TYPE, nfs4.FATTR4_CHANGE, nfs4.FATTR4_SIZE, nfs4.FATTR4_FSID, nfs4.FATTR4_FILEID,
	nfs4.FATTR4_MODE, nfs4.FATTR4_NUMLINKS, nfs4.FATTR4_OWNER, nfs4.FATTR4_OWNER_GROUP, nfs4.FATTR4_RAWDEV,
	nfs4.FATTR4_SPACE_USED, nfs4.FATTR4_TIME_ACCESS, nfs4.FATTR4_TIME_CREATE, nfs4.FATTR4_TIME_METADATA,
	nfs4.FATTR4_TIME_MODIFY, nfs4.FATTR4_MOUNTED_ON_FILEID)

// attrNeeded is what cannot be made up.
var attrNeeded = nfs4.Bits(nfs4.FATTR4_TYPE, nfs4.FATTR4_CHANGE, nfs4.FATTR4_SIZE, nfs4.FATTR4_FSID, nfs4.FATTR4_FILEID)

// changeOnly asks for the change attribute alone.
var changeOnly = nfs4.Bits(nfs4.FATTR4_CHANGE)

var errAttrs = errors.New("the origin's answer lacks attributes that every server must have")

// fromFattr converts the attributes of a file. It keeps nothing of f.
func (m *idmap) fromFattr(f *nfs4.Fattr) (*fs.Attr, error) {
	if !f.Mask.Contains(attrNeeded) {
		return nil, fs.E("GETATTR", fs.ServerFault, errAttrs)
	}
	a := &fs.Attr{
		Type:      fileType(f.Type),
		Mode:      f.Mode & 0o7777,
		Nlink:     f.NumLinks,
		UID:       nobody,
		GID:       nobody,
		Size:      f.Size,
		Used:      f.SpaceUsed,
		FSID:      fs.FSID{Major: f.FSID.Major, Minor: f.FSID.Minor},
		FileID:    f.FileID,
		MountedOn: f.FileID,
		Change:    f.Change,
		Atime:     toTime(f.TimeAccess),
		Mtime:     toTime(f.TimeModify),
		Ctime:     toTime(f.TimeMetadata),
	}
	if f.Mask.Has(nfs4.FATTR4_OWNER) {
		a.UID = m.uid(f.Owner)
	}
	if f.Mask.Has(nfs4.FATTR4_OWNER_GROUP) {
		a.GID = m.gid(f.OwnerGroup)
	}
	if f.Mask.Has(nfs4.FATTR4_MOUNTED_ON_FILEID) {
		a.MountedOn = f.MountedOnFileID
	}
	if f.Mask.Has(nfs4.FATTR4_RAWDEV) && (a.Type == fs.Block || a.Type == fs.Char) {
		a.Rdev = fs.Rdev{Major: f.RawDev.Major, Minor: f.RawDev.Minor}
	}
	if f.Mask.Has(nfs4.FATTR4_TIME_CREATE) {
		a.Btime = toTime(f.TimeCreate)
	}
	if !f.Mask.Has(nfs4.FATTR4_NUMLINKS) {
		a.Nlink = 1
	}
	if !f.Mask.Has(nfs4.FATTR4_SPACE_USED) {
		a.Used = a.Size
	}
	if !f.Mask.Has(nfs4.FATTR4_TIME_METADATA) {
		a.Ctime = a.Mtime
	}
	return a, nil
}

// fileType maps named attributes and their directories, which this client never asks for, to what
// they behave like.
func fileType(t nfs4.FileType) fs.FileType {
	switch t {
	case nfs4.NF4ATTRDIR:
		return fs.Directory
	case nfs4.NF4NAMEDATTR:
		return fs.Regular
	}
	return fs.FileType(t)
}

func toTime(t nfs4.Time) time.Time { return time.Unix(t.Sec, int64(t.Nsec)) }

func fromTime(t time.Time) nfs4.Time { return nfs4.Time{Sec: t.Unix(), Nsec: uint32(t.Nanosecond())} }

func changeInfo(c nfs4.ChangeInfo) fs.ChangeInfo {
	return fs.ChangeInfo{Atomic: c.Atomic, Before: c.Before, After: c.After}
}

// setFattr converts a change of attributes. umask tells whether the origin has mode_umask of
// RFC 8275; if not the mask is applied here, and a default ACL of the directory loses to it.
func setFattr(s *fs.SetAttr, umask bool) nfs4.Fattr {
	var f nfs4.Fattr
	if s.Mode != nil {
		switch {
		case s.Umask == nil:
			f.Mask.Set(nfs4.FATTR4_MODE)
			f.Mode = *s.Mode & 0o7777
		case umask:
			f.Mask.Set(nfs4.FATTR4_MODE_UMASK)
			f.ModeUmask = nfs4.ModeUmask{Mode: *s.Mode & 0o7777, Umask: *s.Umask & 0o777}
		default:
			f.Mask.Set(nfs4.FATTR4_MODE)
			f.Mode = *s.Mode & 0o7777 &^ (*s.Umask & 0o777)
		}
	}
	if s.UID != nil {
		f.Mask.Set(nfs4.FATTR4_OWNER)
		f.Owner = strconv.FormatUint(uint64(*s.UID), 10)
	}
	if s.GID != nil {
		f.Mask.Set(nfs4.FATTR4_OWNER_GROUP)
		f.OwnerGroup = strconv.FormatUint(uint64(*s.GID), 10)
	}
	if s.Size != nil {
		f.Mask.Set(nfs4.FATTR4_SIZE)
		f.Size = *s.Size
	}
	if s.AtimeSet != fs.TimeKeep {
		f.Mask.Set(nfs4.FATTR4_TIME_ACCESS_SET)
		f.TimeAccessSet = setTime(s.AtimeSet, s.Atime)
	}
	if s.MtimeSet != fs.TimeKeep {
		f.Mask.Set(nfs4.FATTR4_TIME_MODIFY_SET)
		f.TimeModifySet = setTime(s.MtimeSet, s.Mtime)
	}
	return f
}

func setTime(how fs.TimeSet, t time.Time) nfs4.SetTime {
	if how == fs.TimeClient {
		return nfs4.SetTime{How: nfs4.SET_TO_CLIENT_TIME4, Time: fromTime(t)}
	}
	return nfs4.SetTime{How: nfs4.SET_TO_SERVER_TIME4}
}

// checkName refuses what cannot be the name of an entry before the origin hears of it.
func checkName(op, name string) error {
	if err := fs.CheckName(name); err != nil {
		return fs.E(op, fs.CodeOf(err), err)
	}
	return nil
}
