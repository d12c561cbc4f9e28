//! Why there is no identity to go on with.

use std::path::PathBuf;

use everfold_engine::{Text, Timestamp};

/// What is wrong with an authority, a certificate or a key.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file is not there.
    #[error(
        "{} does not exist; `everfold init` makes an authority and certificates, or name the folder \
         that has them", .0.display()
    )]
    Missing(PathBuf),
    /// A file or folder cannot be read or written.
    #[error("{}: {reason}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        reason: Text,
    },
    /// Something is there that would be overwritten.
    #[error("{} exists and is never overwritten; use it, or name another folder", .0.display())]
    Exists(PathBuf),
    /// The file holds no certificate.
    #[error("{} holds no certificate in PEM form ({reason}); name the right file", .path.display())]
    NoCertificate {
        /// Which.
        path: PathBuf,
        /// What was found instead.
        reason: Text,
    },
    /// The file holds no private key.
    #[error("{} holds no private key in PEM form ({reason}); name the right file", .path.display())]
    NoKey {
        /// Which.
        path: PathBuf,
        /// What was found instead.
        reason: Text,
    },
    /// The key is not the certificate's.
    #[error(
        "the key in {} does not belong to the certificate in {}; copy both again from where they \
         were made", .key.display(), .certificate.display()
    )]
    ForeignKey {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// The certificate's time is over.
    #[error(
        "the certificate in {} expired at {until}, and it is {now} by this machine's clock; issue a \
         new one with `everfold init`, or set the clock", .path.display()
    )]
    Expired {
        /// The certificate's file.
        path: PathBuf,
        /// When it did.
        until: Timestamp,
        /// This machine's clock.
        now: Timestamp,
    },
    /// The certificate's time has not come.
    #[error(
        "the certificate in {} is valid from {from}, and it is {now} by this machine's clock; set \
         the clock", .path.display()
    )]
    NotYetValid {
        /// The certificate's file.
        path: PathBuf,
        /// When it will be.
        from: Timestamp,
        /// This machine's clock.
        now: Timestamp,
    },
    /// The certificate was not signed by the given authority.
    #[error(
        "the certificate in {} was not issued by the authority in {}; take both from one folder of \
         `everfold init`", .certificate.display(), .authority.display()
    )]
    OtherAuthority {
        /// The certificate's file.
        certificate: PathBuf,
        /// The authority's file.
        authority: PathBuf,
    },
    /// A node needs a certificate for nodes, and this is one for clients.
    #[error(
        "the certificate in {} is for the client {name}, which may call nodes but be none; issue one \
         with `everfold init --nodes {name}`", .path.display()
    )]
    Client {
        /// The certificate's file.
        path: PathBuf,
        /// Whose it is.
        name: Text,
    },
    /// The certificate does not say who it is for.
    #[error(
        "the certificate in {} carries no name such as node-1.nodes.CLUSTER.everfold; use one of \
         `everfold init`, or have your authority add it as a subject alternative name",
        .path.display()
    )]
    Nameless {
        /// The certificate's file.
        path: PathBuf,
    },
    /// The certificate cannot be used, for another reason.
    #[error("the certificate in {} cannot be used: {reason}", .path.display())]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        reason: Text,
    },
    /// A name that no certificate can carry.
    #[error(
        "{0:?} is no name for a cluster, node or client: take lower-case letters, digits and hyphens, \
         at most 63, with a letter or digit at both ends"
    )]
    Name(Text),
    /// An address that no certificate can carry.
    #[error("{0:?} is neither an IP address nor a host name")]
    Address(Text),
    /// The authority is that of another cluster.
    #[error(
        "{} holds the authority of the cluster {found}, not of {wanted}; leave out the name, or name \
         another folder", .path.display()
    )]
    OtherCluster {
        /// The folder.
        path: PathBuf,
        /// Whose authority it is.
        found: Text,
        /// What was asked for.
        wanted: Text,
    },
    /// Keys could not be made.
    #[error("no key could be made or used: {0}")]
    Cryptography(Text),
}
