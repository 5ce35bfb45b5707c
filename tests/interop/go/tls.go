package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

const patience = 10 * time.Second // for one connection, from its handshake to its end

// listen ID takes connections of this peer on a free port of 127.0.0.1 and sends their lines back.
func listen(ctx context.Context, arguments []string) error {
	if len(arguments) != 1 {
		return fmt.Errorf("wanted listen ID, got %q", arguments)
	}
	peer, err := spiffeid.FromString(arguments[0])
	if err != nil {
		return err
	}
	source, err := workloadapi.NewX509Source(ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	mode := spiffetls.MTLSServerWithSource(tlsconfig.AuthorizeID(peer), source)
	listener, err := spiffetls.ListenWithMode(ctx, "tcp", "127.0.0.1:0", mode)
	if err != nil {
		return err
	}
	defer listener.Close()
	say(line{Event: "listening", Address: listener.Addr().String()})
	go accept(listener)
	return eachLine(func(string) {})
}

func accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go serve(conn)
	}
}

func serve(conn net.Conn) {
	defer conn.Close()
	text, err := exchange(conn, func(lines *bufio.Reader) (string, error) {
		text, err := lines.ReadString('\n')
		if err == nil {
			_, err = conn.Write([]byte(text))
		}
		return text, err
	})
	tell("served", conn, text, err)
}

// dial takes lines "HOST:PORT ID": it connects there, wants to meet this ID, and sends a line that has to come back.
func dial(ctx context.Context, _ []string) error {
	source, err := workloadapi.NewX509Source(ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	say(line{Event: "ready"})
	return eachLine(func(text string) {
		if err := call(ctx, source, strings.Fields(text)); err != nil {
			say(line{Event: "refused", Error: err.Error()})
		}
	})
}

func call(ctx context.Context, source *workloadapi.X509Source, words []string) error {
	if len(words) != 2 {
		return fmt.Errorf("wanted HOST:PORT ID, got %q", words)
	}
	peer, err := spiffeid.FromString(words[1])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	mode := spiffetls.MTLSClientWithSource(tlsconfig.AuthorizeID(peer), source)
	conn, err := spiffetls.DialWithMode(ctx, "tcp", words[0], mode)
	if err != nil {
		return err
	}
	defer conn.Close()
	answer, err := exchange(conn, func(lines *bufio.Reader) (string, error) {
		if _, err := conn.Write([]byte("hello\n")); err != nil {
			return "", err
		}
		return lines.ReadString('\n')
	})
	tell("answered", conn, answer, err)
	return nil
}

// exchange does it within a connection's time.
func exchange(conn net.Conn, do func(lines *bufio.Reader) (string, error)) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	return do(bufio.NewReader(conn))
}

// tell says whom we met and what came, or why it was refused on this side or on that.
func tell(event string, conn net.Conn, text string, err error) {
	if err != nil {
		say(line{Event: "refused", Error: err.Error()})
		return
	}
	peer, err := spiffetls.PeerIDFromConn(conn)
	if err != nil {
		say(line{Event: "refused", Error: err.Error()})
		return
	}
	say(line{Event: event, Peer: peer.String(), Text: strings.TrimSuffix(text, "\n")})
}
