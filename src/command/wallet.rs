//! Keys that prove a DID, in DMS's own key files; and what the other commands need of them.

use std::fs::{OpenOptions, Permissions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tempfile::NamedTempFile;
use zeroize::Zeroizing;

pub(super) use self::folder::ContextFile;
use self::folder::{Folder, Name};
use super::CommandError;
use super::token::Output;
use super::token::report::written;
use crate::capability::{Key, keystore};

const PASSPHRASE: &str = "DMS_PASSPHRASE";
const PLACE: &str = "The wallet folder is that of DMS: key files lie in ~/.nunet/key, contexts in ~/.nunet/cap. \
    DMS_GENERAL_USER_DIR names another folder than ~/.nunet.";

/// Arguments of `wallet`.
#[derive(Debug, clap::Args)]
#[command(after_help = PLACE)]
pub struct Args {
    #[command(subcommand)]
    command: Wallet,
}

#[derive(Debug, clap::Subcommand)]
enum Wallet {
    /// Makes a new Ed25519 key, writes it encrypted as a DMS key file and prints its DID.
    ///
    /// The passphrase is taken from DMS_PASSPHRASE, or asked for twice.
    New {
        /// Where to write the key file. An existing file is never overwritten. Absent: the wallet folder, under --name.
        #[arg(long, value_name = "FILE", required_unless_present = "name")]
        out: Option<PathBuf>,
        /// Name of the key, as DMS shows it. Absent: the name of the file.
        #[arg(long)]
        name: Option<String>,
    },
    /// Prints DID, peer ID and actor ID of a key.
    ///
    /// The passphrase is taken from DMS_PASSPHRASE, or asked for.
    Show {
        /// A key file, or the name of a key in the wallet folder.
        #[arg(value_name = "FILE|NAME")]
        which: PathBuf,
    },
    /// Lists the keys in the wallet folder. No passphrase is needed.
    List {
        /// Form of the output.
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Brings a key into the wallet folder, encrypted, and prints its DID.
    ///
    /// A key file keeps its passphrase, which is taken from DMS_PASSPHRASE or asked for; a seed gets a new one from there.
    Import(Import),
    /// Writes a key of the wallet folder to another place, and prints its DID.
    ///
    /// The passphrase is taken from DMS_PASSPHRASE, or asked for.
    Export(Export),
}

#[derive(Debug, clap::Args)]
struct Import {
    /// Name of the key in the wallet folder. An existing key is never overwritten.
    #[arg(long)]
    name: Name,
    #[command(flatten)]
    source: Source,
}

/// The key that is brought in.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// A DMS key file.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// File with a seed as 64 hex digits; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    seed_file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Export {
    /// Name of the key in the wallet folder.
    name: Name,
    #[command(flatten)]
    targets: Targets,
}

/// Where a key is written to.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct Targets {
    /// Where to write the key file, encrypted anew under the same passphrase. An existing file is never overwritten.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where to write the seed as 64 hex digits, not encrypted: whoever reads this file can sign as this DID, and that
    /// cannot be undone. An existing file is never overwritten.
    #[arg(long, value_name = "FILE")]
    seed_out: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<ExitCode, CommandError> {
    match args.command {
        Wallet::New { out, name } => new(out, name)?,
        Wallet::Show { which } => show(&which)?,
        Wallet::List { output } => list(&Folder::of_environment()?, output)?,
        Wallet::Import(args) => import(&Folder::of_environment()?, &args)?,
        Wallet::Export(args) => export(&Folder::of_environment()?, &args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn new(out: Option<PathBuf>, name: Option<String>) -> Result<(), CommandError> {
    let (file, name) = match (out, name) {
        (Some(file), name) => {
            let stem = || file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            let name = name.or_else(stem).unwrap_or_default();
            (file, name)
        }
        (None, name) => {
            let name: Name = name.unwrap_or_default().parse()?;
            (Folder::of_environment()?.place_for(&name)?, name.to_string())
        }
    };
    let key = make_key(&file, &name)?;
    print(&format!("{}\n", key.did()))
}

/// Makes a key in the wallet folder, under a passphrase from the environment or the terminal.
pub(super) fn make_key_named(folder: &Folder, name: &Name) -> Result<Key, CommandError> {
    make_key(&folder.place_for(name)?, &name.to_string())
}

fn make_key(file: &Path, name: &str) -> Result<Key, CommandError> {
    if file.exists() {
        return Err(exists(file));
    }
    let passphrase = new_passphrase()?;
    let seed = Zeroizing::new(random::<32>()?);
    let key = Key::from_seed(*seed);
    write_key(file, &key, name, &passphrase)?;
    Ok(key)
}

fn show(which: &Path) -> Result<(), CommandError> {
    let key = open_key(&find(which, Folder::of_environment)?)?;
    let did = key.did();
    print(&format!("DID       {did}\npeer ID   {}\nactor ID  {}\n", did.peer_id(), did.actor_id()))
}

/// The file that is meant: one that exists comes before a name in the wallet folder.
fn find(which: &Path, folder: impl FnOnce() -> Result<Folder, CommandError>) -> Result<PathBuf, CommandError> {
    let name = which.to_str().and_then(|text| text.parse::<Name>().ok());
    match name {
        Some(name) if !which.exists() => {
            let folder = folder()?;
            let file = folder.key(&name);
            if file.exists() {
                Ok(file)
            } else {
                Err(CommandError::because(format!("there is no file {name}"), folder.no_key(&name)))
            }
        }
        _ => Ok(which.to_owned()),
    }
}

/// The key file that is meant: one that exists, or that of a key in the wallet folder.
pub(super) fn key_file(which: &Path) -> Result<PathBuf, CommandError> {
    find(which, Folder::of_environment)
}

/// The key file of the wallet folder, when there is exactly one.
pub(super) fn only_key_file() -> Result<Option<PathBuf>, CommandError> {
    Folder::of_environment()?.only_key()
}

/// Every context file of the wallet folder, read.
pub(super) fn contexts() -> Result<Vec<ContextFile>, CommandError> {
    Folder::of_environment()?.context_files()
}

fn list(folder: &Folder, output: Output) -> Result<(), CommandError> {
    let entries = folder.entries()?;
    print(&written(&entries, output, || folder::table(&entries, folder))?)
}

fn import(folder: &Folder, args: &Import) -> Result<(), CommandError> {
    let Import { name, source: Source { key, seed_file } } = args;
    let file = folder.place_for(name)?;
    if file.exists() {
        return Err(exists(&file));
    }
    let (key, passphrase) = match (key, seed_file) {
        (Some(file), None) => open_with_passphrase(file)?,
        (None, Some(file)) => (open_seed(file)?, new_passphrase()?),
        _ => return Err(CommandError::new("name the key to bring in: --key FILE or --seed-file FILE")),
    };
    write_key(&file, &key, &name.to_string(), &passphrase)?;
    print(&format!("{}\n", key.did()))
}

fn export(folder: &Folder, args: &Export) -> Result<(), CommandError> {
    let Export { name, targets: Targets { out, seed_out } } = args;
    let file = folder.key(name);
    if !file.exists() {
        return Err(folder.no_key(name));
    }
    if let Some(taken) = [out, seed_out].into_iter().flatten().find(|target| target.exists()) {
        return Err(exists(taken));
    }
    let (key, passphrase) = open_with_passphrase(&file)?;
    if let Some(out) = out {
        write_key(out, &key, &name.to_string(), &passphrase)?;
    }
    if let Some(out) = seed_out {
        let mut seed = Zeroizing::new([b'\n'; 65]);
        hex::encode_to_slice(key.expose_seed(), &mut seed[..64])
            .map_err(|error| CommandError::because("the seed could not be written", error))?;
        write_new(out, &*seed)?;
    }
    print(&format!("{}\n", key.did()))
}

/// Writes a key file with salt and iv of its own.
fn write_key(file: &Path, key: &Key, name: &str, passphrase: &str) -> Result<(), CommandError> {
    let json = keystore::encrypt(key, name, passphrase, random()?, random()?)
        .map_err(|error| CommandError::because("the key could not be encrypted", error))?;
    write_new(file, json.as_bytes())
}

/// Opens a key file with the passphrase from the environment or from the terminal.
pub(super) fn open_key(file: &Path) -> Result<Key, CommandError> {
    open_with_passphrase(file).map(|(key, _)| key)
}

fn open_with_passphrase(file: &Path) -> Result<(Key, Zeroizing<String>), CommandError> {
    let name = shown(file);
    let json = read(file)?;
    let passphrase = match passphrase_from_environment() {
        Some(passphrase) => passphrase,
        None => ask(&format!("Passphrase of {name}: "))?,
    };
    let key = keystore::decrypt(&json, &passphrase)
        .map_err(|error| CommandError::because(format!("the key file {name} could not be opened"), error))?;
    Ok((key, passphrase))
}

/// The key of a file with a seed as 64 hex digits, as the operator's identity Secret holds it.
pub(super) fn open_seed(file: &Path) -> Result<Key, CommandError> {
    let text = Zeroizing::new(read(file)?);
    key_of_seed(&text, &shown(file))
}

/// The key of a seed as 64 hex digits; `origin` is where it came from.
pub(super) fn key_of_seed(text: &str, origin: &str) -> Result<Key, CommandError> {
    let mut seed = Zeroizing::new([0_u8; 32]);
    hex::decode_to_slice(text.trim(), seed.as_mut_slice()).map_err(|_| {
        // The cause could quote a part of the secret.
        CommandError::new(format!("{origin} does not hold a seed: it must be 64 hex digits and nothing else"))
    })?;
    Ok(Key::from_seed(*seed))
}

/// Reads a text file, or standard input for `-`.
pub(super) fn read(file: &Path) -> Result<String, CommandError> {
    String::from_utf8(read_raw(file)?).map_err(|error| unreadable(file, error.utf8_error()))
}

/// Reads the bytes of a file, or of standard input for `-`, without the line break at the end.
pub(super) fn read_bytes(file: &Path) -> Result<Vec<u8>, CommandError> {
    let mut bytes = read_raw(file)?;
    for end in [b'\n', b'\r'] {
        if bytes.last() == Some(&end) {
            bytes.pop();
        }
    }
    Ok(bytes)
}

fn read_raw(file: &Path) -> Result<Vec<u8>, CommandError> {
    let mut bytes = Vec::new();
    let result = if file == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes)
    } else {
        OpenOptions::new().read(true).open(file).and_then(|mut open| open.read_to_end(&mut bytes))
    };
    result.map_err(|error| unreadable(file, error))?;
    Ok(bytes)
}

fn unreadable(file: &Path, error: impl std::error::Error + Send + Sync + 'static) -> CommandError {
    CommandError::because(format!("{} could not be read", shown(file)), error)
}

/// How a file is called in a sentence.
pub(super) fn shown(file: &Path) -> String {
    if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() }
}

/// Writes a new file that only its owner can read. An existing file is never overwritten.
pub(super) fn write_new(file: &Path, bytes: &[u8]) -> Result<(), CommandError> {
    let refused = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => exists(file),
        _ => CommandError::because(format!("{} could not be written", file.display()), error),
    };
    // What is there is told before the folder is asked for: it may take no new file.
    if file.symlink_metadata().is_ok() {
        return Err(exists(file));
    }
    let write = || beside(file, bytes, None)?.persist_noclobber(file).map(drop).map_err(|refused| refused.error);
    write().map_err(refused)
}

/// Puts bytes in the place of a file at once: whoever reads it meanwhile sees either the one or the other. Without `rights`
/// only its owner can read it.
pub(super) fn replace(file: &Path, bytes: &[u8], rights: Option<Permissions>) -> std::io::Result<()> {
    beside(file, bytes, rights)?.persist(file)?;
    Ok(())
}

/// A file in the same folder with these bytes, all on the disk, which takes the place later, or is gone. Without `rights`
/// only its owner can read it.
fn beside(file: &Path, bytes: &[u8], rights: Option<Permissions>) -> std::io::Result<NamedTempFile> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut next = NamedTempFile::new_in(folder)?;
    next.write_all(bytes)?;
    if let Some(rights) = rights {
        next.as_file().set_permissions(rights)?;
    }
    next.as_file().sync_all()?;
    Ok(next)
}

/// Writes to standard output.
pub(super) fn print(text: &str) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| CommandError::because("standard output could not be written", error))
}

/// Random bytes from the operating system.
pub(super) fn random<const SIZE: usize>() -> Result<[u8; SIZE], CommandError> {
    let mut bytes = [0; SIZE];
    getrandom::fill(&mut bytes)
        .map_err(|error| CommandError::because("the operating system gave no random bytes", error))?;
    Ok(bytes)
}

fn exists(file: &Path) -> CommandError {
    CommandError::new(format!("{} exists already and is not overwritten: name another file", file.display()))
}

fn passphrase_from_environment() -> Option<Zeroizing<String>> {
    std::env::var(PASSPHRASE).ok().filter(|passphrase| !passphrase.is_empty()).map(Zeroizing::new)
}

fn new_passphrase() -> Result<Zeroizing<String>, CommandError> {
    if let Some(passphrase) = passphrase_from_environment() {
        return Ok(passphrase);
    }
    let first = ask("New passphrase: ")?;
    if first.is_empty() {
        return Err(CommandError::new("the passphrase is empty: a key file needs one"));
    }
    if *first == *ask("Again: ")? {
        Ok(first)
    } else {
        Err(CommandError::new("the two passphrases differ, so no key was made: run the command again"))
    }
}

fn ask(prompt: &str) -> Result<Zeroizing<String>, CommandError> {
    rpassword::prompt_password(prompt).map(Zeroizing::new).map_err(|error| {
        CommandError::because(
            format!("the passphrase could not be asked for: set {PASSPHRASE} or use a terminal"),
            error,
        )
    })
}

pub(super) mod anchors;
pub(super) mod delegated;
pub(super) mod folder;
#[cfg(test)]
mod tests;
