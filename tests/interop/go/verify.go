package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// question is a chain that a peer presents, leaf first, and the bundle to judge it by; DER in base64.
type question struct {
	Domain      string   `json:"domain"`
	Authorities [][]byte `json:"authorities"`
	Chain       [][]byte `json:"chain"`
}

// verify takes a question a line and says whether go-spiffe believes the peer now, and as whom.
func verify(_ context.Context, _ []string) error {
	return eachLine(func(text string) {
		peer, err := judge(text)
		if err != nil {
			say(line{Event: "refused", Error: err.Error()})
			return
		}
		say(line{Event: "verified", Peer: peer.String()})
	})
}

func judge(text string) (spiffeid.ID, error) {
	var asked question
	if err := json.Unmarshal([]byte(text), &asked); err != nil {
		return spiffeid.ID{}, fmt.Errorf("wanted a question in JSON: %w", err)
	}
	domain, err := spiffeid.TrustDomainFromString(asked.Domain)
	if err != nil {
		return spiffeid.ID{}, err
	}
	bundle := x509bundle.New(domain)
	for _, der := range asked.Authorities {
		authority, err := x509.ParseCertificate(der)
		if err != nil {
			return spiffeid.ID{}, fmt.Errorf("authority: %w", err)
		}
		bundle.AddX509Authority(authority)
	}
	peer, _, err := x509svid.ParseAndVerify(asked.Chain, bundle)
	return peer, err
}
