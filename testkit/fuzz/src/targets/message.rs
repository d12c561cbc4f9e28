//! Messages between nodes: any bytes are one or are refused, and one that was read is written back.

use bytes::{Bytes, BytesMut};
use everfold_cluster::transport::Frame;

use crate::outcome;

pub(super) fn run(bytes: &[u8]) -> u64 {
    let read = match Frame::read(Bytes::copy_from_slice(bytes)) {
        Ok(read) => read,
        Err(error) => return outcome((0, std::mem::discriminant(&error))),
    };
    let mut written = BytesMut::new();
    read.write(&mut written);
    let length = written.split_to(4);
    assert_eq!(&*length, (written.len() as u32).to_be_bytes());
    // What a later version appends is left out.
    assert!(bytes.starts_with(&written));
    let kind = std::mem::discriminant(&read);
    assert_eq!(Frame::read(written.freeze()), Ok(read));
    outcome((1, kind))
}
