package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"holdfast/internal/config"
	"holdfast/internal/nfs3"
	"holdfast/internal/nfs4"
	"holdfast/internal/nlm"
	"holdfast/internal/portmap"
	"holdfast/nfsdown"
	lockmanager "holdfast/nfsdown/nlm"
	"holdfast/nfsdown/v3"
)

// addPrograms adds what clients of NFSv3 need to a server that does not serve yet.
func (in *instance) addPrograms(srv *nfsdown.Server) error {
	v3.New(v3.Config{Down: srv, Logger: in.log})
	_, err := lockmanager.New(lockmanager.Config{Down: srv, Journal: in.journal, Logger: in.log, Name: config.Hostname()})
	return err
}

// mappings is what clients ask rpcbind for.
func mappings(tcp, udp int) []portmap.Mapping {
	var list []portmap.Mapping
	add := func(prog uint32, datagrams bool, versions ...uint32) {
		for _, v := range versions {
			list = append(list, portmap.Mapping{Prog: prog, Vers: v, Prot: portmap.TCP, Port: uint32(tcp)})
			if datagrams && udp != 0 {
				list = append(list, portmap.Mapping{Prog: prog, Vers: v, Prot: portmap.UDP, Port: uint32(udp)})
			}
		}
	}
	add(nfs3.Program, false, nfs3.Version, nfs4.Version)
	add(nfs3.MountProgram, true, 1, 2, 3)
	add(nlm.Program, true, nlm.V1, nlm.V3, nlm.V4)
	add(nlm.NSMProgram, true, nlm.NSMVersion)
	return list
}

const registerTime = 10 * time.Second

// announce serves datagrams beside ln and tells rpcbind, or is one, as the settings say. end takes it back. Only a
// portmapper that was asked for by name is an error when it cannot be: clients that name their ports need none.
func (in *instance) announce(ctx context.Context, srv *nfsdown.Server, ln net.Listener) (end func(), err error) {
	tcp := ln.Addr().(*net.TCPAddr)
	var lc net.ListenConfig
	udp := 0
	pc, err := lc.ListenPacket(ctx, "udp", ln.Addr().String())
	if err != nil {
		in.log.Warn("no UDP for MOUNT, NLM and NSM: clients that use it cannot lock over NFSv3", "err", err)
	} else {
		udp = pc.LocalAddr().(*net.UDPAddr).Port
		go func() {
			if err := srv.ServePacket(ctx, pc); ctx.Err() == nil && !errors.Is(err, nfsdown.ErrStopped) {
				in.log.Error("UDP", "err", err)
			}
		}()
	}
	list := mappings(tcp.Port, udp)
	none := func() {}
	switch in.cfg.Rpcbind.Value {
	case "off":
		return none, nil
	case "embedded":
		return in.embedPortmap(ctx, tcp.IP, list)
	}
	if tcp.IP.IsLoopback() {
		return none, nil // no client can ask
	}
	ask, stop := context.WithTimeout(ctx, registerTime)
	defer stop()
	r, err := portmap.OpenRegistry(ask)
	if err != nil {
		end, err := in.embedPortmap(ctx, tcp.IP, list)
		if err != nil {
			in.log.Warn("there is no rpcbind and none can be run: NFSv3 clients must name the ports and cannot lock", "err", err)
			return none, nil
		}
		in.log.Info("there is no rpcbind; a portmapper of our own answers")
		return end, nil
	}
	defer r.Close()
	return in.register3(ask, r, list), nil
}

// register3 tells the host's rpcbind. Programs that another server has are left to it.
func (in *instance) register3(ctx context.Context, r *portmap.Registry, list []portmap.Mapping) (end func()) {
	var done []portmap.Mapping
	theirs := map[uint32]bool{}
	for _, m := range list {
		if theirs[m.Prog] {
			continue
		}
		port, err := r.Taken(ctx, m)
		if err == nil && port == 0 {
			err = r.Set(ctx, m)
		}
		switch {
		case port != 0:
			theirs[m.Prog] = true
			in.log.Warn("another server is registered with rpcbind; NFSv3 clients find that one", "program", m.Prog, "port", port)
		case err != nil:
			in.log.Warn("rpcbind", "program", m.Prog, "version", m.Vers, "err", err)
		default:
			done = append(done, m)
		}
	}
	return func() {
		ctx, stop := context.WithTimeout(context.Background(), registerTime)
		defer stop()
		r, err := portmap.OpenRegistry(ctx)
		if err != nil {
			return // it is gone, and so is what it knew
		}
		defer r.Close()
		for _, m := range done {
			r.Unset(ctx, m)
		}
	}
}

// embedPortmap answers on port 111 of the address that we listen on.
func (in *instance) embedPortmap(ctx context.Context, ip net.IP, list []portmap.Mapping) (end func(), err error) {
	at := net.JoinHostPort("", fmt.Sprint(portmap.Port))
	if a, ok := netip.AddrFromSlice(ip); ok && !a.IsUnspecified() {
		at = netip.AddrPortFrom(a.Unmap(), portmap.Port).String()
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", at)
	if err != nil {
		return nil, fmt.Errorf("portmapper: %w", err)
	}
	pc, err := lc.ListenPacket(ctx, "udp", at)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("portmapper: %w", err), l.Close())
	}
	s := portmap.NewServer(list)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ctx, l, pc) // it ends when it is closed
	}()
	return func() {
		_ = s.Close()
		<-done
	}, nil
}
