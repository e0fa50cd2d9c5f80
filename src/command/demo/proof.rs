//! That nothing is left: every process that was started has ended, and every port is closed.

use std::{
    net::{SocketAddr, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::{Pid, test_kill_process};

use super::screen::Screen;
use crate::{
    command::CommandError,
    dev::{ControlPlane, installation::Installation},
};

/// How long the last processes may take to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was started.
#[derive(Debug, Default)]
pub(super) struct Traces {
    processes: Vec<(String, u32)>,
    ports: Vec<(String, SocketAddr)>,
}

impl Traces {
    pub fn control_plane(&mut self, control_plane: &ControlPlane) {
        for (name, pid) in ["kube-controller-manager", "kube-apiserver", "etcd"].into_iter().zip(control_plane.pids()) {
            self.processes.push((name.to_owned(), pid));
        }
        self.port("kube-apiserver", &control_plane.server());
    }

    pub fn installation(&mut self, installation: &Installation) {
        self.processes.push(("operator".to_owned(), installation.operator.pid()));
        self.port("operator", &installation.http);
        self.port("S3", &installation.s3.endpoint());
        for device in &installation.devices {
            self.processes.push((device.name.clone(), device.process.pid()));
            // /ip4/127.0.0.1/tcp/<port>
            self.port(&device.name, &device.address.replace("/ip4/", "").replace("/tcp/", ":"));
        }
    }

    /// A page that was served, at its URL.
    pub fn port(&mut self, name: &str, url: &str) {
        let address = url.split("://").last().unwrap_or(url).trim_end_matches('/');
        self.ports.extend(address.parse().map(|address| (name.to_owned(), address)));
    }

    /// Says what has ended, or what has not.
    pub async fn assert_gone(&self, screen: &Screen, folder: &Path) -> Result<(), CommandError> {
        let until = Instant::now() + PATIENCE;
        let left = loop {
            let left = self.left(folder);
            if left.is_empty() || Instant::now() >= until {
                break left;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        if !left.is_empty() {
            return Err(CommandError::new(format!("this is left, and should not be: {}", left.join(", "))));
        }
        let names = |items: Vec<&String>| items.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let processes = names(self.processes.iter().map(|(name, _)| name).collect());
        let ports = names(self.ports.iter().map(|(name, _)| name).collect());
        screen.line(&format!("processes   none of {} runs: {processes}", self.processes.len()));
        screen.line(&format!("ports       none of {} answers: {ports}", self.ports.len()));
        screen.line("files       the folder of the demo is removed");
        Ok(())
    }

    fn left(&self, folder: &Path) -> Vec<String> {
        let running = self.processes.iter().filter(|(_, pid)| runs(*pid));
        let open = self.ports.iter().filter(|(_, address)| answers(*address));
        running
            .map(|(name, pid)| format!("process {pid} ({name})"))
            .chain(open.map(|(name, address)| format!("port {address} ({name})")))
            .chain(folder.exists().then(|| folder.display().to_string()))
            .collect()
    }
}

fn runs(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid).is_ok())
}

/// Whether anything takes connections there.
pub(super) fn answers(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
}
