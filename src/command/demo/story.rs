//! One site, from a key to its tombstone.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use kube::Client;

use super::{
    names::{NAMES, Names, OPERATOR_NAMESPACE},
    proof::answers,
    screen::Screen,
    shell::Shell,
    timeline::{Timeline, ready, refused},
};
use crate::{api::HostingDeploymentStatus, command::CommandError, dev::installation::Installation, metrics::Stage};

const CONFIG_MAP: &str = include_str!("../../../examples/hello-site/configmap.yaml");
const DEPLOYMENT: &str = include_str!("../../../examples/hello-site/hostingdeployment.yaml");
const GREETING: &str = "<h1>Hello from a device</h1>";
const NEW_GREETING: &str = "<h1>Hello again, newly signed</h1>";
const CI_GREETING: &str = "<h1>Hello from the pipeline</h1>";
const SIGN: &str = "kubectl hosting sign -f configmap.yaml -f hostingdeployment.yaml > signed.yaml";
const SIGN_BY_CI: &str = "kubectl hosting sign -f configmap.yaml -f hostingdeployment.yaml --key ci.json --grant \
                          ci.token > by-ci.yaml";
/// How long a figure may take to appear on /metrics.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Story<'a> {
    screen: &'a Screen,
    shell: &'a Shell<'a>,
    client: &'a Client,
    installation: &'a Installation,
}

/// The site as it stands after its second release.
pub(super) struct Served<'a> {
    timeline: Timeline<'a>,
    url: String,
    release: Option<String>,
    took: Took,
    restored: Option<Duration>,
}

impl Served<'_> {
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// The figures of the last lines.
pub(super) struct Ending {
    took: Took,
    restored: Option<Duration>,
}

/// From apply to Ready, by parts.
#[derive(Clone, Copy, Debug)]
struct Took {
    whole: Duration,
    verify: Duration,
    upload: Duration,
    status: Duration,
}

impl Ending {
    pub fn print(&self, screen: &Screen, demo: Duration) {
        let Took { whole, verify, upload, status } = self.took;
        let device = whole.saturating_sub(verify + upload + status);
        let line = |name: &str, part: Duration, what: &str| {
            screen.line(&format!("{name:<14}{:>7} ms  {what}", part.as_millis()));
        };
        line("verify", verify, "signatures checked, the accepted revision kept");
        line("upload", upload, "files read, hashed and put into the object store");
        line("device", device, "asked over libp2p; site server started, its files fetched and checked");
        line("status", status, "written to the API server");
        line("apply→Ready", whole, "from the object's arrival to its condition Ready=True");
        if let Some(restored) = self.restored {
            line(
                "restore",
                restored,
                "from `kubectl apply` of the revocation until the owner's release was served again",
            );
        }
        screen.line(&format!("{:<14}{:>7.1} s", "the demo", demo.as_secs_f64()));
    }
}

impl<'a> Story<'a> {
    pub const fn new(
        screen: &'a Screen,
        shell: &'a Shell<'a>,
        client: &'a Client,
        installation: &'a Installation,
    ) -> Self {
        Self { screen, shell, client, installation }
    }

    /// From a key to the second release.
    pub async fn serve(&self) -> Result<Served<'a>, CommandError> {
        let Self { screen, shell, client, installation: _ } = *self;
        self.authorise().await?;

        screen.heading("The owner signs and applies");
        shell.run(SIGN).await?;
        let mut timeline = Timeline::start(screen, client);
        shell.run("kubectl apply -f signed.yaml").await?;
        let (status, whole) = timeline.until("Ready", |status| ready(status, None)).await?;
        let took = self.took(whole).await?;
        shell.run("kubectl get hostingdeployment hello").await?;
        let url = status.url.ok_or_else(|| CommandError::new("the object is Ready and names no URL"))?;
        self.page(&url, GREETING).await?;

        screen.heading("Editing the ConfigMap alone leaves the page as it was");
        screen.remark(&format!("configmap.yaml now says {NEW_GREETING}"));
        shell.write("configmap.yaml", &CONFIG_MAP.replace(GREETING, NEW_GREETING))?;
        shell.run("kubectl apply -f configmap.yaml").await?;
        self.two_passes().await?;
        self.page(&url, GREETING).await?;

        screen.heading("Signed, it is a new release");
        timeline.reset();
        shell.run(SIGN).await?;
        shell.run("kubectl apply -f signed.yaml").await?;
        let (status, _) = timeline.until("the new release", |now| ready(now, status.release.as_deref())).await?;
        self.page(&url, NEW_GREETING).await?;
        Ok(Served { timeline, url, release: status.release, took, restored: None })
    }

    /// Key, grant, and what happens without a signature.
    async fn authorise(&self) -> Result<(), CommandError> {
        let Self { screen, shell, .. } = *self;
        shell.write("configmap.yaml", CONFIG_MAP)?;
        shell.write("hostingdeployment.yaml", DEPLOYMENT)?;
        screen.heading("The owner logs in: a new key, a challenge, a grant");
        let provider = format!("{OPERATOR_NAMESPACE}/default");
        shell
            .run(&format!("kubectl hosting login {provider} --namespace {} --name owner --new --yes", NAMES.namespace))
            .await?;

        screen.heading("Unsigned, it is refused by the API server");
        screen.remark("the same object, with its signature cut out");
        shell.run(&format!("{SIGN}; sed '/authorization:/d; /invocation:/d' signed.yaml > unsigned.yaml")).await?;
        if shell.show("kubectl apply -f unsigned.yaml").await?.success {
            return Err(CommandError::new("the API server took an unsigned HostingDeployment"));
        }
        Ok(())
    }

    /// A key to which the owner passed the right on changes the page, and loses that right.
    pub async fn take_back(&self, served: &mut Served<'a>) -> Result<(), CommandError> {
        let Self { screen, shell, .. } = *self;
        let Served { timeline, url, release: of_owner, .. } = served;
        screen.heading("The owner lets a pipeline sign as well");
        let did = shell.run("kubectl hosting wallet new --out ci.json").await?;
        shell
            .run(&format!(
                "kubectl hosting delegate --to {} --can apply --only hello --for 30m --out ci.token",
                did.trim()
            ))
            .await?;
        screen.remark(&format!("configmap.yaml now says {CI_GREETING}"));
        shell.write("configmap.yaml", &CONFIG_MAP.replace(GREETING, CI_GREETING))?;
        timeline.reset();
        shell.run(SIGN_BY_CI).await?;
        shell.run("kubectl apply -f by-ci.yaml").await?;
        timeline.until("the pipeline's release", |now| ready(now, of_owner.as_deref())).await?;
        self.page(url, CI_GREETING).await?;

        screen.heading("The pipeline's key is lost, and the owner takes the right back");
        let Names { namespace, revocation, .. } = NAMES;
        shell
            .run(&format!(
                "kubectl hosting token revoke --key wallet/key/owner.json --token ci.token --manifest {revocation} -n {namespace} > \
                 revocation.yaml"
            ))
            .await?;
        timeline.reset();
        let started = Instant::now();
        let (applied, shown) =
            futures::join!(shell.run("kubectl apply -f revocation.yaml"), self.shown(url, NEW_GREETING));
        applied?;
        served.restored = Some(shown?.duration_since(started));
        let restored = |now: &HostingDeploymentStatus| now.release == *of_owner && refused(now);
        timeline.until("the owner's release", restored).await?;
        self.page(url, NEW_GREETING).await?;
        shell.run(&format!("kubectl get capabilityrevocation {revocation}")).await?;
        Ok(())
    }

    /// When the page holds a text again.
    async fn shown(&self, url: &str, wanted: &str) -> Result<Instant, CommandError> {
        let failed = |error| CommandError::because(format!("{url} could not be fetched"), error);
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if reqwest::get(url).await.map_err(failed)?.text().await.map_err(failed)?.contains(wanted) {
                return Ok(Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Err(CommandError::new(format!("{url} did not show {wanted} again within {} s", PATIENCE.as_secs())))
    }

    /// What to try, until Ctrl-C.
    pub async fn invite(&self, served: &Served<'_>) {
        let Self { screen, shell, installation, .. } = *self;
        screen.heading("It goes on running. In another terminal:");
        for line in shell.exports().lines() {
            screen.line(line);
        }
        screen.heading("Then, for example:");
        for line in [
            "kubectl get hd,hp,hdev -A",
            "kubectl describe hd hello",
            "kubectl explain hd.spec.content",
            "kubectl hosting grants",
            &format!("curl {}", served.url),
            &format!("curl -s {}/metrics | grep usage", installation.http),
        ] {
            screen.line(line);
        }
        screen.remark("Ctrl-C here ends it and removes everything");
        std::future::pending::<()>().await;
    }

    /// Usage, and the end of the object.
    pub async fn end(&self, served: Served<'a>) -> Result<Ending, CommandError> {
        let Self { screen, shell, .. } = *self;
        let Served { mut timeline, url, release: _, took, restored } = served;
        screen.heading("What it used");
        self.usage().await?;

        screen.heading("Deleted");
        timeline.reset();
        shell.run("kubectl delete hostingdeployment hello").await?;
        timeline.until_gone().await?;
        let address = url.trim_start_matches("http://").trim_end_matches('/').parse();
        if address.is_ok_and(answers) {
            return Err(CommandError::new(format!("the object is gone, and something still answers at {url}")));
        }
        screen.line(&format!("nothing answers at {url} any more"));
        screen.remark("a mistaken deletion is undone by applying again: the files are kept for a while");
        let tombstones =
            format!("kubectl -n {OPERATOR_NAMESPACE} get configmap -l hosting.nunet.io/component=tombstone");
        let columns = "-o go-template='{{range .items}}kept until {{.data.keptUntil}}{{\"\\n\"}}{{.data.releases}}\
                       {{\"\\n\"}}{{end}}'";
        shell.run(&format!("{tombstones} {columns}")).await?;
        Ok(Ending { took, restored })
    }

    /// Fetches the page and demands that it holds a text.
    async fn page(&self, url: &str, wanted: &str) -> Result<(), CommandError> {
        let failed = |error| CommandError::because(format!("{url} could not be fetched"), error);
        let answer = reqwest::get(url).await.map_err(failed)?;
        let code = answer.status();
        let body = answer.text().await.map_err(failed)?;
        let greeting = body.lines().map(str::trim).find(|line| line.starts_with("<h1>")).unwrap_or("no heading");
        self.screen.line(&format!("GET {url} → {code}: {greeting}"));
        if body.contains(wanted) { Ok(()) } else { Err(CommandError::new(format!("{url} does not show {wanted}"))) }
    }

    /// The operator has looked at the object twice more.
    async fn two_passes(&self) -> Result<(), CommandError> {
        let passes = |samples: &BTreeMap<String, f64>| {
            samples.get("dms_operator_reconciles_total{kind=\"HostingDeployment\"}").copied().unwrap_or_default()
        };
        let before = passes(&self.samples().await?);
        self.sampled("two more passes", |samples| (passes(samples) >= before + 2.0).then_some(())).await
    }

    async fn usage(&self) -> Result<(), CommandError> {
        let object = format!("{{namespace=\"{}\",name=\"{}\"}}", NAMES.namespace, NAMES.deployment);
        let find = |samples: &BTreeMap<String, f64>, name: &str| {
            samples.get(&format!("dms_operator_usage_{name}{object}")).copied()
        };
        let sent = "network_sent_bytes_total";
        let seconds = "allocation_seconds_total";
        let samples = self
            .sampled("usage", |samples| {
                let counted = find(samples, sent)? > 0.0 && find(samples, seconds)? > 0.0;
                counted.then(|| samples.clone())
            })
            .await?;
        for (name, value) in &samples {
            if let Some(name) = name.strip_suffix(&object).filter(|name| name.starts_with("dms_operator_usage_")) {
                self.screen.line(&format!("{name:<58}{value:>16}"));
            }
        }
        Ok(())
    }

    /// How the time until Ready divides, by the operator's own measurements of its first passes.
    async fn took(&self, whole: Duration) -> Result<Took, CommandError> {
        let samples = self.samples().await?;
        let stage = |stage: Stage| {
            let name = format!("dms_operator_reconcile_stage_duration_seconds_sum{{stage=\"{}\"}}", stage.as_str());
            Duration::from_secs_f64(samples.get(&name).copied().unwrap_or_default())
        };
        Ok(Took { whole, verify: stage(Stage::Authorise), upload: stage(Stage::Publish), status: stage(Stage::Status) })
    }

    /// Waits until the samples say something.
    async fn sampled<T>(
        &self,
        what: &str,
        wanted: impl Fn(&BTreeMap<String, f64>) -> Option<T>,
    ) -> Result<T, CommandError> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = wanted(&self.samples().await?) {
                return Ok(found);
            }
            if Instant::now() >= until {
                let seconds = PATIENCE.as_secs();
                return Err(CommandError::new(format!("{what} did not show on /metrics within {seconds} s")));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn samples(&self) -> Result<BTreeMap<String, f64>, CommandError> {
        let url = format!("{}/metrics", self.installation.http);
        let failed = |error| CommandError::because(format!("{url} could not be read"), error);
        let text = reqwest::get(&url).await.map_err(failed)?.text().await.map_err(failed)?;
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        Ok(samples
            .filter_map(|line| line.rsplit_once(' '))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect())
    }
}
