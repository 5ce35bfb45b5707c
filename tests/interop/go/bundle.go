package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/federation"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// fetchBundle TRUST-DOMAIN URL spiffe ID BUNDLE, or TRUST-DOMAIN URL web ROOTS, fetches a bundle from its endpoint and
// says its document. BUNDLE is a SPIFFE document that authenticates the endpoint, ROOTS has CAs in PEM.
func fetchBundle(ctx context.Context, arguments []string) error {
	if len(arguments) < 4 {
		return fmt.Errorf("wanted fetch-bundle TRUST-DOMAIN URL spiffe ID BUNDLE, or web ROOTS, got %q", arguments)
	}
	td, err := spiffeid.TrustDomainFromString(arguments[0])
	if err != nil {
		return err
	}
	option, err := authentication(arguments[2:])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	bundle, err := federation.FetchBundle(ctx, td, arguments[1], option)
	if err != nil {
		say(line{Event: "refused", Error: err.Error()})
		return nil
	}
	document, err := bundle.Marshal()
	if err != nil {
		return err
	}
	say(line{Event: "bundle", Text: string(document)})
	return nil
}

func authentication(arguments []string) (federation.FetchOption, error) {
	if arguments[0] == "web" {
		pem, err := os.ReadFile(arguments[1])
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		return federation.WithWebPKIRoots(pool), nil
	}
	if len(arguments) != 3 {
		return nil, fmt.Errorf("wanted spiffe ID BUNDLE, got %q", arguments)
	}
	id, err := spiffeid.FromString(arguments[1])
	if err != nil {
		return nil, err
	}
	bundle, err := spiffebundle.Load(id.TrustDomain(), arguments[2])
	if err != nil {
		return nil, err
	}
	return federation.WithSPIFFEAuth(bundle, id), nil
}

// serveBundle TRUST-DOMAIN BUNDLE CHAIN KEY serves this SPIFFE document on a free port of 127.0.0.1, with an X509-SVID
// of PEM files, until standard input ends.
func serveBundle(_ context.Context, arguments []string) error {
	if len(arguments) != 4 {
		return fmt.Errorf("wanted serve-bundle TRUST-DOMAIN BUNDLE CHAIN KEY, got %q", arguments)
	}
	td, err := spiffeid.TrustDomainFromString(arguments[0])
	if err != nil {
		return err
	}
	bundle, err := spiffebundle.Load(td, arguments[1])
	if err != nil {
		return err
	}
	svid, err := x509svid.Load(arguments[2], arguments[3])
	if err != nil {
		return err
	}
	handler, err := federation.NewHandler(td, bundle)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := http.Server{
		Handler:           handler,
		TLSConfig:         tlsconfig.TLSServerConfig(svid),
		ReadHeaderTimeout: 10 * time.Second,
	}
	say(line{Event: "listening", Address: listener.Addr().String()})
	go func() { _ = server.ServeTLS(listener, "", "") }()
	return eachLine(func(string) {})
}
