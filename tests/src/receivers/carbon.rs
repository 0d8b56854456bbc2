//! carbon 1.1 (Debian's `graphite-carbon`), the storage that a `StatsD` server writes to; read from its files.

use super::program;
use super::server::{Server, free_tcp_port};
use crate::{Failure, Outcome};
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

/// A running server.
#[derive(Debug)]
pub struct Carbon {
    server: Server,
    port: u16,
}

impl Carbon {
    /// Whether it is installed.
    ///
    /// # Errors
    /// It is not; the message names the package.
    pub fn is_installed() -> Outcome<()> {
        program("carbon-cache", "graphite-carbon").map(drop)
    }

    /// Starts it, keeping one value a second.
    ///
    /// # Errors
    /// It is not installed, or does not come up.
    pub fn start() -> Outcome<Self> {
        let executable = program("carbon-cache", "graphite-carbon")?;
        let folder = Server::folder("carbon")?;
        let path = |name: &str| folder.path().join(name);
        for name in ["storage", "log", "run"] {
            fs::create_dir(path(name)).map_err(Failure::at("carbon's folder"))?;
        }
        let (port, pickles, queries) = (free_tcp_port()?, free_tcp_port()?, free_tcp_port()?);
        let home = folder.path().display();
        let settings = format!(
            "[cache]\nUSER =\nCONF_DIR = {home}\nSTORAGE_DIR = {home}/storage/\nLOCAL_DATA_DIR = {home}/storage/\n\
             LOG_DIR = {home}/log/\nPID_DIR = {home}/run/\nLINE_RECEIVER_INTERFACE = 127.0.0.1\n\
             LINE_RECEIVER_PORT = {port}\nPICKLE_RECEIVER_INTERFACE = 127.0.0.1\nPICKLE_RECEIVER_PORT = {pickles}\n\
             CACHE_QUERY_INTERFACE = 127.0.0.1\nCACHE_QUERY_PORT = {queries}\nMAX_CREATES_PER_MINUTE = inf\n\
             MAX_UPDATES_PER_SECOND = inf\nENABLE_TAGS = False\nTAG_HASH_FILENAMES = False\n\
             CARBON_METRIC_INTERVAL = 0\n"
        );
        let files = [
            ("carbon.conf", &*settings),
            ("storage-schemas.conf", "[all]\npattern = .*\nretentions = 1s:10m\n"),
            ("storage-aggregation.conf", "[all]\npattern = .*\nxFilesFactor = 0\naggregationMethod = last\n"),
        ];
        for (name, text) in files {
            fs::write(path(name), text).map_err(Failure::at(name))?;
        }
        let mut command = Command::new(executable);
        command.arg("--config").arg(path("carbon.conf")).args(["--nodaemon", "start"]);
        let mut server = Server::start("carbon", folder, &mut command)?;
        server.wait_until_ready(|| TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        Ok(Self { server, port })
    }

    /// Where it takes lines by TCP.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The sum of all values it holds, by name with tags (`a.b;key=value`, keys in order).
    ///
    /// # Errors
    /// A folder cannot be read, or a file is not whisper's.
    pub fn sums(&self) -> Outcome<BTreeMap<String, f64>> {
        let storage = self.server.path().join("storage");
        let mut sums = BTreeMap::new();
        let mut folders = vec![storage.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).map_err(Failure::at(folder.display()))? {
                let path = entry.map_err(Failure::at(folder.display()))?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "wsp") {
                    let file = fs::read(&path).map_err(Failure::at(path.display()))?;
                    // An empty file is one that carbon is just making.
                    if let Some(sum) = sum(&file) {
                        sums.insert(name(&storage, &path), sum);
                    }
                }
            }
        }
        Ok(sums)
    }
}

/// A name's parts are folders; one with tags is a file of its own, below two folders of a hash.
fn name(storage: &Path, file: &Path) -> String {
    let path = file.strip_prefix(storage).unwrap_or(file).with_extension("");
    if let (Ok(tagged), Some(stem)) = (path.strip_prefix("_tagged"), path.file_name())
        && tagged.components().count() == 3
    {
        return stem.to_string_lossy().replace("_DOT_", ".");
    }
    path.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join(".")
}

/// Adds up a whisper file's first archive: a header of four numbers, then offset, interval and number of points of each
/// archive, then points of a time (0 for none) and a value, all with the highest byte first.
fn sum(file: &[u8]) -> Option<f64> {
    let number = |at: usize| Some(u32::from_be_bytes(file.get(at..at + 4)?.try_into().ok()?));
    let (offset, points) = (usize::try_from(number(16)?).ok()?, usize::try_from(number(24)?).ok()?);
    let archive = file.get(offset..offset + points * 12)?;
    let values = archive.chunks_exact(12).filter(|point| point[..4] != [0; 4]);
    values.map(|point| Some(f64::from_be_bytes(point[4..].try_into().ok()?))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whisper_file_is_added_up() {
        let mut file = Vec::new();
        for word in [4_u32, 3, 0, 1, 28, 1, 3] {
            file.extend(word.to_be_bytes());
        }
        for (time, value) in [(1_700_000_000_u32, 5.0_f64), (0, 9.0), (1_700_000_002, 2.0)] {
            file.extend(time.to_be_bytes());
            file.extend(value.to_be_bytes());
        }
        assert_eq!(sum(&file), Some(7.0));
        assert_eq!(sum(&file[..40]), None);
    }

    #[test]
    fn a_file_has_the_name_of_its_series() {
        let name = |path: &str| name(Path::new("/s"), Path::new(path));
        assert_eq!(name("/s/stats/counters/a/count.wsp"), "stats.counters.a.count");
        assert_eq!(name("/s/_tagged/1a2/b3c/a_DOT_b;k=v.wsp"), "a.b;k=v");
    }
}
