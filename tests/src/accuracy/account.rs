//! What somebody has counted.

use std::collections::BTreeMap;

/// Numbers of processes of one name by what they are of: `reads`, `bytes read`, `failed opens` and so on. None is 0.
pub(super) type Account = BTreeMap<String, u64>;
