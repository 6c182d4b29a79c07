//! Generates the client's code from the contract, without a protoc binary, and the list of messages that `golden` knows.

use std::{env, fmt::Write, fs, path::Path};

use prost_types::FileDescriptorSet;

const PROTOS: &str = "../../protos";

fn main() -> anyhow::Result<()> {
    println!("cargo:rerun-if-changed={PROTOS}");
    let files = fs::read_dir(Path::new(PROTOS).join("ordertape/v1"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let descriptors = protox::compile(files, [PROTOS])?;
    let messages = message_list(&descriptors)?;
    fs::write(Path::new(&env::var("OUT_DIR")?).join("messages.rs"), messages)?;
    tonic_prost_build::configure().build_server(false).compile_fds(descriptors)?;
    Ok(())
}

/// A Rust array with an entry for each of the contract's messages.
fn message_list(descriptors: &FileDescriptorSet) -> anyhow::Result<String> {
    let mut list = String::from("[\n");
    for file in &descriptors.file {
        if file.package() != "ordertape.v1" {
            continue;
        }
        for message in &file.message_type {
            let name = message.name();
            writeln!(list, "(\"ordertape.v1.{name}\", rewrite::<v1::{name}> as Rewrite),")?;
        }
    }
    list.push(']');
    Ok(list)
}
