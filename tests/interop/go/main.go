// Peer is go-spiffe, unmodified, as the other side of a test: a client of the Workload API at SPIFFE_ENDPOINT_SOCKET,
// and a peer that listens or dials with the X509-SVID from there. What it sees and does it says in JSON, one line
// each on standard output; standard input tells it what to do, and its end ends the program.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
)

type command func(ctx context.Context, arguments []string) error

var commands = map[string]command{
	"watch":        watch,
	"jwt":          jwt,
	"listen":       listen,
	"dial":         dial,
	"verify":       verify,
	"serve-tls":    serveTLS,
	"serve-grpc":   serveGRPC,
	"fetch-bundle": fetchBundle,
	"serve-bundle": serveBundle,
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) == 0 {
		return fmt.Errorf("wanted one of %s, got nothing", names())
	}
	chosen, known := commands[arguments[0]]
	if !known {
		return fmt.Errorf("wanted one of %s, got %q", names(), arguments[0])
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	return chosen(ctx, arguments[1:])
}

func names() string {
	return strings.Join(slices.Sorted(maps.Keys(commands)), ", ")
}

// line is what one event has to tell; the fields that it does not know are left out.
type line struct {
	Event    string   `json:"event"`
	IDs      []string `json:"ids,omitempty"`
	Serials  []string `json:"serials,omitempty"`
	Domains  []string `json:"domains,omitempty"`
	Address  string   `json:"address,omitempty"`
	Peer     string   `json:"peer,omitempty"`
	Text     string   `json:"text,omitempty"`
	Token    string   `json:"token,omitempty"`
	Audience []string `json:"audience,omitempty"`
	Code     string   `json:"code,omitempty"`
	Error    string   `json:"error,omitempty"`
}

var saying sync.Mutex

func say(told line) {
	saying.Lock()
	defer saying.Unlock()
	if err := json.NewEncoder(os.Stdout).Encode(told); err != nil {
		os.Exit(1) // nobody listens any more
	}
}

// eachLine calls do for every line of standard input, until its end.
func eachLine(do func(text string)) error {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		do(lines.Text())
	}
	return lines.Err()
}
