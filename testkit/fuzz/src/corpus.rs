//! Inputs that are kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::outcome;

/// Where the inputs of a target lie.
pub fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target)
}

/// The inputs of a target, in order of name; none if it has no folder.
///
/// # Errors
/// What the system says.
pub fn load(target: &str) -> io::Result<Vec<(String, Vec<u8>)>> {
    let folder = folder(target);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut inputs = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        inputs.push((name, fs::read(entry.path())?));
    }
    inputs.sort();
    Ok(inputs)
}

/// Keeps an input in a folder under a name made of its bytes.
///
/// # Errors
/// What the system says.
pub fn save(folder: &Path, input: &[u8]) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let path = folder.join(format!("{:016x}", outcome(input)));
    fs::write(&path, input)?;
    Ok(path)
}
