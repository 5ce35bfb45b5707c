// Tlogpeer reads a transparency log with golang.org/x/mod/sumdb, unmodified: it opens the checkpoint, authenticates the
// tiles that it reads, and checks proofs. Its input on standard input and its output are one JSON object each.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type inclusion struct {
	Index int64
	Entry []byte
	Proof []tlog.Hash
	Size  int64
	Root  tlog.Hash
}

type consistency struct {
	Old, New         int64
	OldRoot, NewRoot tlog.Hash
	Proof            []tlog.Hash
}

type request struct {
	Keys        []string
	Notes       []string
	Log         string
	Indexes     []int64
	Inclusion   []inclusion
	Consistency []consistency
}

type answer struct {
	Signed   [][]string
	Size     int64
	Root     tlog.Hash
	Leaves   []tlog.Hash
	Failures []string
}

// files reads the tiles of a log at a URL or in a directory, in the layout of tlog-tiles, which names no height.
type files string

func (f files) read(path string) ([]byte, error) {
	if !strings.HasPrefix(string(f), "http://") {
		return os.ReadFile(filepath.Join(string(f), path))
	}
	response, err := http.Get(string(f) + "/" + path)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != 200 {
		return nil, fmt.Errorf("%s: %s", path, response.Status)
	}
	return io.ReadAll(response.Body)
}

func (f files) Height() int                                 { return 8 }
func (f files) SaveTiles(tiles []tlog.Tile, data [][]byte) {}

func (f files) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		data, err := f.read("tile/" + strings.TrimPrefix(tile.Path(), "tile/8/"))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	var asked request
	var said answer
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		return err
	}
	var verifiers []note.Verifier
	for _, key := range asked.Keys {
		verifier, err := note.NewVerifier(key)
		if err != nil {
			return err
		}
		verifiers = append(verifiers, verifier)
	}
	known := note.VerifierList(verifiers...)
	for _, text := range asked.Notes {
		opened, err := note.Open([]byte(text), known)
		if err != nil {
			said.Failures = append(said.Failures, err.Error())
			continue
		}
		var names []string
		for _, one := range opened.Sigs {
			names = append(names, one.Name)
		}
		said.Signed = append(said.Signed, names)
	}
	for _, one := range asked.Inclusion {
		if err := tlog.CheckRecord(one.Proof, one.Size, one.Root, one.Index, tlog.RecordHash(one.Entry)); err != nil {
			said.Failures = append(said.Failures, fmt.Sprintf("inclusion %d of %d: %v", one.Index, one.Size, err))
		}
	}
	for _, one := range asked.Consistency {
		if err := tlog.CheckTree(one.Proof, one.New, one.NewRoot, one.Old, one.OldRoot); err != nil {
			said.Failures = append(said.Failures, fmt.Sprintf("consistency %d to %d: %v", one.Old, one.New, err))
		}
	}
	if asked.Log != "" {
		if err := readLog(files(asked.Log), known, asked.Indexes, &said); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(said)
}

func readLog(log files, known note.Verifiers, indexes []int64, said *answer) error {
	data, err := log.read("checkpoint")
	if err != nil {
		return err
	}
	opened, err := note.Open(data, known)
	if err != nil {
		return err
	}
	lines := strings.SplitN(opened.Text, "\n", 4)
	if _, err := fmt.Sscan(lines[1], &said.Size); err != nil {
		return err
	}
	if said.Root, err = tlog.ParseHash(lines[2]); err != nil {
		return err
	}
	reader := tlog.TileHashReader(tlog.Tree{N: said.Size, Hash: said.Root}, log)
	for _, index := range indexes {
		hashes, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
		if err != nil {
			return err
		}
		proof, err := tlog.ProveRecord(said.Size, index, reader)
		if err != nil {
			return err
		}
		if err := tlog.CheckRecord(proof, said.Size, said.Root, index, hashes[0]); err != nil {
			return err
		}
		said.Leaves = append(said.Leaves, hashes[0])
	}
	return nil
}
