#!/bin/sh
# Makes gen/ from the contract, with the plugins that go.mod pins and any protoc: the one on the PATH, or that of Python's grpcio-tools.
set -eu
cd "$(dirname "$0")"
if command -v protoc > /dev/null; then
    protoc=protoc
elif python -c 'import grpc_tools' 2> /dev/null; then
    protoc='python -m grpc_tools.protoc'
else
    echo 'neither protoc is on the PATH nor a python with grpcio-tools' >&2
    exit 1
fi
protos=../../protos
rm -rf gen
mkdir gen
$protoc --proto_path="$protos" \
    --plugin=protoc-gen-go="$(go tool -n protoc-gen-go)" --go_out=gen --go_opt=paths=source_relative \
    --plugin=protoc-gen-go-grpc="$(go tool -n protoc-gen-go-grpc)" --go-grpc_out=gen --go-grpc_opt=paths=source_relative \
    "$protos"/ordertape/v1/*.proto
