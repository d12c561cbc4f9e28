//! Every kept input, and a bounded number of mutations of each target, the same in every run.

use everfold_fuzz::{TARGETS, corpus, run};

#[test]
fn every_kept_input_and_some_mutations_pass() {
    let failures = std::env::temp_dir().join("everfold-fuzz");
    for target in TARGETS {
        let kept = corpus::load(target.name).expect("the corpus can be read");
        assert!(!kept.is_empty(), "{} has no corpus", target.name);
        let most = kept.len() as u64 + 300;
        let ran = run::run(target, 1, &failures, &mut |tried| tried < most);
        let ran = ran.expect("the corpus can be read");
        assert!(
            ran.failures.is_empty(),
            "{}: {:?}",
            target.name,
            ran.failures
        );
        assert_eq!(ran.executions, most);
        assert!(
            ran.outcomes > 1,
            "{}: one outcome for everything",
            target.name
        );
    }
}

#[test]
fn every_folder_of_the_corpus_has_a_target() {
    let folders = std::fs::read_dir(corpus::folder("")).expect("the corpus can be read");
    for folder in folders {
        let name = folder.expect("it can be read").file_name();
        assert!(
            TARGETS.iter().any(|target| *target.name == name),
            "{name:?}"
        );
    }
}
