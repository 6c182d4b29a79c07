"""The exchange's rules, pure: no clock, socket, disk, protobuf or randomness. Time and identifiers come in as arguments."""
