//! Rules about Markdown and manifests.

use std::collections::BTreeSet;
use std::path::Path;

use crate::finding::Finding;
use crate::source::is_word;

/// Links of a Markdown file that lead to no file of the repository.
pub fn check_links(root: &Path, path: &str, text: &str) -> Vec<Finding> {
    let folder = root.join(path).parent().map(Path::to_path_buf);
    let mut findings = Vec::new();
    for (line, target) in links(text) {
        let file = target.split('#').next().unwrap_or_default();
        let outside = target.contains("://") || target.starts_with("mailto:");
        let base = if file.starts_with('/') {
            Some(root.to_path_buf())
        } else {
            folder.clone()
        };
        let exists = base.is_some_and(|base| base.join(file.trim_start_matches('/')).exists());
        if !outside && !file.is_empty() && !exists {
            findings.push(Finding {
                path: path.to_owned(),
                line,
                rule: "link",
                what: format!("there is no {file}"),
            });
        }
    }
    findings
}

/// Targets of `[text](target)` outside code blocks, with their lines.
fn links(text: &str) -> Vec<(usize, &str)> {
    let (mut found, mut in_code) = (Vec::new(), false);
    for (line, text) in (1..).zip(text.lines()) {
        if text.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        // Odd parts lie between backticks.
        for prose in text.split('`').step_by(2) {
            for rest in prose.split("](").skip(1) {
                let target = rest.split([')', ' ']).next().unwrap_or_default();
                found.push((line, target.trim_matches(['<', '>'])));
            }
        }
    }
    found
}

/// Third-party packages that a manifest names: every dependency that is not in this repository.
pub fn dependencies(manifest: &str) -> BTreeSet<String> {
    let (mut found, mut inside) = (BTreeSet::new(), false);
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            // `[dependencies.name]` is a section of its own.
            let (parent, last) = section.rsplit_once('.').unwrap_or(("", section));
            inside = last.ends_with("dependencies");
            if parent.ends_with("dependencies") {
                found.insert(last.to_owned());
            }
        } else if inside && !line.starts_with('#') && !line.contains("path =") {
            let name: String = line
                .chars()
                .take_while(|character| is_word(*character) || *character == '-')
                .collect();
            if !name.is_empty() && !name.starts_with("everfold") {
                found.insert(name);
            }
        }
    }
    found
}

/// Dependencies that ARCHITECTURE.md, given as text, does not speak of. `None`: there is no such
/// file.
pub fn check_architecture(text: Option<&str>, dependencies: &BTreeSet<String>) -> Vec<Finding> {
    let finding = |what| Finding {
        path: "ARCHITECTURE.md".into(),
        line: 0,
        rule: "dependency",
        what,
    };
    let Some(text) = text else {
        return vec![finding(
            "it does not exist; it says why each direct dependency is there".into(),
        )];
    };
    let words: BTreeSet<_> = text
        .split(|character: char| !is_word(character) && character != '-')
        .collect();
    dependencies
        .iter()
        .filter(|name| !words.contains(name.as_str()))
        .map(|name| finding(format!("says nothing about the dependency {name}")))
        .collect()
}
