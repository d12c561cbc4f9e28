//! An authority of one's own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use everfold_engine::Text;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::UnixTime;

use super::AuthorityError;
use super::files::{self, AUTHORITY, CERTIFICATE, KEY};
use super::identity::cluster_id;
use super::name::{self, Kind, PeerName, any_node_of, authority_of};

/// Signs certificates for one cluster. Its key lies in a file: whoever reads it can join the cluster,
/// so it belongs on no node.
pub struct Authority {
    name: Text,
    cluster: Text,
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key and its authority, in PEM form.
pub struct Issued {
    /// Whom it is for.
    pub name: PeerName,
    /// The authority's certificate.
    pub authority: String,
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// Where the authority lies in the folder of a cluster.
const FOLDER: &str = "authority";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// An authority outlives what it signs.
const AUTHORITY_DAYS: u32 = 20 * 365;
const DAYS: u32 = 10 * 365;

impl Authority {
    /// Makes an authority for a cluster of this name, in `folder/authority`.
    ///
    /// # Errors
    /// The name does not fit, there is an authority already, or the folder cannot be written.
    pub fn create(folder: &Path, cluster: &str) -> Result<Self, AuthorityError> {
        let cluster = name::check_name(cluster)?;
        let key = KeyPair::generate().map_err(cryptography)?;
        let params = params(&cluster, &key)?;
        let certificate = params.self_signed(&key).map_err(cryptography)?;
        let text = certificate.pem();
        let files = [(CERTIFICATE, &*text), (KEY, &key.serialize_pem())];
        files::write_folder(&folder.join(FOLDER), &files)?;
        Ok(Self {
            cluster: cluster_id(&cluster, certificate.der()),
            name: cluster,
            certificate: text,
            issuer: Issuer::new(params, key),
        })
    }

    /// The authority in `folder/authority`.
    ///
    /// # Errors
    /// A file is missing or holds something else, or the key is not the certificate's.
    pub fn load(folder: &Path) -> Result<Self, AuthorityError> {
        let folder = folder.join(FOLDER);
        let (at, key_at) = (folder.join(CERTIFICATE), folder.join(KEY));
        let found = files::certificates(&at)?;
        let (_, text) = files::key(&key_at)?;
        let key = KeyPair::from_pem(&text).map_err(cryptography)?;
        let cluster = name::cluster_of_authority(&found[0])
            .ok_or_else(|| AuthorityError::Nameless { path: at.clone() })?;
        let params = params(&cluster, &key)?;
        // What this key would sign must carry the name that the certificate has.
        if !signs(&found[0], &params, &key)? {
            return Err(AuthorityError::ForeignKey {
                key: key_at,
                certificate: at,
            });
        }
        let certificate = std::fs::read_to_string(&at).map_err(files::failed(&at))?;
        Ok(Self {
            cluster: cluster_id(&cluster, &found[0]),
            name: cluster,
            certificate,
            issuer: Issuer::new(params, key),
        })
    }

    /// Whether `folder` has an authority.
    pub fn exists(folder: &Path) -> bool {
        folder.join(FOLDER).exists()
    }

    /// The cluster's name.
    pub fn name(&self) -> &Text {
        &self.name
    }

    /// The cluster's name and the fingerprint of this authority, as [`super::Identity::cluster`].
    pub fn cluster(&self) -> &Text {
        &self.cluster
    }

    /// A new key, and a certificate for it. `addresses` are host names and IP addresses under which
    /// programs other than Everfold may want to know a node; peers do not look at them.
    ///
    /// # Errors
    /// The name or an address does not fit into a certificate.
    pub fn issue(
        &self,
        name: &str,
        addresses: &[String],
        kind: Kind,
    ) -> Result<Issued, AuthorityError> {
        let issued = PeerName {
            kind,
            name: name::check_name(name)?,
            cluster: self.name.clone(),
        };
        let mut names = vec![issued.in_certificate()];
        if kind == Kind::Node {
            names.push(any_node_of(&self.name));
        }
        for address in addresses {
            names.push(name::check_address(address)?.to_string());
        }
        let mut params = CertificateParams::new(names).map_err(cryptography)?;
        params.distinguished_name = common_name(&issued.to_string());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if kind == Kind::Node {
            params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        valid_for(&mut params, DAYS);
        let key = KeyPair::generate().map_err(cryptography)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(cryptography)?;
        Ok(Issued {
            name: issued,
            authority: self.certificate.clone(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

impl Issued {
    /// Writes the three files into a new folder that only its owner can enter; the key can be read by
    /// nobody else. Returns where the certificate is.
    ///
    /// # Errors
    /// The folder exists, or cannot be made.
    pub fn write(&self, folder: &Path) -> Result<PathBuf, AuthorityError> {
        let files = [
            (AUTHORITY, &*self.authority),
            (CERTIFICATE, &self.certificate),
            (KEY, &self.key),
        ];
        files::write_folder(folder, &files)?;
        Ok(folder.join(CERTIFICATE))
    }
}

/// What an authority's certificate says; the same for the same key, whenever it is made.
fn params(cluster: &str, key: &KeyPair) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::new([authority_of(cluster)]).map_err(cryptography)?;
    // Authorities of one name differ in theirs, so that a stranger is told from a forgery.
    let print = data_encoding::HEXLOWER.encode(&params.key_identifier(key));
    params.distinguished_name = common_name(&format!("authority of {cluster} {print}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut params, AUTHORITY_DAYS);
    Ok(params)
}

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

fn valid_for(params: &mut CertificateParams, days: u32) {
    let now = date_time_ymd(1970, 1, 1) + Duration::from_secs(UnixTime::now().as_secs());
    // Clocks of other machines may be behind.
    params.not_before = now - DAY;
    params.not_after = now + DAY * days;
}

/// Whether a certificate has the subject that this key's authority has.
fn signs(
    certificate: &CertificateDer<'_>,
    params: &CertificateParams,
    key: &KeyPair,
) -> Result<bool, AuthorityError> {
    let ours = params.self_signed(key).map_err(cryptography)?;
    let anchor = |der: &CertificateDer<'_>| {
        let anchor = webpki::anchor_from_trusted_cert(der).map(|anchor| anchor.to_owned());
        anchor.map_err(|error| AuthorityError::Cryptography(error.to_string().into()))
    };
    let (stored, ours) = (anchor(certificate)?, anchor(ours.der())?);
    Ok(stored.subject == ours.subject
        && stored.subject_public_key_info == ours.subject_public_key_info)
}

fn cryptography(error: rcgen::Error) -> AuthorityError {
    AuthorityError::Cryptography(error.to_string().into())
}
