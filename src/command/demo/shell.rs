//! The commands of the story, run as they are shown.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{kit, screen::Screen};
use crate::{
    command::CommandError,
    dev::{Credentials, Tools},
};

/// Protects the demo's key file; the file and the key end with the demo.
pub(super) const PASSPHRASE: &str = "only for this demo";

/// `sh`, with `kubectl`, the plugin and the cluster at hand.
pub(super) struct Shell<'a> {
    screen: &'a Screen,
    /// Where the commands run, and where the plugin lies under the name that kubectl looks for.
    pub folder: PathBuf,
    path: OsString,
    kubeconfig: PathBuf,
}

/// What a command gave.
pub(super) struct Given {
    pub success: bool,
    pub text: String,
}

/// The processes of a command that runs. Those that `sh` started would outlive it.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // Only what is gone already can't be killed.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl<'a> Shell<'a> {
    pub fn new(screen: &'a Screen, folder: &Path, credentials: &Credentials) -> Result<Self, CommandError> {
        let folder = folder.join("shell");
        let failed = |error| CommandError::because(format!("{} could not be prepared", folder.display()), error);
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let own = std::env::current_exe()
            .map_err(|error| CommandError::because("the path of this program could not be found out", error))?;
        std::os::unix::fs::symlink(own, folder.join("kubectl-hosting")).map_err(failed)?;
        let kubectl = Tools::kubectl().map_err(kit)?;
        let mut path = folder.clone().into_os_string();
        for next in kubectl.parent().map(Path::as_os_str).into_iter().chain(std::env::var_os("PATH").as_deref()) {
            path.push(":");
            path.push(next);
        }
        let kubeconfig = folder.join("kubeconfig");
        credentials.write(&kubeconfig).map_err(kit)?;
        Ok(Self { screen, folder, path, kubeconfig })
    }

    /// Where the keys of the owner lie.
    fn wallet(&self) -> PathBuf {
        self.folder.join("wallet")
    }

    /// Variables under which the shown commands work in another terminal.
    pub fn exports(&self) -> String {
        format!(
            "export KUBECONFIG={}\nexport PATH={}:$PATH\nexport DMS_PASSPHRASE='{PASSPHRASE}'\n\
             export DMS_GENERAL_USER_DIR={}\ncd {}",
            self.kubeconfig.display(),
            self.path.to_string_lossy().split(':').take(2).collect::<Vec<_>>().join(":"),
            self.wallet().display(),
            self.folder.display()
        )
    }

    /// Shows a command, runs it, shows its output, and demands that it went well.
    pub async fn run(&self, line: &str) -> Result<String, CommandError> {
        let given = self.show(line).await?;
        if given.success {
            return Ok(given.text);
        }
        Err(CommandError::new(format!("`{line}` did not go well; its output stands above")))
    }

    /// Shows a command, runs it and shows its output.
    pub async fn show(&self, line: &str) -> Result<Given, CommandError> {
        self.screen.command(line);
        let given = self.give(line).await?;
        for line in given.text.lines() {
            self.screen.line(line);
        }
        Ok(given)
    }

    /// Runs a command out of sight. Given up on the way, it ends with all that it started.
    pub async fn give(&self, line: &str) -> Result<Given, CommandError> {
        let failed = |error| CommandError::because("sh could not be run", error);
        let child = tokio::process::Command::new("sh")
            .args(["-c", line])
            .current_dir(&self.folder)
            .env("PATH", &self.path)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("DMS_GENERAL_USER_DIR", self.wallet())
            .env("DMS_PASSPHRASE", PASSPHRASE)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C on a terminal is meant for the demo alone: what it deletes at its end must not be cut off.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)));
        let output = child.wait_with_output().await.map_err(failed)?;
        group.0 = None;
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        Ok(Given { success: output.status.success(), text })
    }

    /// Writes a file next to the commands.
    pub fn write(&self, name: &str, text: &str) -> Result<(), CommandError> {
        let path = self.folder.join(name);
        std::fs::write(&path, text)
            .map_err(|error| CommandError::because(format!("{} could not be written", path.display()), error))
    }
}
