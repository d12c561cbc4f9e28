//! Guarantee: connections are encrypted where the server offers it, and verified where that is asked.

use std::path::Path;

use everfold_engine::world::System;
use everfold_postgres::{OpenError, Options, Postgres};

use crate::servers::{Server, outsider, run};

/// A certificate for this machine, by openssl.
fn certificate(directory: &Path, name: &str, constraints: &str) -> (String, String) {
    let path = |ending: &str| directory.join(format!("{name}.{ending}"));
    let (certificate, key) = (path("crt"), path("key"));
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    run(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1,DNS:localhost",
            "-addext",
            constraints,
            "-keyout",
            key,
            "-out",
            certificate,
        ],
    );
    (certificate.to_owned(), key.to_owned())
}

async fn opened(address: &str) -> Result<bool, OpenError> {
    let log = Postgres::open(address, System::current(), Options::default()).await?;
    let session = log.session().await.unwrap();
    let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    Ok(session.query_one(sql, &[]).await.unwrap().get(0))
}

/// The server heeds it soon.
async fn set_ssl(server: &Server, on: bool) {
    let admin = outsider(&server.database()).await;
    let set = format!("alter system set ssl = {on}");
    for sql in [set.as_str(), "select pg_reload_conf()"] {
        admin.batch_execute(sql).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_encrypted_and_verified_as_asked() {
    let server = Server::own(&[]);
    for constraints in [
        "basicConstraints=critical,CA:FALSE",
        "basicConstraints=critical,CA:TRUE",
    ] {
        let place = server.directory.path();
        let (right, key) = certificate(place, "right", constraints);
        let (wrong, _) = certificate(place, "wrong", constraints);
        let address = |more: &str| format!("{}?schema=orders{more}", server.database());
        set_ssl(&server, false).await;
        while opened(&address("")).await.unwrap() {}
        assert!(opened(&address("&sslmode=require")).await.is_err());

        let data = place.join("server/data");
        let like = format!("--reference={}", data.join("PG_VERSION").display());
        for (file, name) in [(&right, "server.crt"), (&key, "server.key")] {
            let to = data.join(name);
            std::fs::copy(file, &to).unwrap();
            run("chmod", &["600", to.to_str().unwrap()]);
            run("chown", &[&like, to.to_str().unwrap()]);
        }
        set_ssl(&server, true).await;
        while !opened(&address("")).await.unwrap() {}
        assert!(!opened(&address("&sslmode=disable")).await.unwrap());
        let root = |file: &str| format!("&sslmode=verify-full&sslrootcert={file}");
        let verified = opened(&address(&root(&right))).await;
        assert!(verified.unwrap(), "{constraints}");
        for refused in [root(&wrong), "&sslmode=verify-full".to_owned()] {
            let error = opened(&address(&refused)).await.unwrap_err();
            assert!(matches!(error, OpenError::Unreachable { .. }), "{error}");
            assert!(error.to_string().contains("certificate"), "{error}");
        }
        let elsewhere = address(&root(&right)).replace("127.0.0.1", "127.0.0.2");
        assert!(opened(&elsewhere).await.is_err());
        let error = opened(&address(&root("/nowhere.crt"))).await.unwrap_err();
        assert!(error.to_string().contains("/nowhere.crt"), "{error}");
    }
}
