//! The contract's generated code, and a watch that outlives restarts.

/// All that `protos/ordertape/v1` says.
pub mod v1 {
    tonic::include_proto!("ordertape.v1");
}
pub mod watch;
