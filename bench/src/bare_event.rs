//! What the bare log stores beside the entities: an event behind a header.

use tokio::sync::oneshot;

use crate::bare_log::Format;

/// Length, checksum, sequence number, and the lengths of both names.
const HEADER: usize = 20;

/// One event to be appended.
pub(crate) struct Append {
    pub(crate) entity: String,
    pub(crate) event_type: &'static str,
    pub(crate) payload: Vec<u8>,
    pub(crate) done: oneshot::Sender<()>,
}

/// Numbers events and puts one behind the other.
#[derive(Default)]
pub(crate) struct Events {
    sequence: u64,
}

impl Format for Events {
    type Append = Append;

    fn bytes(append: &Append) -> usize {
        HEADER + append.event_type.len() + append.entity.len() + append.payload.len()
    }

    fn encode(
        &mut self,
        group: &mut Vec<Append>,
        out: &mut Vec<u8>,
        answers: &mut Vec<oneshot::Sender<()>>,
    ) {
        for append in group.drain(..) {
            self.sequence += 1;
            let start = out.len();
            let parts = [append.event_type.as_bytes(), append.entity.as_bytes()];
            out.extend_from_slice(&(Self::bytes(&append) as u32).to_le_bytes());
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&self.sequence.to_le_bytes());
            for part in parts {
                out.extend_from_slice(&(part.len() as u16).to_le_bytes());
            }
            for part in parts {
                out.extend_from_slice(part);
            }
            out.extend_from_slice(&append.payload);
            let sum = crc32fast::hash(&out[start + 8..]);
            out[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
            answers.push(append.done);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bare_log::BareLog;

    #[tokio::test]
    async fn what_is_acknowledged_lies_in_the_file_in_order() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let log = BareLog::create(directory.path(), Events::default()).unwrap();
        let sender = log.sender();
        for round in 1..=40u64 {
            let (done, answer) = oneshot::channel();
            let append = Append {
                entity: format!("order-{round:06}"),
                event_type: "LineAdded",
                payload: vec![round as u8; 256],
                done,
            };
            sender.send(append).await.unwrap();
            answer.await.unwrap();
        }
        drop(sender);
        assert_eq!(log.groups(), 40);
        let bytes_said = log.bytes() as usize;
        log.close().unwrap();
        let bytes = std::fs::read(directory.path().join("bare-log")).unwrap();
        let mut at = 0;
        for round in 1..=40u64 {
            let field = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            let length = field(at) as usize;
            assert_eq!(field(at + 4), crc32fast::hash(&bytes[at + 8..at + length]));
            let sequence = u64::from_le_bytes(bytes[at + 8..at + 16].try_into().unwrap());
            assert_eq!(sequence, round);
            at += length;
        }
        assert_eq!(bytes_said, at);
        assert!(bytes[at..].iter().all(|byte| *byte == 0));
    }
}
