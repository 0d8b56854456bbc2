//! Users and groups by name or number, as the files of this machine have them.

use std::fs::File;
use std::io::Read as _;

/// More than any list of users that is kept in a file.
const LONGEST: u64 = 16 << 20;

/// The two files that name users and groups, as they were read.
#[derive(Debug)]
pub(crate) struct Accounts {
    passwd: String,
    group: String,
}

/// A user.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// None where a number has no name.
    pub(crate) name: Option<String>,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The groups that name it as a member.
    pub(crate) groups: Vec<u32>,
}

impl Accounts {
    /// Of this machine. One without these files has no names for users.
    pub(crate) fn read() -> Self {
        Self::of(text("/etc/passwd"), text("/etc/group"))
    }

    /// By the text of the two files.
    pub(crate) fn of(passwd: impl Into<String>, group: impl Into<String>) -> Self {
        Self { passwd: passwd.into(), group: group.into() }
    }

    /// The user of this name or number. Numbers need no name; the last one stands for "leave it as it is" wherever a user
    /// is set.
    pub(crate) fn user(&self, name: &str) -> Option<Account> {
        let number = name.parse::<u32>().ok();
        let mut entries = self.passwd.lines().filter_map(entry);
        let found = match number {
            Some(number) => entries.find(|(_, uid, _)| *uid == number),
            None => entries.find(|(known, ..)| *known == name),
        };
        match (found, number) {
            (Some((name, uid, gid)), _) => {
                Some(Account { name: Some(name.to_owned()), uid, gid, groups: self.groups_of(name) })
            }
            (None, Some(number)) if number != u32::MAX => {
                Some(Account { name: None, uid: number, gid: number, groups: Vec::new() })
            }
            (None, _) => None,
        }
    }

    /// The group of this name or number.
    pub(crate) fn group(&self, name: &str) -> Option<u32> {
        let of_line = |line: &str| {
            let mut fields = line.split(':');
            if fields.next()? == name { fields.nth(1)?.parse().ok() } else { None }
        };
        match name.parse::<u32>() {
            Ok(number) => (number != u32::MAX).then_some(number),
            Err(_) => self.group.lines().find_map(of_line),
        }
    }

    fn groups_of(&self, name: &str) -> Vec<u32> {
        let of_line = |line: &str| {
            let mut fields = line.split(':');
            let number = fields.nth(2)?.parse().ok()?;
            fields.next()?.split(',').any(|member| member.trim() == name).then_some(number)
        };
        self.group.lines().filter_map(of_line).collect()
    }
}

/// A line of `/etc/passwd`: name, user, group.
fn entry(line: &str) -> Option<(&str, u32, u32)> {
    let mut fields = line.split(':');
    let (name, _) = (fields.next()?, fields.next()?);
    let [uid, gid] = [fields.next()?, fields.next()?].map(|number| number.parse().ok());
    Some((name, uid?, gid?))
}

fn text(path: &str) -> String {
    let mut bytes = Vec::new();
    // What cannot be read names nobody.
    let _ = File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_known_by_name_and_number() {
        let accounts = Accounts::of(
            "root:x:0:0::/:\nweb:x:33:34:a:b:c\nhalf:x:x:1\n",
            "web:x:34:\nssl:x:7:other, web\nbad:x:y:\n",
        );
        let user = |name: Option<&str>, uid, gid, groups: &[u32]| {
            Some(Account { name: name.map(str::to_owned), uid, gid, groups: groups.to_vec() })
        };
        assert_eq!(accounts.user("web"), user(Some("web"), 33, 34, &[7]));
        assert_eq!(accounts.user("33"), accounts.user("web"));
        assert_eq!(accounts.user("12"), user(None, 12, 12, &[]));
        assert_eq!([accounts.group("ssl"), accounts.group("8"), accounts.group("bad")], [Some(7), Some(8), None]);
        for nobody in ["half", "missing", "", "-1", "4294967295", "4294967296"] {
            assert_eq!((accounts.user(nobody), accounts.group(nobody)), (None, None), "{nobody}");
        }
    }
}
