// Command fsx does random things to one file and checks what it reads; see package fsx.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"holdfast/internal/fsx"
)

func main() {
	seed := flag.Uint64("seed", 0, "repeats a run; 0: drawn")
	ops := flag.Int("ops", 1000, "operations of a run")
	limit := flag.Int("max", 256<<10, "greatest size in bytes")
	without := flag.String("without", "", "operations that are left out, with commas between them: "+strings.Join(fsx.Operations(), ", "))
	length := flag.Duration("time", 0, "go on with the next seed for this long")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: fsx [flags] FILE")
		os.Exit(2)
	}
	cfg := fsx.Config{Path: flag.Arg(0), Seed: *seed, Ops: *ops, Max: *limit}
	if *without != "" {
		cfg.Without = strings.Split(*without, ",")
	}
	if cfg.Seed == 0 {
		cfg.Seed = uint64(time.Now().UnixNano())
	}
	for end := time.Now().Add(*length); ; cfg.Seed++ {
		rep, err := fsx.Run(cfg)
		if err != nil {
			fmt.Fprintln(os.Stderr, "fsx:", err)
			os.Exit(1)
		}
		fmt.Println("seed", cfg.Seed, "done", rep.Done, "not supported", rep.NoSupp)
		if time.Now().After(end) {
			return
		}
	}
}
