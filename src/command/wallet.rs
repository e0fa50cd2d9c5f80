//! Keys that prove a DID, in DMS's own key files; and what the other commands need of them.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use zeroize::Zeroizing;

use super::CommandError;
use crate::capability::{Key, keystore};

const PASSPHRASE: &str = "DMS_PASSPHRASE";

/// Arguments of `wallet`.
#[derive(Debug, clap::Args)]
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
        /// Where to write the key file. An existing file is never overwritten.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Name of the key, as DMS shows it. Absent: the name of the file.
        #[arg(long)]
        name: Option<String>,
    },
    /// Prints DID, peer ID and actor ID of a key file.
    ///
    /// The passphrase is taken from DMS_PASSPHRASE, or asked for.
    Show {
        /// The key file.
        file: PathBuf,
    },
}

pub fn run(args: Args) -> Result<ExitCode, CommandError> {
    match args.command {
        Wallet::New { out, name } => new(&out, name)?,
        Wallet::Show { file } => show(&file)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn new(out: &Path, name: Option<String>) -> Result<(), CommandError> {
    if out.exists() {
        return Err(exists(out));
    }
    let name = name.or_else(|| out.file_stem().map(|stem| stem.to_string_lossy().into_owned())).unwrap_or_default();
    let passphrase = new_passphrase()?;
    let seed = Zeroizing::new(random::<32>()?);
    let key = Key::from_seed(*seed);
    let file = keystore::encrypt(&key, &name, &passphrase, random()?, random()?);
    write_new(out, file.as_bytes())?;
    print(&format!("{}\n", key.did()))
}

fn show(file: &Path) -> Result<(), CommandError> {
    let key = open_key(file)?;
    let did = key.did();
    print(&format!("DID       {did}\npeer ID   {}\nactor ID  {}\n", did.peer_id(), did.actor_id()))
}

/// Opens a key file with the passphrase from the environment or from the terminal.
pub(super) fn open_key(file: &Path) -> Result<Key, CommandError> {
    let name = file.display();
    let json = read(file)?;
    let passphrase = match passphrase_from_environment() {
        Some(passphrase) => passphrase,
        None => ask(&format!("Passphrase of {name}: "))?,
    };
    keystore::decrypt(&json, &passphrase)
        .map_err(|error| CommandError::because(format!("the key file {name} could not be opened"), error))
}

/// The key of a file with a seed as 64 hex digits, as the operator's identity Secret holds it.
pub(super) fn open_seed(file: &Path) -> Result<Key, CommandError> {
    let text = Zeroizing::new(read(file)?);
    let mut seed = Zeroizing::new([0_u8; 32]);
    hex::decode_to_slice(text.trim(), seed.as_mut_slice()).map_err(|_| {
        // The cause could quote a part of the secret.
        CommandError::new(format!("{} does not hold a seed: it must be 64 hex digits and nothing else", file.display()))
    })?;
    Ok(Key::from_seed(*seed))
}

/// Reads a file, or standard input for `-`.
pub(super) fn read(file: &Path) -> Result<String, CommandError> {
    let mut text = String::new();
    let result = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)
    } else {
        OpenOptions::new().read(true).open(file).and_then(|mut open| open.read_to_string(&mut text))
    };
    result.map_err(|error| CommandError::because(format!("{} could not be read", shown(file)), error))?;
    Ok(text)
}

/// How a file is called in a sentence.
pub(super) fn shown(file: &Path) -> String {
    if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() }
}

/// Writes a new file that only its owner can read. An existing file is never overwritten.
pub(super) fn write_new(file: &Path, bytes: &[u8]) -> Result<(), CommandError> {
    let result = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut open| open.write_all(bytes).and_then(|()| open.sync_all()));
    result.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => exists(file),
        _ => CommandError::because(format!("{} could not be written", file.display()), error),
    })
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_private_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.json");
        write_new(&file, b"first").unwrap();
        let refusal = write_new(&file, b"second").unwrap_err();
        assert!(refusal.to_string().ends_with("exists already and is not overwritten: name another file"));
        assert_eq!(read(&file).unwrap(), "first");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_seed_file_holds_64_hex_digits_and_an_error_does_not_show_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("seed");
        let seed = random::<32>().unwrap();
        write_new(&file, format!("{}\n", hex::encode(seed)).as_bytes()).unwrap();
        assert_eq!(open_seed(&file).unwrap().did(), Key::from_seed(seed).did());

        let broken = folder.path().join("broken");
        write_new(&broken, &hex::encode(seed).as_bytes()[1..]).unwrap();
        let error = open_seed(&broken).unwrap_err();
        assert!(!format!("{error:?}").contains(&hex::encode(&seed[8..16])), "{error:?}");
    }
}
