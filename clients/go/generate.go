// Package client is a client of ordertape; its programs are under cmd, and gen is made from the contract by go generate.
package client

//go:generate ./generate.sh
