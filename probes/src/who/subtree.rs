//! A control group and those above it.

/// Groups that are further below have no rows of subtrees, and count in those above them: whoever makes groups in groups
/// without end does not make each event cost as much.
pub(super) const LEVELS: usize = 32;

/// The path of the group that all others are in.
pub(super) const ROOT: &str = "/";

/// A group's path after those of the groups that it is in, without the root and without what is too far below it. One that
/// is known by a number alone is right below the root.
pub(super) fn below_root(path: &str) -> impl Iterator<Item = &str> {
    let slashes = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
    slashes.chain([path.len()]).map(|end| &path[..end]).filter(|path| *path != ROOT).take(LEVELS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_in_each_of_those_above_it() {
        let above = |path| below_root(path).collect::<Vec<_>>();
        assert_eq!(above("/"), [""; 0]);
        assert_eq!(above("/a"), ["/a"]);
        assert_eq!(above("/a.slice/b c/d"), ["/a.slice", "/a.slice/b c", "/a.slice/b c/d"]);
        assert_eq!(above("unknown:7"), ["unknown:7"]);
        assert_eq!(below_root(&"/a".repeat(1000)).last(), Some(&*"/a".repeat(LEVELS)));
        // The kernel writes neither.
        assert_eq!((above(""), above("/a//b")), (vec![""], vec!["/a", "/a/", "/a//b"]));
    }
}
