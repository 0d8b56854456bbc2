//! What is asked of a server, and with which credentials.

use ebpf_process_core::{BuildError, Opener, Secret};
use ebpf_process_http::{Request, percent};

use crate::options::{Credentials, Place, ServerOptions};

/// What lines are sent as.
const LINES: &str = "text/plain; charset=utf-8";
/// What a command is sent as.
const FORM: &str = "application/x-www-form-urlencoded";

/// The request that carries lines.
pub(crate) fn lines(options: &ServerOptions, opener: &dyn Opener) -> Result<Request, BuildError> {
    let to = |path| Request::to(&options.server, path, LINES);
    let request = match &options.place {
        Place::V1 { database, retention_policy } => {
            let request = to("/write").query("db", database).query("precision", "ns");
            match retention_policy {
                Some(policy) => request.query("rp", policy),
                None => request,
            }
        }
        Place::V2 { org, bucket } => {
            to("/api/v2/write").query("org", org).query("bucket", bucket).query("precision", "ns")
        }
        // What is said is also the default; it must not depend on the server's configuration.
        Place::V3 { database } => to("/api/v3/write_lp")
            .query("db", database)
            .query("precision", "nanosecond")
            .query("accept_partial", "true"),
    };
    let_in(request, options, opener)
}

/// Where and with which words the database is made, where the interface can do that.
pub(crate) fn creation(options: &ServerOptions, opener: &dyn Opener) -> Result<Option<(Request, String)>, BuildError> {
    let Place::V1 { database, .. } = &options.place else { return Ok(None) };
    let request = let_in(Request::to(&options.server, "/query", FORM), options, opener)?;
    let quoted = database.replace('\\', "\\\\").replace('"', "\\\"");
    Ok(Some((request, format!("q={}", percent(&format!("CREATE DATABASE \"{quoted}\""))))))
}

/// The request with the secrets in it.
fn let_in(request: Request, options: &ServerOptions, opener: &dyn Opener) -> Result<Request, BuildError> {
    let reveal = |password: &Option<Secret>| match password {
        Some(password) => password.reveal("password", opener),
        None => Ok(String::new()),
    };
    Ok(match &options.credentials {
        None => request,
        Some(Credentials::Basic { username, password }) => request.basic(username, &reveal(password)?),
        Some(Credentials::Query { username, password }) => {
            request.query("u", username).secret_query("p", &reveal(password)?)
        }
        Some(Credentials::Token(token)) => request.token("Token", &token.reveal("token", opener)?),
        Some(Credentials::Bearer(token)) => request.bearer(&token.reveal("token", opener)?),
    })
}
