//! What came out.

use std::fmt;

/// How one case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The engine keeps this part of the contract, as far as the case can see.
    Passed,
    /// It does not.
    Failed(String),
    /// The case is about something that the engine does not offer.
    NotApplicable(&'static str),
}

/// A case and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The case's name.
    pub case: &'static str,
    /// How it ended.
    pub verdict: Verdict,
}

/// How all cases ended, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What was tested.
    pub harness: String,
    /// One entry per case.
    pub outcomes: Vec<Outcome>,
}

impl Report {
    /// Names of the cases that failed.
    pub fn failed(&self) -> Vec<&'static str> {
        self.names(|verdict| matches!(verdict, Verdict::Failed(_)))
    }

    /// Names of the cases that did not apply.
    pub fn not_applicable(&self) -> Vec<&'static str> {
        self.names(|verdict| matches!(verdict, Verdict::NotApplicable(_)))
    }

    fn names(&self, of: impl Fn(&Verdict) -> bool) -> Vec<&'static str> {
        let wanted = self.outcomes.iter().filter(|outcome| of(&outcome.verdict));
        wanted.map(|outcome| outcome.case).collect()
    }

    /// Fails the test unless every case passed, but for exactly those `expected` not to apply.
    ///
    /// # Panics
    /// With the whole report, if it is otherwise.
    pub fn assert(&self, expected: &[&str]) {
        let (mut actual, mut wanted) = (self.not_applicable(), expected.to_vec());
        actual.sort_unstable();
        wanted.sort_unstable();
        assert!(self.failed().is_empty(), "{self}");
        assert!(
            actual == wanted,
            "{self}\nexpected not to apply: {wanted:?}\ndid not apply: {actual:?}"
        );
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "contract, {}:", self.harness)?;
        for Outcome { case, verdict } in &self.outcomes {
            match verdict {
                Verdict::Passed => writeln!(f, "  passed          {case}")?,
                Verdict::Failed(why) => writeln!(f, "  FAILED          {case}: {why}")?,
                Verdict::NotApplicable(why) => writeln!(f, "  does not apply  {case}: {why}")?,
            }
        }
        Ok(())
    }
}
