package config

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Options is what the nfs(5) options of an origin say. Units are those of nfs(5): timeo in tenths
// of a second, the ac* times in seconds.
type Options struct {
	Minor    uint32 // 1 or 2
	NConnect int    // 1 to 16
	Port     int
	Hard     bool
	ReadOnly bool
	Timeout  time.Duration
	AcRegMin, AcRegMax,
	AcDirMin, AcDirMax time.Duration
	RSize, WSize uint32
	NoLock       bool
	Cache        bool   // fsc: a mount caches data on disk
	Away         string // block or serve; empty: the setting of all
	Consistency  string // one of ConsistencyModes; empty: the setting of all
	Ages         bool   // one of the ac times was given
}

// ConsistencyModes are the words for how old an answer may be; package remote says what they mean.
var ConsistencyModes = []string{"strict", "close-to-open", "relaxed", "immutable"}

// DefaultOptions is nfs(5)'s defaults as far as they apply.
func DefaultOptions() Options {
	return Options{
		Minor: 2, NConnect: 1, Port: 2049, Hard: true, Timeout: 60 * time.Second,
		AcRegMin: 3 * time.Second, AcRegMax: 60 * time.Second, AcDirMin: 30 * time.Second, AcDirMax: 60 * time.Second,
		RSize: 1 << 20, WSize: 1 << 20,
	}
}

// ParseOptions parses the origin's options; an unknown one is an error that names it.
func (o *Origin) ParseOptions() (Options, error) {
	opt := DefaultOptions()
	for _, word := range strings.Split(o.Options, ",") {
		if word == "" {
			continue
		}
		if err := opt.set(word); err != nil {
			return opt, err
		}
	}
	if opt.AcRegMin > opt.AcRegMax || opt.AcDirMin > opt.AcDirMax {
		return opt, fmt.Errorf("an attribute cache minimum is above its maximum")
	}
	return opt, nil
}

// Addr returns host:port of the origin.
func (o *Origin) Addr(opt Options) string {
	if _, _, err := net.SplitHostPort(o.Server); err == nil {
		return o.Server
	}
	return net.JoinHostPort(strings.Trim(o.Server, "[]"), strconv.Itoa(opt.Port))
}

func (opt *Options) set(word string) error {
	key, value, _ := strings.Cut(word, "=")
	number := func(min, max int) (int, error) {
		n, err := strconv.Atoi(value)
		if err != nil || n < min || n > max {
			return 0, fmt.Errorf("option %s: %q is not a number from %d to %d", key, value, min, max)
		}
		return n, nil
	}
	seconds := func(to ...*time.Duration) error {
		n, err := number(0, 86400)
		opt.Ages = true
		for _, d := range to {
			*d = time.Duration(n) * time.Second
		}
		return err
	}
	var n int
	var err error
	switch key {
	case "vers", "nfsvers", "minorversion":
		switch value {
		case "4", "4.2", "2":
			opt.Minor = 2
		case "4.1", "1":
			opt.Minor = 1
		default:
			return fmt.Errorf("option %s: the upstream protocol is NFS 4.1 or 4.2, not %s", key, value)
		}
	case "nconnect":
		n, err = number(1, 16)
		opt.NConnect = n
	case "port":
		n, err = number(1, 65535)
		opt.Port = n
	case "hard":
		opt.Hard = true
	case "soft":
		opt.Hard = false
	case "ro":
		opt.ReadOnly = true
	case "rw":
		opt.ReadOnly = false
	case "timeo":
		n, err = number(1, 36000)
		opt.Timeout = time.Duration(n) * time.Second / 10
	case "consistency":
		if !slices.Contains(ConsistencyModes, value) {
			return fmt.Errorf("option consistency: %q is not one of %s", value, strings.Join(ConsistencyModes, ", "))
		}
		opt.Consistency = value
	case "acregmin":
		err = seconds(&opt.AcRegMin)
	case "acregmax":
		err = seconds(&opt.AcRegMax)
	case "acdirmin":
		err = seconds(&opt.AcDirMin)
	case "acdirmax":
		err = seconds(&opt.AcDirMax)
	case "actimeo":
		err = seconds(&opt.AcRegMin, &opt.AcRegMax, &opt.AcDirMin, &opt.AcDirMax)
	case "fsc":
		opt.Cache = true
	case "nofsc":
		opt.Cache = false
	case "away":
		if value != "block" && value != "serve" {
			return fmt.Errorf("option away: block or serve, not %q", value)
		}
		opt.Away = value
	case "noac":
		opt.AcRegMin, opt.AcRegMax, opt.AcDirMin, opt.AcDirMax, opt.Ages = 0, 0, 0, 0, true
	case "rsize":
		n, err = number(4096, 1<<20)
		opt.RSize = uint32(n)
	case "wsize":
		n, err = number(4096, 1<<20)
		opt.WSize = uint32(n)
	case "sec":
		if value != "sys" {
			return fmt.Errorf("option sec: only sys is supported, not %s", value)
		}
	case "proto":
		if value != "tcp" {
			return fmt.Errorf("option proto: only tcp is supported, not %s", value)
		}
	case "_netdev", "nofail", "auto", "noauto", "retrans", "relatime", "noatime", "defaults", "user", "nouser", "suid", "dev", "exec":
		// mount(8)'s and systemd's own, or without meaning here
	default:
		if strings.HasPrefix(key, "x-systemd.") {
			return nil
		}
		return fmt.Errorf("option %s is not known; see holdfast mount --help", key)
	}
	return err
}
