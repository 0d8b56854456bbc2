//! What a file says about a container or a pod, as far as it can be believed.

/// How Kubernetes calls the container that holds a pod's name spaces, in labels and names.
pub(crate) const POD_CONTAINER: &str = "POD";

/// Names out of one file. Empty: it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) container_name: String,
    pub(crate) pod: String,
    pub(crate) namespace: String,
    /// The uid of the pod.
    pub(crate) uid: String,
}

impl Found {
    /// Names as a file gives them; none if one is such that no runtime would have taken it, since then somebody else
    /// wrote the file.
    pub(crate) fn checked(container_name: &str, pod: &str, namespace: &str, uid: &str) -> Option<Self> {
        let all = [container_name, pod, namespace, uid];
        let says_something = all[..3].iter().any(|name| !name.is_empty());
        (says_something && all.iter().all(|name| name.is_empty() || is_name(name))).then(|| Self {
            container_name: container_name.to_owned(),
            pod: pod.to_owned(),
            namespace: namespace.to_owned(),
            uid: uid.to_owned(),
        })
    }

    /// The name that Kubernetes has a runtime give: `k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT`, and CRI-O's for a pod,
    /// which lacks the first.
    pub(crate) fn from_kubernetes(name: &str) -> Option<Self> {
        let parts: Vec<&str> = name.strip_prefix("k8s_")?.split('_').collect();
        match parts[..] {
            [container, pod, namespace, uid, _] => Self::checked(container, pod, namespace, uid),
            [pod, namespace, uid, _] => Self::checked(POD_CONTAINER, pod, namespace, uid),
            _ => None,
        }
    }

    /// Whether this can be about a container of the pod with this uid.
    pub(crate) fn is_of(&self, pod: Option<&str>) -> bool {
        self.uid.is_empty() || pod.is_none_or(|pod| self.uid.replace('_', "-") == pod)
    }

    /// Takes what is not known yet from another file's names. Two files that disagree about the pod are not mixed.
    pub(crate) fn or(self, other: Self) -> Self {
        if self == Self::default() {
            return other;
        }
        let agree = |own: &str, other: &str| own.is_empty() || other.is_empty() || own == other;
        if !(agree(&self.pod, &other.pod) && agree(&self.namespace, &other.namespace)) {
            return self;
        }
        let first = |own: String, other: String| if own.is_empty() { other } else { own };
        Self {
            container_name: first(self.container_name, other.container_name),
            pod: first(self.pod, other.pod),
            namespace: first(self.namespace, other.namespace),
            uid: first(self.uid, other.uid),
        }
    }
}

/// What all runtimes and Kubernetes ask of a name.
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    name.len() <= 255 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_runtime_takes_is_not_believed_nor_is_what_stands_beside_it() {
        assert!(Found::checked("web", "shop-1", "default", "").is_some());
        for wrong in ["a b", "a\nb", "a\0", "-a", "../a", "a/b", "é", "a\"b", &"a".repeat(256)] {
            assert_eq!(Found::checked(wrong, "shop-1", "default", ""), None, "{wrong:?}");
            assert_eq!(Found::checked("web", wrong, "default", ""), None, "{wrong:?}");
        }
        assert_eq!(Found::checked("", "", "", "uid"), None, "says nothing");
    }

    #[test]
    fn names_of_kubernetes_are_taken_apart() {
        let names = |name| Found::from_kubernetes(name).map(|found| [found.container_name, found.pod, found.namespace]);
        assert_eq!(names("k8s_web_shop-1_default_u_0").unwrap(), ["web", "shop-1", "default"]);
        assert_eq!(names("k8s_shop-1_default_u_0").unwrap(), ["POD", "shop-1", "default"]);
        assert!(
            ["k8s_", "k8s_a", "web", "k8s_a_b_c_d_e_f", "k8s_a\n_b_c_d_e"].iter().all(|name| names(name).is_none())
        );
    }

    #[test]
    fn files_that_disagree_are_not_mixed() {
        let found = |names: [&str; 3]| Found::checked(names[0], names[1], names[2], "").unwrap_or_default();
        let container = found(["web", "", ""]);
        assert_eq!(container.clone().or(found(["", "shop-1", "a"])), found(["web", "shop-1", "a"]));
        assert_eq!(found(["", "shop-1", "a"]).or(found(["web", "shop-2", "a"])), found(["", "shop-1", "a"]));
        assert_eq!(Found::default().or(container.clone()), container);
    }
}
