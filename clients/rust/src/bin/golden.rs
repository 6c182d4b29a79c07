//! Reads each message of a folder and writes it again, so that its bytes can be compared with those of other languages:
//! `golden IN_DIR OUT_DIR`, where the files are called `full.message.Name--case.bin`. prost has no JSON, so it leaves `.json` alone.

use std::{env, fs, path::Path};

use anyhow::{Context, Result, bail};
use ordertape_client::v1;
use prost::{DecodeError, Message};

type Rewrite = fn(&[u8]) -> Result<Vec<u8>, DecodeError>;

/// Every message of the contract by its full name; made by build.rs.
const MESSAGES: &[(&str, Rewrite)] = &include!(concat!(env!("OUT_DIR"), "/messages.rs"));

fn rewrite<M: Message + Default>(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    Ok(M::decode(bytes)?.encode_to_vec())
}

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let [input, output] = arguments.as_slice() else {
        bail!("usage: golden IN_DIR OUT_DIR");
    };
    for entry in fs::read_dir(input)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "bin") {
            rewrite_file(&path, output.as_ref()).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

fn rewrite_file(path: &Path, output: &Path) -> Result<()> {
    let file_name = path.file_name().context("no file name")?;
    let name = file_name.to_str().and_then(|name| name.split_once("--"));
    let (name, _) = name.context("not called full.message.Name--case.bin")?;
    let (_, rewrite) =
        MESSAGES.iter().find(|(known, _)| *known == name).with_context(|| format!("no message {name}"))?;
    fs::write(output.join(file_name), rewrite(&fs::read(path)?)?)?;
    Ok(())
}
