//! The ledger's promises, checked over the records of a log: an account of them that shares nothing
//! with the code which decides.
//!
//! After every whole unit: debits equal credits, no account is past its limit, and no payer's
//! transfer has moved money twice. Every unit lies in one partition and balances by itself, so what holds for the prefixes of
//! each partition holds for every prefix of the log, whatever the order between partitions.

use std::collections::BTreeMap;

use everfold::engine::engine::{Engine, ReadLimit};
use everfold::engine::record::Kind;
use everfold::engine::{Offset, Record, Text};
use everfold::{Event, Key};

use crate::account::{Account, AccountEvent, HoldId, TransferId};
use crate::amount::{Amount, Balance};
use crate::transit::{Transit, TransitEvent};

mod fault;
#[cfg(test)]
mod tests;

pub use fault::{AuditError, Fault};

/// What an audit that found no fault has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audited {
    /// All that was debited.
    pub debits: Balance,
    /// All that was credited.
    pub credits: Balance,
    /// What all accounts together stand at, those in transit included: zero.
    pub sum: Balance,
    /// What the in-transit accounts stand at together.
    pub in_transit: Balance,
    /// Transfers that have come to their payee.
    pub transfers: u64,
    /// Those of them that went from one tag to another.
    pub between_tags: u64,
    /// Transfers that have left and neither come nor come back.
    pub on_their_way: u64,
    /// Accounts that were opened.
    pub accounts: u64,
    /// Those of them that were closed.
    pub closed: u64,
    /// Whole units with events of the ledger.
    pub units: u64,
}

/// Checks all records of a log. They may come partition after partition, each in order.
///
/// # Errors
/// The first [`Fault`].
pub fn audit<'a>(records: impl IntoIterator<Item = &'a Record>) -> Result<Audited, Fault> {
    let mut audit = Audit::default();
    for record in records {
        audit.read(record)?;
    }
    audit.finish()
}

/// Reads a log that nobody writes meanwhile, and checks it. While transfers between tags go on, one
/// may be seen to come before it is seen to leave, which is a [`Fault::Unfounded`] at the end.
///
/// # Errors
/// A [`Fault`], or the log cannot be read.
pub async fn audit_log(engine: &dyn Engine) -> Result<Audited, AuditError> {
    let mut audit = Audit::default();
    for partition in engine.identity().layout.all() {
        let head = engine.safe_head(partition).await?;
        let mut after = Offset(0);
        while after < head {
            let chunk = engine.read(partition, after, ReadLimit::default()).await?;
            for record in &chunk.records {
                audit.read(record)?;
            }
            if chunk.next <= after {
                break;
            }
            after = chunk.next;
        }
    }
    Ok(audit.finish()?)
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Stage {
    #[default]
    Unknown,
    Open,
    Closed,
}

/// What the audit keeps of an account.
#[derive(Default)]
struct Kept {
    stage: Stage,
    balance: Balance,
    overdraft: Balance,
    held: Balance,
    holds: BTreeMap<HoldId, Amount>,
}

/// What the audit has seen of a transfer.
#[derive(Default)]
struct Seen {
    amount: Option<Amount>,
    left: bool,
    came: bool,
    came_back: bool,
    taken_in: bool,
    paid_out: bool,
    given_back: bool,
}

/// An audit under way: [`audit`] record by record, for logs that do not fit into memory.
#[derive(Default)]
pub struct Audit {
    accounts: BTreeMap<Text, Kept>,
    /// By payer and id.
    transfers: BTreeMap<(Text, TransferId), Seen>,
    found: Audited,
    /// The unit that is being read: what it has moved, and whom it has touched.
    debits: Balance,
    credits: Balance,
    touched: Vec<Text>,
    next: u32,
    /// The unit's last record so far, while it is not whole.
    begun: Option<String>,
}

fn place(record: &Record) -> String {
    let entity = &record.portable.entity;
    format!("{entity} version {}", record.local.version)
}

impl Audit {
    /// The next record of a partition. A partition begins after the whole of another one.
    ///
    /// # Errors
    /// A [`Fault`]: the log breaks a promise of the ledger up to here.
    pub fn read(&mut self, record: &Record) -> Result<(), Fault> {
        match record.kind {
            Kind::Outcome | Kind::Claim | Kind::Mark => return Ok(()),
            Kind::Baseline | Kind::Stub => {
                let place = place(record);
                return Err(Fault::Trimmed { place });
            }
            Kind::Event => {}
        }
        let unit = record.portable.unit;
        if unit.index != self.next {
            let place = place(record);
            return Err(Fault::CutUnit { place });
        }
        let portable = &record.portable;
        let unreadable = |reason: String| Fault::Unreadable {
            place: place(record),
            reason,
        };
        let (kind, version): (&str, u32) = (&portable.event_type, portable.schema_version);
        if portable.entity.kind == <Account as everfold::Entity>::NAME {
            let event = AccountEvent::decode(kind, version, &portable.payload);
            let event = event.map_err(|error| unreadable(error.to_string()))?;
            self.account(record, event)?;
        } else if portable.entity.kind == <Transit as everfold::Entity>::NAME {
            let event = TransitEvent::decode(kind, version, &portable.payload);
            let event = event.map_err(|error| unreadable(error.to_string()))?;
            self.transit(record, event)?;
        }
        if unit.is_last() {
            return self.end_of_unit(record);
        }
        self.next = unit.index + 1;
        self.begun = Some(place(record));
        Ok(())
    }

    /// What the whole log says. Only a log that was read up to one moment in all partitions has an
    /// end: in another one a transfer may have come and not left.
    ///
    /// # Errors
    /// [`Fault::Unfounded`]: a transfer came without having left, or came and came back.
    /// [`Fault::CutUnit`]: the last unit is not whole.
    pub fn finish(self) -> Result<Audited, Fault> {
        if let Some(place) = self.begun {
            return Err(Fault::CutUnit { place });
        }
        let mut found = self.found;
        for ((_, transfer), seen) in &self.transfers {
            let ended = u8::from(seen.came) + u8::from(seen.came_back);
            let through = seen.taken_in == (seen.paid_out || seen.given_back);
            let complete = ended == 1 && seen.left && (through || !seen.taken_in);
            let under_way = ended == 0 && seen.left && seen.taken_in;
            if !complete && !under_way {
                let transfer = transfer.to_string();
                return Err(Fault::Unfounded { transfer });
            }
            found.transfers += u64::from(seen.came);
            found.between_tags += u64::from(seen.came && seen.taken_in);
            found.on_their_way += u64::from(under_way);
        }
        let accounts = self.accounts.values().map(|kept| kept.balance);
        found.sum = accounts.fold(found.in_transit, Balance::plus);
        Ok(found)
    }

    fn end_of_unit(&mut self, record: &Record) -> Result<(), Fault> {
        self.next = 0;
        self.begun = None;
        self.found.units += 1;
        let (debits, credits) = (self.debits, self.credits);
        (self.debits, self.credits) = (Balance::ZERO, Balance::ZERO);
        if debits != credits {
            return Err(Fault::Unbalanced {
                place: place(record),
                debits,
                credits,
            });
        }
        self.found.debits = self.found.debits.plus(debits);
        self.found.credits = self.found.credits.plus(credits);
        for account in self.touched.drain(..) {
            let Some(kept) = self.accounts.get(&account) else {
                continue;
            };
            let available = kept.balance.plus(kept.overdraft).minus(kept.held);
            if available.is_negative() {
                return Err(Fault::PastLimit {
                    place: place(record),
                    account: account.to_string(),
                    available,
                });
            }
        }
        Ok(())
    }

    fn account(&mut self, record: &Record, event: AccountEvent) -> Result<(), Fault> {
        let id = &record.portable.entity.id;
        match &event {
            AccountEvent::Debited {
                transfer, amount, ..
            }
            | AccountEvent::Dispatched {
                transfer, amount, ..
            }
            | AccountEvent::HoldCaptured {
                transfer, amount, ..
            } => {
                self.debits = self.debits.plus(*amount);
                self.once(record, id, transfer, *amount, |seen| &mut seen.left)?;
            }
            AccountEvent::Credited {
                transfer,
                amount,
                from,
            }
            | AccountEvent::Received {
                transfer,
                amount,
                from,
            } => {
                self.credits = self.credits.plus(*amount);
                self.once(record, from.as_text(), transfer, *amount, |seen| {
                    &mut seen.came
                })?;
            }
            AccountEvent::Returned { transfer, amount } => {
                self.credits = self.credits.plus(*amount);
                self.once(record, id, transfer, *amount, |seen| &mut seen.came_back)?;
            }
            _ => {}
        }
        let kept = self.accounts.entry(id.clone()).or_default();
        let wanted = match &event {
            AccountEvent::Opened { .. } => Stage::Unknown,
            // Says that nothing happened, to whomever.
            AccountEvent::Forgone { .. } => kept.stage,
            _ => Stage::Open,
        };
        if kept.stage != wanted {
            return Err(Fault::NotOpen {
                place: place(record),
                account: id.to_string(),
            });
        }
        let hold_fault = |hold: &HoldId| Fault::Hold {
            place: place(record),
            hold: hold.to_string(),
        };
        match event {
            AccountEvent::Opened { overdraft } => {
                kept.stage = Stage::Open;
                kept.overdraft = overdraft;
                self.found.accounts += 1;
            }
            AccountEvent::OverdraftChanged { overdraft } => kept.overdraft = overdraft,
            AccountEvent::Debited { amount, .. } | AccountEvent::Dispatched { amount, .. } => {
                kept.balance = kept.balance.minus(amount);
            }
            AccountEvent::Credited { amount, .. }
            | AccountEvent::Received { amount, .. }
            | AccountEvent::Returned { amount, .. } => {
                kept.balance = kept.balance.plus(amount);
            }
            AccountEvent::Arrived { .. } | AccountEvent::Forgone { .. } => {}
            AccountEvent::HoldPlaced { hold, amount, .. } => {
                if kept.holds.insert(hold.clone(), amount).is_some() {
                    return Err(hold_fault(&hold));
                }
                kept.held = kept.held.plus(amount);
            }
            AccountEvent::HoldCaptured {
                hold, held, amount, ..
            } => {
                if kept.holds.remove(&hold) != Some(held) || amount > held {
                    return Err(hold_fault(&hold));
                }
                kept.held = kept.held.minus(held);
                kept.balance = kept.balance.minus(amount);
            }
            AccountEvent::HoldReleased { hold, held }
            | AccountEvent::HoldExpired { hold, held } => {
                if kept.holds.remove(&hold) != Some(held) {
                    return Err(hold_fault(&hold));
                }
                kept.held = kept.held.minus(held);
            }
            AccountEvent::Closed => {
                kept.stage = Stage::Closed;
                self.found.closed += 1;
            }
        }
        self.touched.push(id.clone());
        Ok(())
    }

    fn transit(&mut self, record: &Record, event: TransitEvent) -> Result<(), Fault> {
        match event {
            TransitEvent::TakenIn {
                transfer,
                amount,
                from,
                ..
            } => {
                self.credits = self.credits.plus(amount);
                self.found.in_transit = self.found.in_transit.plus(amount);
                self.once(record, from.as_text(), &transfer, amount, |seen| {
                    &mut seen.taken_in
                })
            }
            TransitEvent::PaidOut {
                transfer,
                amount,
                from,
                ..
            } => {
                self.debits = self.debits.plus(amount);
                self.found.in_transit = self.found.in_transit.minus(amount);
                self.once(record, from.as_text(), &transfer, amount, |seen| {
                    &mut seen.paid_out
                })
            }
            TransitEvent::GivenBack {
                transfer,
                amount,
                to,
                ..
            } => {
                self.debits = self.debits.plus(amount);
                self.found.in_transit = self.found.in_transit.minus(amount);
                self.once(record, to.as_text(), &transfer, amount, |seen| {
                    &mut seen.given_back
                })
            }
        }
    }

    /// Notes a move of a transfer, which may happen once and with one amount.
    fn once(
        &mut self,
        record: &Record,
        payer: &str,
        transfer: &TransferId,
        amount: Amount,
        which: impl Fn(&mut Seen) -> &mut bool,
    ) -> Result<(), Fault> {
        let key = (Text::from(payer), transfer.clone());
        let seen = self.transfers.entry(key).or_default();
        let same = *seen.amount.get_or_insert(amount) == amount;
        if std::mem::replace(which(seen), true) || !same {
            return Err(Fault::Twice {
                place: place(record),
                transfer: transfer.to_string(),
            });
        }
        Ok(())
    }
}
