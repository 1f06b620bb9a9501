package journal

import (
	"context"
	"errors"
	"testing"
)

// slowDisk syncs when it is told to, and as it is told to.
type slowDisk struct {
	memoryDisk
	begun chan struct{}
	end   chan error
}

func (d *slowDisk) sync() error {
	d.begun <- struct{}{}
	return <-d.end
}

func openSlow(t *testing.T) (*Journal, *slowDisk) {
	t.Helper()
	d := &slowDisk{memoryDisk{NewMemory()}, make(chan struct{}), make(chan error)}
	o := Options{MinFree: -1}
	o.setDefaults()
	j, err := start("memory", o, nil, d, &Report{}, &inspection{}, mark{}, markMissing)
	if err != nil {
		t.Fatal(err)
	}
	go j.commitLoop()
	return j, d
}

func held(n int) *Batch {
	b := new(Batch)
	b.PutLock(lockOf(alice(n), "file", 1))
	return b
}

func commitInBackground(j *Journal, b *Batch) <-chan error {
	done := make(chan error, 1)
	go func() { done <- j.Commit(context.Background(), b) }()
	return done
}

// Who waits for the log alone does not wait for a disk that is busy; who waits for the disk does, and what came
// meanwhile shares one sync.
func TestALogIsWrittenWhileTheDiskIsBusy(t *testing.T) {
	j, d := openSlow(t)
	before := j.Stats().Seq
	first := commitInBackground(j, held(1))
	<-d.begun
	for n := 2; n < 5; n++ {
		if err := j.Write(context.Background(), held(n)); err != nil {
			t.Fatal(err)
		}
	}
	second := commitInBackground(j, held(5))
	if err := j.Write(context.Background(), held(6)); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-first:
		t.Fatalf("a commit was answered before the disk: %v", err)
	case err := <-second:
		t.Fatalf("a commit was answered before the disk: %v", err)
	default:
	}
	if s := j.Stats(); s.Seq != before {
		t.Errorf("group %d counts as durable, %d is", s.Seq, before)
	}
	d.end <- nil
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	<-d.begun // one for all that came meanwhile, if the second commit was among it
	d.end <- nil
	for {
		select {
		case <-d.begun:
			d.end <- nil
			continue
		case err := <-second:
			if err != nil {
				t.Fatal(err)
			}
		}
		break
	}
	closed := make(chan error, 1)
	go func() { closed <- j.Close() }()
	for {
		select {
		case <-d.begun:
			d.end <- nil
			continue
		case err := <-closed:
			if err != nil {
				t.Fatal(err)
			}
		}
		break
	}
	s, err := d.m.Load()
	if err != nil || len(s.Locks) != 6 {
		t.Errorf("%d locks, %v", len(s.Locks), err)
	}
}

// A sync that fails is the end for all that was written and not synced, and for what waits.
func TestAFailedSyncIsTheEndOfBothStages(t *testing.T) {
	j, d := openSlow(t)
	first := commitInBackground(j, held(1))
	<-d.begun
	second := commitInBackground(j, held(2))
	if err := j.Write(context.Background(), held(3)); err != nil {
		t.Fatal(err)
	}
	d.end <- errors.New("the disk is on fire")
	for _, c := range []<-chan error{first, second} {
		var failed *FailedError
		if err := <-c; !errors.As(err, &failed) {
			t.Errorf("%v", err)
		}
	}
	<-j.Failed()
	if err := j.Write(context.Background(), held(4)); err == nil {
		t.Error("written after the end")
	}
	if err := j.Close(); err == nil {
		t.Error("a clean end")
	}
}
