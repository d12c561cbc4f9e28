//! All targets.

mod codec;
mod differential;
mod frame;
mod image;
mod message;
mod position;
mod recovery;
mod wire;

use crate::Target;

/// Every target.
pub const TARGETS: &[Target] = &[
    Target {
        name: "codec",
        run: codec::run,
    },
    Target {
        name: "frame",
        run: frame::run,
    },
    Target {
        name: "recovery",
        run: recovery::run,
    },
    Target {
        name: "image",
        run: image::run,
    },
    Target {
        name: "message",
        run: message::run,
    },
    Target {
        name: "position",
        run: position::run,
    },
    Target {
        name: "wire",
        run: wire::run,
    },
    Target {
        name: "differential",
        run: differential::run,
    },
];
