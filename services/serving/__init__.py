"""The gRPC shell that both services share: limits, errors, health, reflection, drain, signals, logs. It knows no service."""
