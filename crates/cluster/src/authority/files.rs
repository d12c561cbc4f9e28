//! Certificates and keys as files in PEM form.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::AuthorityError;

/// Names of files in the folder of a node, a client or the authority.
pub(super) const AUTHORITY: &str = "authority.pem";
pub(super) const CERTIFICATE: &str = "certificate.pem";
pub(super) const KEY: &str = "key.pem";

pub(super) fn failed(path: &Path) -> impl Fn(io::Error) -> AuthorityError {
    move |error| match error.kind() {
        ErrorKind::NotFound => AuthorityError::Missing(path.into()),
        _ => AuthorityError::File {
            path: path.into(),
            reason: error.to_string().into(),
        },
    }
}

/// All certificates of a file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    let text = fs::read(path).map_err(failed(path))?;
    let none = |reason: String| AuthorityError::NoCertificate {
        path: path.into(),
        reason: reason.into(),
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| none(error.to_string()))?;
    if found.is_empty() {
        return Err(none(pem::Error::NoItemsFound.to_string()));
    }
    Ok(found)
}

/// The private key of a file, also as text.
pub(super) fn key(path: &Path) -> Result<(PrivateKeyDer<'static>, String), AuthorityError> {
    let text = fs::read_to_string(path).map_err(failed(path))?;
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes());
    let key = key.map_err(|error| AuthorityError::NoKey {
        path: path.into(),
        reason: error.to_string().into(),
    })?;
    Ok((key, text))
}

/// Makes a folder with these files, all or none: the folder gets its name when everything is in it.
pub(super) fn write_folder(folder: &Path, files: &[(&str, &str)]) -> Result<(), AuthorityError> {
    if folder.exists() {
        return Err(AuthorityError::Exists(folder.into()));
    }
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = folder.with_file_name(format!(".{name}.unfinished"));
    if let Err(error) = fs::remove_dir_all(&unfinished)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(failed(&unfinished)(error));
    }
    let mut builder = DirBuilder::new();
    let created = builder.recursive(true).mode(0o700).create(&unfinished);
    created.map_err(failed(&unfinished))?;
    for (name, text) in files {
        let path = unfinished.join(name);
        let mode = if *name == KEY { 0o600 } else { 0o644 };
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path);
        opened
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()
            })
            .map_err(failed(&path))?;
    }
    fs::rename(&unfinished, folder).map_err(failed(folder))
}
