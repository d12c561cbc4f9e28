//! `everfold init`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use everfold_cluster::authority::{check_address, check_name};
use everfold_cluster::{Authority, AuthorityError, Identity, Kind};
use serde_json::json;

use crate::failure::refused;
use crate::output::{self, say};

/// Makes an authority for a cluster, and certificates by which its nodes and clients know each other.
///
/// Nothing is ever overwritten: repeated with further names, it issues certificates for those by the
/// same authority. Each node and client gets a folder of its own, which is all that its machine needs.
#[derive(clap::Args)]
pub struct Arguments {
    /// Directory for all of it
    #[arg(long, value_name = "DIR", default_value = "everfold.d")]
    dir: PathBuf,
    /// Name of the cluster [default: everfold, or the one that the directory has]
    #[arg(long, value_name = "NAME", value_parser = name)]
    cluster: Option<String>,
    /// Names of nodes
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = name,
          default_value = "node-1,node-2,node-3")]
    nodes: Vec<String>,
    /// Names of clients: what may call nodes and is none
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = name,
          default_value = "console")]
    clients: Vec<String>,
    /// Host names and IP addresses of the nodes, for programs that look at them; nodes and clients
    /// know each other by their names alone
    #[arg(long, value_name = "HOST", value_delimiter = ',', value_parser = address,
          default_value = "localhost,127.0.0.1,::1")]
    address: Vec<String>,
    /// Print what was made as one JSON object
    #[arg(long)]
    json: bool,
}

const CLUSTER: &str = "everfold";
/// Where the authority lies, so nobody else can.
const AUTHORITY: &str = "authority";

fn name(text: &str) -> Result<String, AuthorityError> {
    check_name(text).map(|name| name.to_string())
}

fn address(text: &str) -> Result<String, AuthorityError> {
    check_address(text).map(|address| address.to_string())
}

struct Wanted {
    name: String,
    kind: Kind,
    folder: PathBuf,
    /// It was here already.
    kept: bool,
}

/// Runs it.
///
/// # Errors
/// What is there does not fit, or see the messages.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let dir = &arguments.dir;
    let mut wanted = wanted(&arguments)?;
    let had = Authority::exists(dir);
    let authority = authority(dir, arguments.cluster.as_deref())?;
    for one in &mut wanted {
        one.kept = one.folder.exists();
        if one.kept {
            keep(one, &authority)?;
        }
    }
    for one in wanted.iter().filter(|one| !one.kept) {
        let addresses = match one.kind {
            Kind::Node => &*arguments.address,
            Kind::Client => &[],
        };
        let issued = authority.issue(&one.name, addresses, one.kind)?;
        issued.write(&one.folder)?;
    }
    if arguments.json {
        output::json(&shown(dir, &authority, had, &wanted))?;
    } else {
        let made = |kept| if kept { "kept" } else { "made" };
        let at = dir.join(AUTHORITY);
        let cluster = authority.cluster();
        output::line(&format!(
            "{}  authority of {cluster}  {}",
            made(had),
            at.display()
        ))?;
        for one in &wanted {
            let (kind, folder) = (word(one.kind), one.folder.display());
            output::line(&format!(
                "{}  {kind} {}  {folder}",
                made(one.kept),
                one.name
            ))?;
        }
    }
    if let Some(node) = wanted.iter().find(|one| one.kind == Kind::Node) {
        say(&format!(
            "next, on each machine with its own folder:\n  everfold serve --engine \
             postgres://USER@HOST/DATABASE --listen HOST:PORT --identity {}\nwhoever reads {} can \
             join the cluster: keep it where no node runs",
            node.folder.display(),
            dir.join(AUTHORITY).display()
        ));
    }
    Ok(())
}

fn wanted(arguments: &Arguments) -> anyhow::Result<Vec<Wanted>> {
    let of = |names: &[String], kind| {
        let one = |name: &String| Wanted {
            name: name.clone(),
            kind,
            folder: arguments.dir.join(name),
            kept: false,
        };
        names.iter().map(one).collect::<Vec<_>>()
    };
    let mut all = of(&arguments.nodes, Kind::Node);
    all.extend(of(&arguments.clients, Kind::Client));
    let mut names = BTreeSet::from([AUTHORITY]);
    for one in &all {
        if !names.insert(&one.name) {
            return Err(refused(format!(
                "the name {} is taken: nodes, clients and the authority have folders of their names; \
                 choose another",
                one.name
            )));
        }
    }
    Ok(all)
}

fn authority(dir: &Path, cluster: Option<&str>) -> Result<Authority, AuthorityError> {
    if !Authority::exists(dir) {
        return Authority::create(dir, cluster.unwrap_or(CLUSTER));
    }
    let found = Authority::load(dir)?;
    match cluster {
        Some(wanted) if *wanted != **found.name() => Err(AuthorityError::OtherCluster {
            path: dir.into(),
            found: found.name().clone(),
            wanted: wanted.into(),
        }),
        _ => Ok(found),
    }
}

/// What is there already must be what would be made.
fn keep(one: &Wanted, authority: &Authority) -> anyhow::Result<()> {
    let folder = one.folder.display();
    let instead = "nothing is overwritten: remove the folder and repeat, or choose another name";
    let found = Identity::from_folder(&one.folder)
        .map_err(|error| refused(format!("{folder} cannot be kept: {error}; {instead}")))?;
    let name = found.name();
    if found.cluster() != authority.cluster() || name.kind != one.kind || name.name != one.name {
        return Err(refused(format!(
            "{folder} holds a certificate for the {name}, of {}; {instead}",
            found.cluster()
        )));
    }
    Ok(())
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Node => "node",
        Kind::Client => "client",
    }
}

fn shown(dir: &Path, authority: &Authority, had: bool, wanted: &[Wanted]) -> serde_json::Value {
    let identities = wanted.iter().map(|one| {
        json!({
            "name": one.name,
            "kind": word(one.kind),
            "folder": one.folder,
            "made": !one.kept,
        })
    });
    json!({
        "cluster": &**authority.cluster(),
        "authority": { "folder": dir.join(AUTHORITY), "made": !had },
        "identities": identities.collect::<Vec<_>>(),
    })
}
