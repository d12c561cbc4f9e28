//! Certificates and keys that fit, and those that do not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use everfold_cluster::{Authority, AuthorityError, Identity, Kind, PeerName};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::pki_types::UnixTime;
use tempfile::TempDir;

use crate::world::Cluster;

/// An authority that was not made by us, and signs whatever it is asked to.
pub(crate) struct Pki {
    folder: TempDir,
    authority: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "An organisation");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self {
            folder: tempfile::tempdir().unwrap(),
            authority: params.self_signed(&key).unwrap().pem(),
            issuer: Issuer::new(params, key),
        }
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn identity(&self, name: &str, serves: bool) -> Identity {
        let wanted = self.signed(name, serves, |_| {});
        Identity::from_folder(&wanted).unwrap()
    }

    /// A folder with a certificate for a name such as `node-1.nodes.orders`.
    fn signed(
        &self,
        name: &str,
        serves: bool,
        change: impl FnOnce(&mut CertificateParams),
    ) -> PathBuf {
        let mut names = vec![format!("{name}.everfold")];
        let mut usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if serves {
            let (_, of_cluster) = name.split_once('.').unwrap();
            names.push(format!("{of_cluster}.everfold"));
            usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = usages;
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let folder = self.folder(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("authority.pem"), &self.authority).unwrap();
        fs::write(folder.join("certificate.pem"), certificate.pem()).unwrap();
        fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
        folder
    }
}

fn refused(folder: &Path) -> AuthorityError {
    Identity::from_folder(folder).err().unwrap()
}

#[test]
fn an_authority_is_made_once_and_goes_on() {
    let cluster = Cluster::new("orders");
    let folder = cluster.folder.path();
    let again = Authority::create(folder, "orders").err().unwrap();
    assert!(matches!(again, AuthorityError::Exists(_)), "{again}");
    let loaded = Authority::load(folder).unwrap();
    assert_eq!(loaded.name(), "orders");
    assert_eq!(loaded.cluster(), cluster.authority.cluster());
    let node = cluster.node();
    let later = crate::world::identity(&loaded, &folder.join("later"), "later", Kind::Client);
    assert_eq!(later.cluster(), node.cluster());
    let name = PeerName {
        kind: Kind::Client,
        name: "later".into(),
        cluster: "orders".into(),
    };
    assert_eq!(later.name(), &name);
    let (name, print) = node.cluster().split_once('@').unwrap();
    assert_eq!((name, print.len()), ("orders", 16));

    let mode = |path: &str| {
        fs::metadata(folder.join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode("authority"), 0o700);
    assert_eq!(mode("authority/key.pem"), 0o600);
    assert_eq!(mode("node-1"), 0o700);
    assert_eq!(mode("node-1/key.pem"), 0o600);
}

#[test]
fn an_authority_whose_files_do_not_fit_is_refused() {
    let (one, two) = (Cluster::new("orders"), Cluster::new("orders"));
    let key = |cluster: &Cluster| cluster.folder.path().join("authority/key.pem");
    fs::copy(key(&two), key(&one)).unwrap();
    let error = Authority::load(one.folder.path()).err().unwrap();
    assert!(
        matches!(error, AuthorityError::ForeignKey { .. }),
        "{error}"
    );
    fs::remove_file(key(&one)).unwrap();
    let error = Authority::load(one.folder.path()).err().unwrap();
    assert!(matches!(error, AuthorityError::Missing(_)), "{error}");
}

#[test]
fn names_and_addresses_are_those_that_fit() {
    let cluster = Cluster::new("orders");
    let issue = |name: &str| cluster.authority.issue(name, &[], Kind::Node);
    let long = "x".repeat(63);
    for name in ["a", "node-1", "1", &long] {
        assert!(issue(name).is_ok(), "{name}");
    }
    let longer = "x".repeat(64);
    for name in ["", "Node", "a.b", "-a", "a-", "a b", "ä", &longer] {
        let error = issue(name).err().unwrap();
        assert!(matches!(error, AuthorityError::Name(_)), "{name}: {error}");
    }
    let at = |address: &str| {
        cluster
            .authority
            .issue("a", &[address.to_owned()], Kind::Node)
    };
    for address in ["10.0.0.1", "::1", "db.example.org"] {
        assert!(at(address).is_ok(), "{address}");
    }
    let error = at("not a host").err().unwrap();
    assert!(matches!(error, AuthorityError::Address(_)), "{error}");
}

#[test]
fn files_that_do_not_fit_are_told_apart() {
    let cluster = Cluster::new("orders");
    let (one, two) = (
        cluster.folder.path().join("one"),
        cluster.folder.path().join("two"),
    );
    for folder in [&one, &two] {
        cluster.identity(folder.file_name().unwrap().to_str().unwrap(), Kind::Node);
    }
    let put = |name: &str, from: &Path| fs::copy(from, one.join(name)).unwrap();

    put("key.pem", &two.join("key.pem"));
    let error = refused(&one);
    assert!(
        matches!(error, AuthorityError::ForeignKey { .. }),
        "{error}"
    );

    put("key.pem", &two.join("certificate.pem"));
    let error = refused(&one);
    assert!(matches!(error, AuthorityError::NoKey { .. }), "{error}");

    put("certificate.pem", &two.join("key.pem"));
    let error = refused(&one);
    assert!(
        matches!(error, AuthorityError::NoCertificate { .. }),
        "{error}"
    );

    fs::remove_file(one.join("certificate.pem")).unwrap();
    let error = refused(&one);
    assert!(matches!(error, AuthorityError::Missing(_)), "{error}");
    assert!(error.to_string().contains("everfold init"), "{error}");

    let other = Cluster::new("orders");
    fs::copy(
        other.folder.path().join("authority/certificate.pem"),
        two.join("authority.pem"),
    )
    .unwrap();
    let error = refused(&two);
    assert!(
        matches!(error, AuthorityError::OtherAuthority { .. }),
        "{error}"
    );
}

#[test]
fn what_peers_would_refuse_is_refused_here() {
    let pki = Pki::new();
    let today = date_time_ymd(1970, 1, 1) + Duration::from_secs(UnixTime::now().as_secs());
    let day = Duration::from_secs(24 * 3600);
    let expired = pki.signed("node-1.nodes.orders", true, |params| {
        params.not_after = today - day;
    });
    let error = refused(&expired);
    assert!(matches!(error, AuthorityError::Expired { .. }), "{error}");
    assert!(error.to_string().contains("set the clock"), "{error}");
    let early = pki.signed("node-2.nodes.orders", true, |params| {
        params.not_before = today + day;
    });
    let error = refused(&early);
    assert!(
        matches!(error, AuthorityError::NotYetValid { .. }),
        "{error}"
    );
    for name in ["www.example.org", "node-1.servers.orders"] {
        let nameless = pki.signed(name, true, |_| {});
        let error = refused(&nameless);
        assert!(
            matches!(error, AuthorityError::Nameless { .. }),
            "{name}: {error}"
        );
    }
    // A name for a node in a certificate that stands for no server.
    let error = refused(&pki.signed("node-3.nodes.orders", false, |_| {}));
    assert!(matches!(error, AuthorityError::Unusable { .. }), "{error}");
    // Several names: nobody could say which one it is.
    let error = refused(&pki.signed("node-4.nodes.orders", true, |params| {
        let second = "node-5.nodes.orders.everfold".to_owned();
        let second = rcgen::SanType::DnsName(second.try_into().unwrap());
        params.subject_alt_names.push(second);
    }));
    assert!(matches!(error, AuthorityError::Nameless { .. }), "{error}");
}
