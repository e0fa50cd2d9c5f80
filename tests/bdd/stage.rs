//! What one scenario has: an installation, an owner, pages, and what was applied.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use cucumber::World;
use dms_operator::{
    api::HostingDeploymentStatus,
    capability::{Nanos, Token},
    dev::{S3Request, installation::Installation},
    device::dms::DeploymentState,
};
use k8s_openapi::{
    api::{
        authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
        rbac::v1::RoleBinding,
    },
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;

use crate::{
    cluster::{self, eventually, shared},
    desk::{Desk, Ended},
    steps::{door::Dealings, notices::Inbox, sign_in::SignIn},
    timed::Timed,
    world::{Tenant, deployments_of, installation_with, name, release_of},
};

/// How long the provider of all scenarios keeps work whose grant has ended.
pub const KEPT: Duration = Duration::from_secs(4);

/// The files of a release and what a browser shows of them.
#[derive(Clone, Debug)]
pub struct Page {
    pub files: BTreeMap<String, String>,
    pub body: String,
    pub release: String,
}

impl Page {
    fn new(style: &str) -> Self {
        let body = format!("<h1>{}</h1>", uuid::Uuid::new_v4());
        let files =
            BTreeMap::from([("index.html".to_owned(), body.clone()), ("style.css".to_owned(), style.to_owned())]);
        let release = release_of(&files);
        Self { files, body, release }
    }
}

/// What was applied last.
#[derive(Clone, Debug)]
pub struct Applied {
    pub name: String,
    /// As it was signed.
    pub text: String,
}

/// The status with which a page was seen served.
#[derive(Clone, Debug)]
pub struct Served {
    pub name: String,
    pub url: String,
    pub status: HostingDeploymentStatus,
}

#[derive(World)]
#[world(init = Self::new)]
pub struct Stage {
    pub timed: Option<Timed>,
    /// One for this scenario alone; without it, the one that scenarios share.
    pub own: Option<Box<Installation>>,
    shared: Option<&'static Installation>,
    pub namespace: String,
    owner: Option<Desk>,
    provider: Option<Desk>,
    pub pipeline: Option<Desk>,
    /// Somebody else with a page of the same bytes.
    pub neighbour: Option<Desk>,
    /// Where the owner keeps the grant.
    pub grant: Option<PathBuf>,
    /// What the owner passed on, and where the pipeline keeps it.
    pub delegation: Option<PathBuf>,
    /// The one name that the delegation is for.
    pub pipeline_name: String,
    /// Name of the neighbour's deployment.
    pub neighbour_name: String,
    pub sign_in: SignIn,
    pub dealings: Dealings,
    pub inbox: Inbox,
    pub page: Page,
    pub other: Page,
    /// The first that was signed of the deployment that is served.
    pub first: Option<Applied>,
    pub applied: Option<Applied>,
    pub served: Option<Served>,
    pub ended: Option<Ended>,
    /// Bytes that must have been counted as sent.
    pub sent: f64,
    /// What the store had been asked under the owner's DID when the last object was applied.
    heard: usize,
}

impl fmt::Debug for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, applied, served, ended, .. } = self;
        let mut shown = formatter.debug_struct("Stage");
        shown.field("namespace", namespace).field("applied", applied).field("served", served);
        shown.field("ended", ended).finish_non_exhaustive()
    }
}

/// What all scenarios share that need no installation of their own.
async fn installation() -> &'static Installation {
    static SHARED: OnceCell<Installation> = OnceCell::const_new();
    SHARED.get_or_init(|| start("bdd")).await
}

/// An installation with one device, which keeps expired work for a moment only.
pub async fn start(called: &str) -> Installation {
    // Each scenario adds the offers that it needs.
    let terms = json!({"policy": {"keepExpiredFor": format!("{}s", KEPT.as_secs())}, "grants": []});
    installation_with(called, 1, &["--resync", "2s", "--allow-private-archives"], &[], terms).await
}

impl Stage {
    fn new() -> Self {
        let style = format!("h1::after {{ content: '{}' }}", uuid::Uuid::new_v4());
        Self {
            timed: None,
            own: None,
            shared: None,
            namespace: String::new(),
            owner: None,
            provider: None,
            pipeline: None,
            neighbour: None,
            grant: None,
            delegation: None,
            pipeline_name: String::new(),
            neighbour_name: String::new(),
            sign_in: SignIn::default(),
            dealings: Dealings::default(),
            inbox: Inbox::default(),
            page: Page::new(&style),
            other: Page::new(&style),
            first: None,
            applied: None,
            served: None,
            ended: None,
            sent: 0.0,
            heard: 0,
        }
    }

    pub async fn open(&mut self) {
        let installation = installation().await;
        self.namespace = cluster::namespace(&installation.client).await;
        self.shared = Some(installation);
    }

    pub fn installation(&self) -> &Installation {
        self.own.as_deref().or(self.shared).expect("the scenario begins with a provider")
    }

    pub fn owner(&self) -> &Desk {
        self.owner.as_ref().expect("the scenario begins with an owner")
    }

    /// Somebody with a new key who may apply in the namespace, as the cluster's own role `edit` permits.
    pub async fn newcomer(&self, called: &str) -> Desk {
        let user = format!("{called}-{}", name());
        let binding: RoleBinding = serde_json::from_value(json!({
            "metadata": {"name": user},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }))
        .unwrap();
        let bindings: Api<RoleBinding> = Api::namespaced(self.installation().client.clone(), &self.namespace);
        bindings.create(&PostParams::default(), &binding).await.unwrap();
        let credentials = shared().await.user(&user, &[]).unwrap();
        let reviews: Api<SelfSubjectAccessReview> = Api::all(credentials.client().await.unwrap());
        let question = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: Some("hosting.nunet.io".into()),
                    resource: Some("hostingdeployments".into()),
                    verb: Some("patch".into()),
                    namespace: Some(self.namespace.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        eventually("the right to apply", async || {
            let answer = reviews.create(&PostParams::default(), &question).await.unwrap().status.unwrap();
            if answer.allowed { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
        Desk::new(called, &credentials)
    }

    pub async fn seat_owner(&mut self) {
        self.owner = Some(self.newcomer("owner").await);
    }

    /// The provider's desk: the key of the operator, and the rights of an administrator.
    pub async fn provider(&mut self) -> &Desk {
        if self.provider.is_none() {
            let wallet = self.installation().provider.clone();
            self.provider = Some(Desk::with_seed("provider", wallet, shared().await.admin()));
        }
        self.provider.as_ref().unwrap()
    }

    /// Moves to an installation of its own.
    pub async fn move_out(&mut self) {
        self.own = Some(Box::new(start("bdd-own").await));
        self.provider = None;
    }

    /// The kit's view of the owner, for what no command line makes and for questions.
    pub fn tenant(&self) -> Tenant<'_> {
        let installation = self.installation();
        let owner = self.owner().wallet.clone();
        let hour = Nanos(dms_operator::controller::clock::wall().0 + 3_600_000_000_000);
        let grant = installation.provider.grant(owner.did(), &self.namespace, hour).unwrap();
        Tenant { installation, client: installation.client.clone(), namespace: self.namespace.clone(), owner, grant }
    }

    /// Takes away what the scenario applied, so that what comes later has the machine.
    pub async fn leave(&self) {
        if self.own.is_none() && !self.namespace.is_empty() {
            let all = (DeleteParams::default(), ListParams::default());
            self.tenant().api().delete_collection(&all.0, &all.1).await.unwrap();
        }
    }

    pub fn grant(&self) -> Token {
        Token::parse(std::fs::read(self.grant.as_ref().unwrap()).unwrap().trim_ascii()).unwrap()
    }

    /// The files of a page as a ConfigMap.
    pub fn files(&self, name: &str, page: &Page) -> Value {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": self.namespace}, "data": page.files,
        })
    }

    /// What an owner writes: `kubectl hosting sign` adds the rest.
    pub fn object(&self, name: &str) -> Value {
        json!({
            "apiVersion": "hosting.nunet.io/v1alpha1",
            "kind": "HostingDeployment",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "providerRef": {"namespace": self.installation().plan.namespace, "name": "default"},
                "content": {"from": {"configMap": {"name": name}}, "access": "Public"},
            },
        })
    }

    /// Both: a deployment of a page.
    pub fn site(&self, name: &str, page: &Page) -> [Value; 2] {
        [self.files(name, page), self.object(name)]
    }

    /// From here on it is asked what store and device hear.
    pub fn applying(&mut self, name: &str, text: &str) {
        self.heard = self.writes_of(self.owner()).len();
        self.applied = Some(Applied { name: name.to_owned(), text: text.to_owned() });
    }

    pub fn applied_name(&self) -> &str {
        &self.applied.as_ref().expect("something was applied").name
    }

    pub fn served(&self) -> &Served {
        self.served.as_ref().expect("something was served")
    }

    /// What the store was asked to keep under somebody's DID.
    pub fn writes_of(&self, desk: &Desk) -> Vec<S3Request> {
        let place = format!("/{}/", prefix(desk));
        let mut requests = self.installation().s3.requests();
        requests.retain(|request| !matches!(&*request.method, "GET" | "HEAD") && request.path.contains(&place));
        requests
    }

    /// The deployments that the device ever took for an object, over or not.
    pub fn on_device(&self, name: &str) -> BTreeMap<String, DeploymentState> {
        deployments_of(self.installation(), 0, &self.namespace, name)
    }

    /// Neither the device nor the store heard of what was applied last.
    pub fn assert_unheard(&self) {
        let writes = self.writes_of(self.owner()).split_off(self.heard);
        assert!(writes.is_empty(), "the store was asked: {writes:#?}");
        assert_eq!(self.on_device(self.applied_name()), BTreeMap::new());
    }
}

/// The conditions of an object, a line each.
pub fn shown(status: &HostingDeploymentStatus) -> String {
    let line = |found: &Condition| format!("  {} {} {}: {}", found.type_, found.status, found.reason, found.message);
    status.conditions.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Where the store keeps what belongs to a DID.
pub fn prefix(desk: &Desk) -> String {
    hex::encode(Sha256::digest(desk.wallet.did().as_str()))
}
