//! Uids of pods in a control group's path.

/// The uid of the pod whose group a component is: `podUID` of the driver cgroupfs, `kubepods[-QOS]-podUID.slice` of the
/// driver systemd, where the uid has `_` for `-`.
pub(crate) fn uid_of(component: &str) -> Option<String> {
    let uid = match component.strip_suffix(".slice") {
        Some(slice) if slice.contains("kubepods") => slice.rsplit_once("-pod")?.1,
        Some(_) => return None,
        None => component.strip_prefix("pod")?,
    };
    is_uid(uid).then(|| uid.replace('_', "-"))
}

/// A UUID, or the 32 digits that a pod has which is made by a file on the node.
fn is_uid(uid: &str) -> bool {
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let bytes = uid.as_bytes();
    match bytes.len() {
        32 => bytes.iter().all(is_hex),
        36 => bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => matches!(byte, b'-' | b'_'),
            _ => is_hex(byte),
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_has_the_shape_of_one() {
        let uid = "8dbc5577_d0e2_4706_8787_57d52c03ddf2";
        assert_eq!(uid_of(&format!("pod{uid}")).unwrap(), uid.replace('_', "-"));
        for wrong in [
            "pod".to_owned(),
            format!("pod{uid}0"),
            format!("pod{}", uid.replace('_', "0")),
            format!("pod{}", uid.replace('8', "g")),
            format!("pod{}", uid.to_uppercase()),
            format!("other-pod{uid}.slice"),
            format!("kubepods{uid}.slice"),
            "kubepods-pod.slice".to_owned(),
        ] {
            assert_eq!(uid_of(&wrong), None, "{wrong}");
        }
    }
}
