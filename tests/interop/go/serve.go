package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// serveTLS ADDRESS CHAIN KEY ROOTS PEER echoes bytes to this peer, with an identity of PEM files, until it is killed.
// It says nothing of its connections: that would be measured, too.
func serveTLS(_ context.Context, arguments []string) error {
	if len(arguments) != 5 {
		return fmt.Errorf("wanted serve-tls ADDRESS CHAIN KEY ROOTS PEER, got %q", arguments)
	}
	peer, err := spiffeid.FromString(arguments[4])
	if err != nil {
		return err
	}
	svid, err := x509svid.Load(arguments[1], arguments[2])
	if err != nil {
		return err
	}
	bundle, err := x509bundle.Load(peer.TrustDomain(), arguments[3])
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", arguments[0])
	if err != nil {
		return err
	}
	config := tlsconfig.MTLSServerConfig(svid, bundle, tlsconfig.AuthorizeID(peer))
	config.MinVersion = tls.VersionTLS13
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err == nil {
			go echo(tls.Server(conn, config))
		}
	}
}

func echo(conn *tls.Conn) {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if conn.HandshakeContext(ctx) != nil || conn.SetDeadline(time.Now().Add(patience)) != nil {
		return
	}
	_, _ = io.Copy(conn, conn) // its end is the peer's
}

// serveGRPC ADDRESS CHAIN KEY is gRPC's health service over TLS, for anybody, until it is killed.
func serveGRPC(_ context.Context, arguments []string) error {
	if len(arguments) != 3 {
		return fmt.Errorf("wanted serve-grpc ADDRESS CHAIN KEY, got %q", arguments)
	}
	certificate, err := tls.LoadX509KeyPair(arguments[1], arguments[2])
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", arguments[0])
	if err != nil {
		return err
	}
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(config)))
	healthpb.RegisterHealthServer(server, health.NewServer())
	return server.Serve(listener)
}
