package nfsup

import (
	"reflect"
	"testing"
)

// What an unlock or a downgrade on its way gives up is not reclaimed: the server may not have it any more,
// and would refuse the rest along with it.
func TestReclaimLeavesOutWhatIsGivenUp(t *testing.T) {
	set := RangeSet{{Range{0, 99}, true}, {Range{200, 299}, false}}
	for _, c := range []struct {
		name string
		wish *wish
		want RangeSet
	}{
		{"nothing on its way", nil, set},
		{"part is unlocked", &wish{r: Range{50, 249}}, RangeSet{{Range{0, 49}, true}, {Range{250, 299}, false}}},
		{"all is unlocked", &wish{r: Range{0, 299}}, RangeSet{}},
		{"part is downgraded", &wish{r: Range{50, 79}, keep: true}, RangeSet{{Range{0, 49}, true}, {Range{50, 79}, false}, {Range{80, 99}, true}, {Range{200, 299}, false}}},
		{"a lock that may still be denied gives nothing up", &wish{r: Range{50, 249}, keep: true}, set},
	} {
		t.Run(c.name, func(t *testing.T) {
			var table stateTable
			l := &lockState{set: set, has: true, wish: c.wish}
			table.owe(l)
			if len(l.owing) != len(c.want) || len(l.owing) > 0 && !reflect.DeepEqual(l.owing, c.want) {
				t.Errorf("reclaims %v, want %v", l.owing, c.want)
			}
		})
	}
}
