//! What this machine lacks is said before anything is built, each thing in a sentence with what to install.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::{cluster::scratch, definitions::root, timed::Timed};

/// What every machine has.
const PLAIN: &[&str] = &["bash", "dirname", "sed", "cat", "cut", "sha256sum", "shasum", "perl", "env"];

/// Links commands of this machine into a folder, which then can stand for the whole PATH.
pub fn link_commands(folder: &Path, commands: &[&str]) {
    for command in commands {
        let mut found = ["/usr/bin", "/bin"].into_iter().map(|folder| Path::new(folder).join(command));
        if let Some(path) = found.find(|path| path.exists()) {
            symlink(path, folder.join(command)).unwrap();
        }
    }
}

/// A machine with commands that say what they are told to.
struct Machine {
    folder: PathBuf,
}

impl Machine {
    /// One that has what is needed, just new enough.
    fn new() -> Self {
        let machine = Self { folder: scratch(&format!("machine-{}", uuid::Uuid::new_v4())) };
        link_commands(&machine.folder, PLAIN);
        for command in ["cargo", "make", "cc"] {
            machine.has(command, "exit 0");
        }
        machine.has("rustc", &format!("echo 'rustc {}.0 (0123456789 2026-01-01)'", env!("CARGO_PKG_RUST_VERSION")));
        machine.has("go", &format!("echo go{}", go_version()));
        machine
    }

    fn has(&self, command: &str, script: &str) {
        write_command(&self.folder.join(command), script);
    }

    fn lacks(&self, command: &str) {
        fs::remove_file(self.folder.join(command)).unwrap();
    }

    fn cache(&self) -> PathBuf {
        self.folder.join("cache")
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        Command::new(program)
            .args(arguments)
            .current_dir(root())
            .env_clear()
            .env("PATH", &self.folder)
            .env("DMS_OPERATOR_CACHE", self.cache())
            .env("CARGO_TARGET_DIR", self.folder.join("target"))
            .output()
            .unwrap()
    }

    fn check(&self, arguments: &[&str]) -> Output {
        self.run(root().join("tests/tools/check.sh").to_str().unwrap(), arguments)
    }
}

fn write_command(path: &Path, script: &str) {
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
}

/// What `tests/tools` asks for.
fn go_version() -> String {
    let text = fs::read_to_string(root().join("tests/tools/kubernetes/go.mod")).unwrap();
    text.lines().find_map(|line| line.strip_prefix("go ")).unwrap().to_owned()
}

/// The minor version below.
fn older(version: &str) -> String {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap());
    let (major, minor) = (numbers.next().unwrap(), numbers.next().unwrap());
    format!("{major}.{}.99", minor - 1)
}

fn assert_said(output: &Output, sentences: &[String]) {
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), sentences.len(), "one sentence for each thing: {said}");
    for (line, sentence) in lines.iter().zip(sentences) {
        assert!(line.starts_with(sentence) && line.contains("install "), "{line} is not {sentence}");
    }
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "nothing is begun");
    assert_eq!(output.status.success(), sentences.is_empty());
}

const NEEDED: [&str; 5] = ["cargo", "rustc", "go", "cc", "make"];

fn absent(command: &str) -> String {
    format!("error: there is no '{command}' on the PATH: install ")
}

#[test]
fn each_missing_command_is_a_sentence() {
    let _timed = Timed::start();
    assert_said(&Machine::new().check(&[]), &[]);
    for command in NEEDED {
        for arguments in [&[][..], &["demo", "etcd"]] {
            let machine = Machine::new();
            machine.lacks(command);
            assert_said(&machine.check(arguments), &[absent(command)]);
        }
    }
    let machine = Machine::new();
    for command in NEEDED {
        machine.lacks(command);
    }
    assert_said(&machine.check(&[]), &NEEDED.map(absent));
}

#[test]
fn what_is_too_old_or_broken_is_a_sentence_with_what_is_needed() {
    let _timed = Timed::start();
    let rust = env!("CARGO_PKG_RUST_VERSION");
    let (old_rust, go) = (older(rust), go_version());
    let old_go = older(&go);
    let go = go.rsplit_once('.').unwrap().0;
    for (command, script, sentence) in [
        (
            "rustc",
            format!("echo 'rustc {old_rust} (0123456789 2026-01-01)'"),
            format!("error: Rust {rust} is needed, and 'rustc' says \"rustc {old_rust} (0123456789 2026-01-01)\": "),
        ),
        (
            "rustc",
            "echo 'error: no default toolchain' >&2; exit 1".to_owned(),
            format!("error: Rust {rust} is needed, and 'rustc' says \"error: no default toolchain\": "),
        ),
        (
            "go",
            format!("echo go{old_go}"),
            format!("error: Go {go} is needed, and 'go' says \"go{old_go}\": install Go {go} or newer"),
        ),
        (
            "go",
            "echo 'go: go.mod requires a newer one' >&2; exit 1".to_owned(),
            format!("error: Go {go} is needed, and 'go' says \"go: go.mod requires a newer one\": install Go {go}"),
        ),
        ("cc", "exit 1".to_owned(), "error: 'cc' does not find the C headers: ".to_owned()),
    ] {
        let machine = Machine::new();
        machine.has(command, &script);
        assert_said(&machine.check(&[]), &[sentence]);
    }
    for (command, script) in [
        ("rustc", "echo 'rustc 2.0.0-nightly (0123456789 2026-01-01)'"),
        ("go", "echo go2.0rc1"),
        ("go", "echo 'go: downloading go1.99.0 (linux/amd64)' >&2; echo go1.99.0"),
    ] {
        let machine = Machine::new();
        machine.has(command, script);
        assert_said(&machine.check(&[]), &[]);
    }
}

#[test]
fn the_readme_names_the_versions_that_are_checked() {
    let (rust, go) = (env!("CARGO_PKG_RUST_VERSION"), go_version());
    let sentence = format!("Both need Rust {rust}, Go {}, make and a C compiler", go.rsplit_once('.').unwrap().0);
    assert!(fs::read_to_string(root().join("README.md")).unwrap().contains(&sentence), "{sentence}");
}

const CACHES: &str = "and the caches of Go and Cargo";

#[test]
fn the_demo_begins_with_the_sum_of_what_is_built() {
    let _timed = Timed::start();
    let machine = Machine::new();
    let first = |tools: &[&str]| {
        let output = machine.check(&[&["demo"], tools].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let (cache, target) = (machine.cache(), machine.folder.join("target"));
    let all = first(&["etcd", "kubectl"]);
    let (cache, target) = (cache.display(), target.display());
    assert!(all.starts_with("demo: building etcd v") && all.contains(", kubectl v"), "{all}");
    let sum = format!(
        " and dms-operator; once, about 9 min on two cores and 5 GB of disk, into {cache}/tools, {target}, {CACHES}\n"
    );
    assert!(all.ends_with(&sum), "{all}");
    assert_eq!(all.lines().count(), 1);

    // What is there is not built, and what is not built needs no Go.
    let plan = machine.run(root().join("tests/tools/build.sh").to_str().unwrap(), &["--plan", "etcd"]);
    assert!(String::from_utf8(plan.stdout).unwrap().starts_with("etcd v"));
    let path = machine.run(root().join("tests/tools/build.sh").to_str().unwrap(), &["--path", "etcd"]);
    let etcd = PathBuf::from(String::from_utf8(path.stdout).unwrap().trim());
    fs::create_dir_all(etcd.parent().unwrap()).unwrap();
    write_command(&etcd, "exit 0");
    machine.lacks("go");
    let operator = "demo: building dms-operator; once, about 6 min on two cores and 4 GB of disk";
    assert_eq!(first(&["etcd"]), format!("{operator}, into {target}, {CACHES}\n"));
    fs::create_dir_all(machine.folder.join("target/debug")).unwrap();
    write_command(&machine.folder.join("target/debug/dms-operator"), "exit 0");
    assert_eq!(first(&["etcd"]), "");
    assert_said(&machine.check(&["demo", "etcd", "kubectl"]), &[absent("go")]);
}

#[test]
fn make_begins_with_the_check() {
    let _timed = Timed::start();
    let make = ["/usr/bin/make", "/bin/make", "/usr/local/bin/make"];
    let make = make.into_iter().find(|path| Path::new(path).exists()).expect("make is where it always is");
    for target in ["demo", "test", "features", "soak", "sabotage"] {
        let machine = Machine::new();
        machine.lacks("cargo");
        let output = machine.run(make, &["--silent", target]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.starts_with(&absent("cargo")), "{target}: {said}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{target}");
        assert_eq!(output.status.code(), Some(2), "{target}");
        assert!(!machine.cache().exists(), "{target}");
    }
}
