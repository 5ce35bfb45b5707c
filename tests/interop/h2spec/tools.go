//go:build tools

// Package h2spec keeps the program in the module's requirements.
package h2spec

import _ "github.com/summerwind/h2spec/cmd/h2spec"
