//! What a row is called on the dashboard.
//!
//! Most rows are called by the values of their labels. A control group has a path, which says more than anybody reads,
//! and labels of what is in it; it is called by what tells it from others:
//!
//! | group | name |
//! |---|---|
//! | `/system.slice/nginx.service` | `nginx.service` |
//! | `/user.slice/user-1000.slice/user@1000.service/app.slice/editor.service/worker` | `user@1000.service/editor.service/worker` |
//! | `/system.slice/docker-ID.scope`, of a container whose name is known | `web` |
//! | the same, of one whose name is not known | the first twelve digits of its id |
//! | `/kubepods.slice/kubepods-podUID.slice/crio-ID.scope/container` | `NAMESPACE/POD/web/container` |
//! | `/system.slice` | `/system.slice` |

use crate::rule::joined;

/// A control group's first label, its path.
const PATH: &str = "cgroup";
/// What a label says that says nothing.
const UNKNOWN: &str = "_";
/// Digits of a container's id, and those that are shown.
const ID: usize = 64;
const SHOWN: usize = 12;

/// The name of a row with these labels. Another row may have the same.
pub(crate) fn row<'a>(labels: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> String {
    let label =
        |wanted| labels.clone().find(|(key, value)| *key == wanted && *value != UNKNOWN).map(|(_, value)| value);
    let Some(path) = path(labels.clone()) else { return joined(labels) };
    // One row is for all those that have none of their own, and one for each whose path is not known.
    if !path.starts_with('/') {
        return path.to_owned();
    }
    let mut name: Vec<&str> = ["namespace", "pod"].into_iter().filter_map(label).collect();
    let components = path.split('/').filter(|component| !component.is_empty());
    if let Some(container) = label("container") {
        name.push(label("container_name").unwrap_or(container));
        let all: Vec<&str> = components.collect();
        let own = all.iter().rposition(|component| component.contains(container));
        name.extend(&all[own.map_or(all.len(), |own| own + 1)..]);
    } else if name.is_empty() {
        // A service manager has one unit of a name, whatever the slice that it is put into.
        let unit = label("unit");
        name.extend(components.filter(|part| part.strip_suffix(".slice").is_none()).map(|part| readable(part, unit)));
    }
    if name.is_empty() { path.to_owned() } else { shortened(&name.join("/")) }
}

/// What tells a row from another one that has the same name.
pub(crate) fn row_in_full<'a>(labels: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> String {
    path(labels.clone()).map_or_else(|| joined(labels), str::to_owned)
}

/// Whether a row is a control group, and which. A process has other labels before that of its group.
fn path<'a>(mut labels: impl Iterator<Item = (&'a str, &'a str)>) -> Option<&'a str> {
    labels.next().filter(|(key, _)| *key == PATH).map(|(_, path)| path)
}

/// The unit in place of a component that escapes its name.
fn readable<'a>(component: &'a str, unit: Option<&'a str>) -> &'a str {
    let suffix = |name: &'a str| name.rsplit_once('.').map(|(_, suffix)| suffix);
    unit.filter(|unit| component.contains('\\') && suffix(component) == suffix(unit)).unwrap_or(component)
}

/// Ids of containers by their first digits.
fn shortened(text: &str) -> String {
    let is_digit = |c: char| matches!(c, '0'..='9' | 'a'..='f');
    let pieces = text.split_inclusive(|c| !is_digit(c)).map(|piece| {
        let digits = piece.trim_end_matches(|c| !is_digit(c));
        if digits.len() == ID { [&digits[..SHOWN], &piece[ID..]] } else { [piece, ""] }
    });
    pieces.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const UID: &str = "8dbc5577-d0e2-4706-8787-57d52c03ddf2";

    /// Path, unit, container, pod, namespace and name of the container.
    fn called(values: [&str; 6]) -> String {
        let keys = ["cgroup", "unit", "container", "pod", "namespace", "container_name"];
        row(keys.into_iter().zip(values.map(|value| if value.is_empty() { "_" } else { value })))
    }

    #[test]
    fn a_service_is_called_by_its_unit_and_what_is_below_it() {
        let user = "/user.slice/user-1000.slice/user@1000.service/app.slice/editor.service/worker";
        for (path, unit, name) in [
            ("/system.slice/nginx.service", "nginx.service", "nginx.service"),
            ("/system.slice/nginx.service/a b", "nginx.service", "nginx.service/a b"),
            (user, "editor.service", "user@1000.service/editor.service/worker"),
            (r"/a.slice/my\x2down.service", "my-own.service", "my-own.service"),
            (r"/a.slice/my\x2down.service/x\x2dy", "my-own.service", r"my-own.service/x\x2dy"),
            ("/system.slice", "system.slice", "/system.slice"),
            ("/init.scope", "init.scope", "init.scope"),
            ("/", "", "/"),
            ("unknown:7", "", "unknown:7"),
            ("other", "other", "other"),
        ] {
            assert_eq!(called([path, unit, "", "", "", ""]), name);
        }
        assert_eq!(called(["other"; 6]), "other");
    }

    #[test]
    fn a_container_is_called_by_its_names_or_the_first_digits_of_its_id() {
        let docker = format!("/system.slice/docker-{ID}.scope");
        let inner = format!("{docker}/system.slice/cron.service");
        let pod = format!("/kubepods/pod{UID}/{ID}");
        let conmon = format!("/machine.slice/libpod-conmon-{ID}.scope");
        for (values, name) in [
            ([&docker, "", ID, "", "", ""], "0123456789ab"),
            ([&docker, "", ID, "", "", "web"], "web"),
            ([&inner, "cron.service", ID, "", "", "web"], "web/system.slice/cron.service"),
            ([&pod, "", ID, UID, "", ""], "8dbc5577-d0e2-4706-8787-57d52c03ddf2/0123456789ab"),
            ([&pod, "", ID, "shop-1", "default", "web"], "default/shop-1/web"),
            ([&pod, "", "", "shop-1", "default", ""], "default/shop-1"),
            (["/lxc/web/init.scope", "init.scope", "web", "", "", ""], "web/init.scope"),
            ([&conmon, "", "", "", "", ""], "libpod-conmon-0123456789ab.scope"),
        ] {
            assert_eq!(called(values), name);
        }
    }

    #[test]
    fn only_a_whole_id_is_shortened() {
        for text in ["", "é", "cafe", &format!("{ID}0"), &ID[1..]] {
            assert_eq!(shortened(text), text);
        }
        assert_eq!(shortened(&format!("{ID}é{ID}")), "0123456789abé0123456789ab");
    }

    #[test]
    fn other_rows_are_called_by_all_their_labels() {
        let labels = [("pid", "7"), ("comm", "_")];
        assert_eq!((row(labels.into_iter()), row_in_full(labels.into_iter())), ("7__".into(), "7__".into()));
        assert_eq!(row_in_full([("cgroup", "/a"), ("unit", "_")].into_iter()), "/a");
        assert_eq!(
            row([("pid", "7"), ("cgroup", "/system.slice/nginx.service")].into_iter()),
            "7_/system.slice/nginx.service"
        );
    }
}
