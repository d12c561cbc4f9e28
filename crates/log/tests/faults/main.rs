//! A disk that goes wrong in every way, at every moment: what was acknowledged is there, what was
//! not is whole or absent, nothing wrong is served, and every error has a cause.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod calls;
mod life;
mod random;
mod restarts;
mod seeded;
mod told;

#[path = "../support/mod.rs"]
mod support;
