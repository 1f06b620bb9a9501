package state
import ("testing";"testing/synctest";"math/rand";"fmt";"sort";"strings")
func TestDbg(t *testing.T){
 outside:=newWorker(); defer outside.stop()
 counts:=map[string]int{}
 for seed:=int64(0);seed<400;seed++{
 r:=rand.New(rand.NewSource(seed)); ch:=make([]byte,900); r.Read(ch)
 var s *sim; var err error
 dir:=t.TempDir()
 synctest.Test(t,func(t *testing.T){s=newSim(t,outside,dir,ch); err=s.run()})
 if err!=nil{ t.Errorf("seed %d: %v",seed,err); break}
 for _,l:=range s.trace{ f:=strings.Fields(l); k:=l; if len(f)>1{ if i:=strings.Index(l,"=>");i>0{ k=f[1]; if strings.Contains(l,"reclaim true"){k+=" reclaim"}; k+=" "+l[i:] } else {k=strings.Join(f[1:min(len(f),2)]," ")}}; counts[k]++}
 }
 var ks []string; for k:=range counts{ks=append(ks,k)}; sort.Strings(ks)
 for _,k:=range ks{ if counts[k]>0 {fmt.Println(counts[k],k)}}
}
