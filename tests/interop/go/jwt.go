package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/status"
)

// jwt answers lines "fetch AUDIENCE", "check AUDIENCE TOKEN" (here, by the bundles of the source) and "ask AUDIENCE
// TOKEN" (the Workload API judges).
func jwt(ctx context.Context, _ []string) error {
	source, err := workloadapi.NewJWTSource(ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	say(line{Event: "ready"})
	return eachLine(func(text string) {
		svid, err := answer(ctx, source, strings.Fields(text))
		if err != nil {
			say(line{Event: "refused", Code: status.Code(err).String(), Error: err.Error()})
			return
		}
		say(line{Event: "jwt", IDs: []string{svid.ID.String()}, Audience: svid.Audience, Token: svid.Marshal()})
	})
}

func answer(ctx context.Context, source *workloadapi.JWTSource, words []string) (*jwtsvid.SVID, error) {
	switch {
	case len(words) == 2 && words[0] == "fetch":
		return source.FetchJWTSVID(ctx, jwtsvid.Params{Audience: words[1]})
	case len(words) == 3 && words[0] == "check":
		return jwtsvid.ParseAndValidate(words[2], source, []string{words[1]})
	case len(words) == 3 && words[0] == "ask":
		return workloadapi.ValidateJWTSVID(ctx, words[2], words[1])
	}
	return nil, fmt.Errorf("wanted fetch, check or ask, got %q", words)
}
