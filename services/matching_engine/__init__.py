"""The engine service: orders come in over gRPC, are matched, written to the durable ledger and published over ZMQ."""
