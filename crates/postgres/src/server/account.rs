//! Who runs the server: PostgreSQL refuses root.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::ServerError;

/// A user of this machine who is not root.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    user: u32,
    group: u32,
}

impl Account {
    /// Whom to become; `None`: stay who we are.
    ///
    /// # Errors
    /// We are root, and there is nobody else.
    pub(super) fn to_become() -> Result<Option<Self>, ServerError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let named = ["postgres", "nobody"].iter();
        let found = named.filter_map(|name| Self::named(name, &users)).next();
        found.map(Some).ok_or(ServerError::NoUser)
    }

    /// From lines like `postgres:x:101:104:comment:home:shell`.
    fn named(name: &str, users: &str) -> Option<Self> {
        let mut lines = users.lines().map(|line| line.split(':'));
        let mut fields = lines.find_map(|mut fields| (fields.next()? == name).then_some(fields))?;
        let (user, group) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        (user != 0).then_some(Self { user, group })
    }

    /// Runs a command as this user.
    pub(super) fn run(self, command: &mut Command) {
        command.uid(self.user).gid(self.group);
    }

    /// Makes this user the owner.
    pub(super) fn own(self, path: &Path) -> std::io::Result<()> {
        std::os::unix::fs::chown(path, Some(self.user), Some(self.group))
    }
}

#[cfg(test)]
mod tests {
    use super::Account;

    #[test]
    fn users_are_found_by_their_whole_name_and_root_is_none() {
        let users = "root:x:0:0::/root:/bin/sh\npostgres2:x:7:7:::\npostgres:x:101:104:a,b:/:/bin/sh\n\
                     broken:x\n";
        let found = Account::named("postgres", users).unwrap();
        assert_eq!((found.user, found.group), (101, 104));
        for missing in ["root", "broken", "nobody", "postgres3"] {
            assert!(Account::named(missing, users).is_none(), "{missing}");
        }
    }
}
