//! What `trunkline dev` keeps between runs: the nats-server's store and the key of the tokens.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

const KEY_FILE: &str = "jwt-key";
const API_KEY_FILE: &str = "api-key";

pub struct DataDir {
    path: PathBuf,
}

impl DataDir {
    /// Makes the directory, for this user only, unless it is there.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|source| Failure::DataDir { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned() })
    }

    /// The nats-server's own directory.
    pub fn nats(&self) -> PathBuf {
        self.path.join("nats")
    }

    /// Where the key is, for `trunkline token --secret-file`.
    pub fn key_file(&self) -> PathBuf {
        self.path.join(KEY_FILE)
    }

    /// The key, made at the first call ever: tokens outlive a restart.
    pub fn key(&self) -> Result<String, Failure> {
        read_or_make(self.key_file())
    }

    /// Where the server API's key is, made at the first call ever.
    pub fn api_key_file(&self) -> Result<PathBuf, Failure> {
        let file = self.path.join(API_KEY_FILE);
        read_or_make(file.clone())?;
        Ok(file)
    }
}

fn read_or_make(file: PathBuf) -> Result<String, Failure> {
    let read = match std::fs::read_to_string(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => new_key(&file),
        other => other,
    };
    let key = read.map_err(|source| Failure::DataDir { path: file, source })?;
    Ok(key.trim().to_owned())
}

/// 256 random bits, readable by this user only.
fn new_key(file: &Path) -> io::Result<String> {
    let key = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    writeln!(file, "{key}")?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_is_made_once_and_private() {
        let path = std::env::temp_dir().join(format!("trunkline-data-dir-{}", std::process::id()));
        let directory = DataDir::open(&path).unwrap();
        let key = directory.key().unwrap();
        assert_eq!(key.len(), 64);
        assert_eq!(DataDir::open(&path).unwrap().key().unwrap(), key);
        let mode = std::fs::metadata(directory.key_file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::remove_dir_all(&path).unwrap();
    }
}
