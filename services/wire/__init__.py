"""The only room that knows both the contract (protobuf) and the domain: mapping, validation, errors, positions."""
