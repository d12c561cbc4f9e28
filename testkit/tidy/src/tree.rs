//! The rules over the whole repository.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::documents::{check_architecture, check_links, dependencies};
use crate::finding::Finding;
use crate::rules::check_source;

/// Where sources are.
const SOURCES: &[&str] = &["crates/", "examples/", "testkit/", "bench/"];

/// What the repository at `root` breaks.
///
/// # Errors
/// If a file cannot be read.
pub fn check_tree(root: &Path) -> io::Result<Vec<Finding>> {
    let mut files = Vec::new();
    collect(root, &mut files)?;
    files.sort();
    let (mut findings, mut named) = (Vec::new(), BTreeSet::new());
    for file in files {
        let relative = file.strip_prefix(root).unwrap_or(&file);
        let path = relative.to_string_lossy().replace('\\', "/");
        if path.ends_with(".rs") && SOURCES.iter().any(|folder| path.starts_with(folder)) {
            findings.extend(check_source(&path, &fs::read_to_string(&file)?));
        } else if path.ends_with(".md") {
            findings.extend(check_links(root, &path, &fs::read_to_string(&file)?));
        } else if path.ends_with("Cargo.toml") {
            named.extend(dependencies(&fs::read_to_string(&file)?));
        }
    }
    let architecture = fs::read_to_string(root.join("ARCHITECTURE.md")).ok();
    findings.extend(check_architecture(architecture.as_deref(), &named));
    Ok(findings)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let hidden = name.to_string_lossy().starts_with('.');
        if entry.file_type()?.is_dir() {
            if !hidden && name != "target" && name != "node_modules" {
                collect(&entry.path(), files)?;
            }
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}
