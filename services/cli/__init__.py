"""The `ordertape` command. It reaches the services through gRPC only, and starts them as processes where it needs its own."""
