package main

import (
	"slices"
	"testing"

	"holdfast/nfsdown"
)

// Programs have procedures of the same name, which are counted each for itself.
func TestStatsOfAnInterval(t *testing.T) {
	old := statsView{Downstream: []nfsdown.OpStat{{Program: "NFSv4", Op: "READ", Count: 5, Out: 50}, {Program: "NFSv3", Op: "READ", Count: 70, Out: 700}}}
	now := statsView{Downstream: []nfsdown.OpStat{{Program: "NFSv4", Op: "READ", Count: 6, Out: 60}, {Program: "NFSv4", Op: "WRITE", Count: 1},
		{Program: "NFSv3", Op: "READ", Count: 70, Out: 700}, {Program: "NLM", Op: "LOCK", Count: 3, Errors: 1}}}
	want := []nfsdown.OpStat{{Program: "NFSv4", Op: "READ", Count: 1, Out: 10}, {Program: "NFSv4", Op: "WRITE", Count: 1}, {Program: "NLM", Op: "LOCK", Count: 3, Errors: 1}}
	if got := now.minus(&old).Downstream; !slices.Equal(got, want) {
		t.Errorf("in between: %+v, want %+v", got, want)
	}
}
