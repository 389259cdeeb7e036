//! The file that carries one input's state to another state folder.
//!
//! A line that names the format, a line of JSON for people, the content of the state's files one behind the other, and the SHA-256 of all of
//! it. It holds the secret that fingerprints are made with, and no credential. A file that was cut short or changed is refused.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Component, Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{LedgerError, file};
use crate::report::Report;

const HEAD: &str = "exchange-reports-collector export 1\n";

/// The line of JSON is never longer: some hundred files, and the requests of a few minutes.
const LINE_MAX: u64 = 16 << 20;

/// The content is hashed and written in steps of this many bytes.
const CHUNK: usize = 64 << 10;

/// What an export says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The export's name, which no other has.
    pub export: String,
    /// The input's name.
    pub input: String,
    /// The input's id.
    pub id: String,
    /// When it was exported.
    pub at: DateTime<Utc>,
    /// The version that has exported it.
    pub version: String,
    /// The last requests to Microsoft Graph: the milliseconds since 1970, and the tenant.
    pub requests: Vec<(i64, String)>,
    /// The state's files, in the order of their content.
    pub(super) files: Vec<Content>,
}

/// One file of the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Content {
    /// `SERVICE/…`, by `/`.
    pub(super) path: String,
    pub(super) length: u64,
}

/// Where the content of a file comes from.
pub(super) enum From {
    File(PathBuf),
    Bytes(zeroize::Zeroizing<Vec<u8>>),
}

impl Manifest {
    /// Writes an export to a new file at `path`, and syncs it.
    pub(super) fn write(&self, contents: &[From], path: &Path) -> io::Result<()> {
        let mut to = file::open(path, File::options().write(true).create_new(true))?;
        let mut hash = Context::new(&SHA256);
        let mut write = |bytes: &[u8]| {
            hash.update(bytes);
            to.write_all(bytes)
        };
        let line = serde_json::to_string(self)?;
        write(format!("{HEAD}{line}\n").as_bytes())?;
        for (Content { path, length }, from) in self.files.iter().zip(contents) {
            let written = match from {
                From::Bytes(bytes) => {
                    write(bytes)?;
                    bytes.len() as u64
                }
                From::File(from) => {
                    let mut from = file::open(from, File::options().read(true))?.take(*length);
                    let (mut buffer, mut written) = (vec![0; CHUNK], 0);
                    loop {
                        let read = from.read(&mut buffer)?;
                        if read == 0 {
                            break written;
                        }
                        write(&buffer[..read])?;
                        written += read as u64;
                    }
                }
            };
            if written != *length {
                return Err(io::Error::other(format!("{path} has become shorter")));
            }
        }
        to.write_all(hash.finish().as_ref())?;
        to.sync_all()
    }
}

/// An export that is whole.
pub struct ExportFile {
    path: PathBuf,
    manifest: Manifest,
    /// Behind the line of JSON, once it is checked.
    rest: BufReader<File>,
}

impl ExportFile {
    /// Opens an export, and reads all of it to see that it is as it was written.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is no export, or is damaged.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let read = |cause| LedgerError::io("read", path, cause);
        let not = |what: &str| LedgerError::NoExport {
            file: path.to_owned(),
            what: what.to_owned(),
        };
        let file = File::open(path).map_err(read)?;
        let length = file.metadata().map_err(read)?.len();
        let mut rest = BufReader::new(file);
        let mut head = vec![];
        let mut line = |most: u64| -> io::Result<Vec<u8>> {
            let mut line = vec![];
            rest.by_ref().take(most).read_until(b'\n', &mut line)?;
            head.extend(&line);
            Ok(line)
        };
        if line(HEAD.len() as u64).map_err(read)? != HEAD.as_bytes() {
            return Err(not("it does not begin as an export of this version"));
        }
        let line = line(LINE_MAX).map_err(read)?;
        let begin = head.len() as u64;
        let mut hash = Context::new(&SHA256);
        hash.update(&head);
        let content = length
            .checked_sub(begin + SHA256_OUTPUT_LEN as u64)
            .ok_or_else(|| not("it is cut short"))?;
        let (mut left, mut buffer) = (content, vec![0; CHUNK]);
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            rest.read_exact(&mut buffer[..most]).map_err(read)?;
            hash.update(&buffer[..most]);
            left -= most as u64;
        }
        let mut check = vec![];
        rest.read_to_end(&mut check).map_err(read)?;
        if check != hash.finish().as_ref() {
            return Err(not(
                "its checksum does not match: it is cut short or damaged",
            ));
        }
        let manifest: Manifest = serde_json::from_slice(&line)
            .map_err(|cause| not(&format!("its second line: {cause}")))?;
        let lengths = manifest.files.iter().map(|file| file.length);
        if lengths.fold(0, u64::saturating_add) != content {
            return Err(not("it holds another number of bytes than it says"));
        }
        let is_good = |file: &Content| is_of_a_service(&file.path);
        if !(is_name(&manifest.input)
            && is_name(&manifest.id)
            && manifest.files.iter().all(is_good))
        {
            return Err(not("it names a file that is no service's state"));
        }
        rest.seek(SeekFrom::Start(begin)).map_err(read)?;
        Ok(ExportFile {
            path: path.to_owned(),
            manifest,
            rest,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Writes the state's files to where `place` says for their paths, in folders that are made.
    pub(super) fn unpack(&mut self, place: impl Fn(&str) -> PathBuf) -> Result<(), LedgerError> {
        for Content { path, length } in &self.manifest.files {
            let to = place(path);
            let (Some(folder), Some(name)) =
                (to.parent(), to.file_name().and_then(|name| name.to_str()))
            else {
                continue;
            };
            let mut bytes = vec![];
            let read = self.rest.by_ref().take(*length).read_to_end(&mut bytes);
            let read = read.map_err(|cause| LedgerError::io("read", &self.path, cause))?;
            if read as u64 != *length {
                let cause = io::ErrorKind::UnexpectedEof.into();
                return Err(LedgerError::io("read", &self.path, cause));
            }
            file::make_folder(folder)?;
            file::replace(folder, name, &[&bytes])?;
        }
        Ok(())
    }
}

impl fmt::Debug for ExportFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ExportFile({}, {})",
            self.path.display(),
            self.manifest.export
        )
    }
}

/// Whether a path stays in the folder of a service.
pub(super) fn is_of_a_service(path: &str) -> bool {
    let parts: Vec<_> = Path::new(path).components().collect();
    let is_plain = |part: &Component<'_>| matches!(part, Component::Normal(_));
    let is_known = path
        .split_once('/')
        .is_some_and(|(service, _)| Report::by_service(service).is_some());
    is_known && parts.len() <= 4 && parts.iter().all(is_plain)
}

/// Whether it is a name or an id, which are safe in a file's name.
fn is_name(text: &str) -> bool {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    !text.is_empty() && text.chars().all(is_safe)
}
