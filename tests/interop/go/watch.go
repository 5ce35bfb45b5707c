package main

import (
	"context"
	"sort"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/status"
)

// watch tells each X.509 context as it comes, and each failed try.
func watch(ctx context.Context, _ []string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- workloadapi.WatchX509Context(ctx, teller{}) }()
	told := make(chan error, 1)
	go func() { told <- eachLine(func(string) {}) }()
	select {
	case err := <-ended:
		return err
	case err := <-told:
		return err
	}
}

type teller struct{}

func (teller) OnX509ContextUpdate(update *workloadapi.X509Context) {
	told := line{Event: "x509"}
	for _, svid := range update.SVIDs {
		told.IDs = append(told.IDs, svid.ID.String())
		told.Serials = append(told.Serials, svid.Certificates[0].SerialNumber.Text(16))
	}
	for _, bundle := range update.Bundles.Bundles() {
		told.Domains = append(told.Domains, bundle.TrustDomain().Name())
	}
	sort.Strings(told.Domains)
	say(told)
}

func (teller) OnX509ContextWatchError(err error) {
	say(line{Event: "error", Code: status.Code(err).String(), Error: err.Error()})
}
