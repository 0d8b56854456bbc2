//! What to write to.

use std::fmt;

use ebpf_process_core::{Options, OptionsError};

use super::Raw;

/// What to write to, in the words of each version of the interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    V1 { database: String, retention_policy: Option<String> },
    V2 { org: String, bucket: String },
    V3 { database: String },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V1 { database, retention_policy: None } | Self::V3 { database } => write!(f, "database {database}"),
            Self::V1 { database, retention_policy: Some(policy) } => write!(f, "database {database}.{policy}"),
            Self::V2 { org, bucket } => write!(f, "bucket {org}/{bucket}"),
        }
    }
}

impl Place {
    pub(super) fn read(raw: &Raw, options: &Options) -> Result<Self, OptionsError> {
        let version = raw.version.unwrap_or(1);
        let keys = [
            ("database", &raw.database, version != 2),
            ("retention_policy", &raw.retention_policy, version == 1),
            ("org", &raw.org, version == 2),
            ("bucket", &raw.bucket, version == 2),
        ];
        if !(1..=3).contains(&version) {
            return Err(options.refuse("version", "expected 1, 2 or 3: the version of the server's interface"));
        }
        if raw.create_database && version != 1 {
            let problem =
                "version 2 has buckets, which are made on the server, and version 3 makes databases by itself";
            return Err(options.refuse("create_database", problem));
        }
        for (key, value, belongs) in keys {
            if value.is_some() && !belongs {
                let problem = format!("version {version} has no such thing; check the option version");
                return Err(options.refuse(key, problem));
            }
        }
        let required = |key: &str, value: &Option<String>, what: &str| {
            let problem = format!("this key is required with version {version}: name the {what} to write to");
            value.clone().filter(|value| !value.is_empty()).ok_or_else(|| options.refuse(key, problem))
        };
        Ok(match version {
            2 => Self::V2 {
                bucket: required("bucket", &raw.bucket, "bucket")?,
                org: required("org", &raw.org, "organization")?,
            },
            3 => Self::V3 { database: required("database", &raw.database, "database")? },
            _ => Self::V1 {
                database: required("database", &raw.database, "database")?,
                retention_policy: raw.retention_policy.clone(),
            },
        })
    }
}
