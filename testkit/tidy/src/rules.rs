//! The rules about one source file.

use crate::exceptions::excepted;
use crate::finding::Finding;
use crate::paths::paths;
use crate::source::{Source, Token, is_word};

/// Paths that reach around the seams, by rule.
const SEAMS: &[(&str, &[&str], &str)] = &[
    (
        "task",
        &[
            "tokio::spawn",
            "tokio::runtime",
            "task::spawn",
            "spawn_blocking",
            "spawn_local",
            "JoinSet",
        ],
        "tasks start through World::spawn and World::block, so that a simulation schedules them",
    ),
    (
        "timer",
        &["tokio::time"],
        "time passes through World::sleep, so that a simulation can skip it",
    ),
    (
        "thread",
        &["std::thread", "thread::spawn", "thread::sleep"],
        "threads start through World::drive and World::block",
    ),
    (
        "clock",
        &["SystemTime", "Instant::now"],
        "clocks are read through World::now and World::elapsed",
    ),
    (
        "randomness",
        &["getrandom", "new_v4", "now_v7", "RandomState", "thread_rng"],
        "randomness comes from World::random, so that a seed repeats it",
    ),
    (
        "map",
        &["HashMap", "HashSet"],
        "the standard maps are seeded at random; use everfold_engine::map or a BTreeMap",
    ),
];

/// Lines beyond which a file is too long, and beyond which it needs a reason.
const LINES: (usize, usize) = (1000, 600);

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc"];

/// What a file at this path, from the root of the repository, breaks.
pub fn check_source(path: &str, text: &str) -> Vec<Finding> {
    let source = Source::of(text);
    let mut findings = Vec::new();
    let mut add = |rule, line, what: String| {
        findings.push(Finding {
            path: path.to_owned(),
            line,
            rule,
            what,
        });
    };
    seams(&source, &mut add);
    words(&source, &mut add);
    comments(&source, &mut add);
    shape(path, text, &mut add);
    findings.retain(|finding| !excepted(finding.rule, path));
    // A list of imports names a module once for each of them.
    findings.dedup_by_key(|finding| (finding.line, finding.rule));
    findings
}

fn seams(source: &Source<'_>, add: &mut impl FnMut(&'static str, usize, String)) {
    for named in paths(&source.tokens) {
        for (rule, wanted, instead) in SEAMS {
            if wanted.iter().any(|wanted| named.holds(wanted)) {
                add(
                    rule,
                    named.line,
                    format!("{}: {instead}", named.path.join("::")),
                );
            }
        }
    }
}

fn words(source: &Source<'_>, add: &mut impl FnMut(&'static str, usize, String)) {
    let tokens = &source.tokens;
    for (at, token) in tokens.iter().enumerate() {
        let after = |distance: usize| text(tokens, at + distance);
        let mut say = |rule, what: &str| add(rule, token.line, what.to_owned());
        match token.text {
            "select" if after(1) == "!" && after(3) != "biased" => say(
                "select",
                "an unbiased select draws from a generator that no seed governs; begin it with `biased;`",
            ),
            "unsafe" => say("unsafe", "there is no unsafe code here"),
            "unsafe_code" if !matches!(text(tokens, at.wrapping_sub(2)), "deny" | "forbid") => {
                say("unsafe", "unsafe code stays denied");
            }
            "ignore" if text(tokens, at.wrapping_sub(1)) == "[" => {
                say("ignore", "a test that is not run proves nothing");
            }
            "todo" | "unimplemented" if after(1) == "!" => say("unfinished", "finish it"),
            "mod" if EMPTY_NAMES.contains(&after(1)) => {
                say("name", "name a module after what it holds");
            }
            "struct" | "enum" | "trait" | "type" | "union"
                if after(1).to_lowercase().starts_with("everfold") =>
            {
                say("brand", "types carry no brand: the crate's name says it");
            }
            _ => {}
        }
    }
}

fn text<'a>(tokens: &[Token<'a>], at: usize) -> &'a str {
    tokens.get(at).map_or("", |token| token.text)
}

fn comments(source: &Source<'_>, add: &mut impl FnMut(&'static str, usize, String)) {
    for comment in &source.comments {
        for (line, text) in (comment.line..).zip(comment.text.lines()) {
            let mut words = text.split(|character| !is_word(character));
            if let Some(word) = words.find(|word| ["TODO", "FIXME", "XXX"].contains(word)) {
                let what = format!("{word}: do it, or write down where it is planned");
                add("unfinished", line, what);
            }
        }
    }
}

fn shape(path: &str, text: &str, add: &mut impl FnMut(&'static str, usize, String)) {
    let (most, long) = LINES;
    let lines = text.lines().count();
    if lines > most {
        add(
            "length",
            0,
            format!("{lines} lines, {most} are the most; split it"),
        );
    } else if lines > long {
        let what = format!("{lines} lines; split it, or list a reason for more than {long}");
        add("long", 0, what);
    }
    let mut parts = path.rsplit('/');
    let file = parts.next().unwrap_or_default().trim_end_matches(".rs");
    let folder = parts.next().unwrap_or_default();
    if [file, folder].iter().any(|name| EMPTY_NAMES.contains(name)) {
        add("name", 0, "name a file after what it holds".into());
    }
    let is_root = path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
    if is_root && !text.trim_start().starts_with("//!") {
        add(
            "crate doc",
            1,
            "begin with `//!`: what is this crate for?".into(),
        );
    }
}
