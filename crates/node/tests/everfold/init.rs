//! `everfold init`: authorities and certificates.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use everfold_cluster::{Identity, Kind};
use serde_json::{Value, json};

use crate::running::{Place, answer, refused, run};

fn made(answer: &Value) -> Vec<(&str, bool)> {
    let identities = answer["identities"].as_array().unwrap().iter();
    identities
        .map(|one| (one["name"].as_str().unwrap(), one["made"] == true))
        .collect()
}

#[test]
fn an_authority_and_certificates_are_made_and_nothing_is_overwritten() {
    let place = Place::new();
    let dir = place.text("new/everfold.d");
    let init = |more: &[&str]| answer(&[&["init", "--json", "--dir", &dir], more].concat());
    let first = init(&["--cluster", "orders"]);
    assert_eq!(first["authority"]["made"], true);
    let all = ["node-1", "node-2", "node-3", "console"];
    assert_eq!(made(&first), all.map(|name| (name, true)));
    let cluster = first["cluster"].as_str().unwrap();
    assert!(cluster.starts_with("orders@"), "{cluster}");
    for one in first["identities"].as_array().unwrap() {
        let folder = one["folder"].as_str().unwrap();
        let identity = Identity::from_folder(folder.as_ref()).unwrap();
        let is_node = identity.name().kind == Kind::Node;
        assert_eq!(one["kind"], if is_node { "node" } else { "client" });
        assert_eq!(
            (&*identity.name().name, &**identity.cluster()),
            (one["name"].as_str().unwrap(), cluster)
        );
        let mode = |path: String| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode(folder.to_owned()), mode(format!("{folder}/key.pem"))),
            (0o700, 0o600)
        );
    }

    let kept = |name: &str| fs::read(place.path(&format!("new/everfold.d/{name}"))).unwrap();
    let before = ["node-1/key.pem", "authority/key.pem"].map(kept);
    let second = init(&["--nodes", "node-1,node-4", "--address", "10.0.0.4"]);
    assert_eq!(second["authority"]["made"], false);
    assert_eq!(second["cluster"], cluster);
    assert_eq!(
        made(&second),
        [("node-1", false), ("node-4", true), ("console", false)]
    );
    assert_eq!(before, ["node-1/key.pem", "authority/key.pem"].map(kept));
    let added = Identity::from_folder(&place.path("new/everfold.d/node-4")).unwrap();
    assert_eq!(&**added.cluster(), cluster);
}

#[test]
fn the_next_step_is_said() {
    let place = Place::new();
    let output = run(&["init", "--dir", &place.text("d")]);
    assert!(output.status.success());
    let (data, words) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert_eq!(data.lines().count(), 5, "{data}");
    assert!(data.starts_with("made  authority of everfold@"), "{data}");
    let node = place.text("d/node-1");
    assert!(
        words.contains("everfold serve --engine") && words.contains(&format!("--identity {node}")),
        "{words}"
    );
}

#[test]
fn what_does_not_fit_is_refused() {
    let place = Place::new();
    let dir = place.text("d");
    let say = |code, more: &[&str]| refused(&[&["init", "--dir", &dir], more].concat(), code);
    assert!(say(2, &["--nodes", "Node_1"]).contains("lower-case"));
    assert!(say(2, &["--address", "not a host"]).contains("host name"));
    assert!(say(3, &["--nodes", "a,b", "--clients", "b"]).contains("taken"));
    assert!(say(3, &["--nodes", "authority"]).contains("taken"));
    assert!(
        !place.path("d").exists(),
        "nothing is made of what is refused"
    );

    answer(&["init", "--json", "--dir", &dir, "--cluster", "orders"]);
    assert!(say(3, &["--cluster", "billing"]).contains("of the cluster orders, not of billing"));
    // A certificate of a client where a node is asked for; one of another authority; a damaged one.
    assert!(
        say(3, &["--nodes", "console", "--clients", "other"]).contains("client console of orders")
    );
    let other = place.text("other");
    assert_eq!(
        answer(&["init", "--json", "--dir", &other])["authority"]["made"],
        json!(true)
    );
    let copy = |from: &str, to: &str| fs::copy(place.path(from), place.path(to)).unwrap();
    copy("other/node-1/authority.pem", "d/node-1/authority.pem");
    assert!(say(3, &[]).contains("not issued by the authority"));
    fs::remove_dir_all(place.path("d/node-1")).unwrap();
    assert!(run(&["init", "--dir", &dir]).status.success());
    copy("other/authority/key.pem", "d/authority/key.pem");
    assert!(say(3, &["--nodes", "node-9"]).contains("does not belong"));
    assert!(!place.path("d/node-9").exists());
}
