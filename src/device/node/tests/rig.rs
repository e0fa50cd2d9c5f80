//! One node and one caller.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinHandle, time};
use tokio_util::sync::CancellationToken;

use crate::{
    capability::{
        Capability, Context, Did, Envelope, Handle, Key, Minting, Nanos, Token, parse_token_list, token_list,
    },
    device::{
        actor::OutboundFrame,
        dms::{self, DeploymentState, ManifestReply, StatusReply, path},
        libp2p::{InboundFrame, Via},
        node::{Entry, Faults, Node, NodeConfig, NodeError, Offer, StateError, copies::Asked},
    },
    plan::build::{AllocationSpec, EnsembleSpec, PortSpec},
};

/// How long a condition is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn random_key() -> Key {
    Key::from_seed(rand::random())
}

pub fn own_image() -> String {
    format!("dms-operator@sha256:{}", "ab".repeat(32))
}

/// A shell that says where it listens, then lives until its parent is gone.
pub const WAIT: &str = "echo $HOSTING_LISTEN > listen; echo $$ > pid; while read line; do :; done";

pub struct Rig {
    pub directory: TempDir,
    pub node_key: Key,
    pub caller: Key,
    pub clock: Arc<AtomicU64>,
    pub node: Node,
    inbound: mpsc::Sender<InboundFrame>,
    pub outbound: mpsc::Receiver<OutboundFrame>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

pub fn config(directory: &Path, key: &Key, root: &Key, clock: &Arc<AtomicU64>) -> NodeConfig {
    let clock = Arc::clone(clock);
    NodeConfig {
        key: key.clone(),
        context: Context {
            did: key.did().clone(),
            roots: vec![root.did().clone()],
            require: vec![],
            provide: vec![],
            revoke: vec![],
        },
        directory: directory.to_owned(),
        own_image: own_image(),
        program: "/bin/sh".into(),
        entry: Entry { command: "-c", environment: &["GIVEN"] },
        bind: [127, 0, 0, 1].into(),
        public_host: "192.0.2.1".into(),
        offer: Offer { cores: 40.0, memory_bytes: 10_000.0, disk_bytes: 10_000.0 },
        onboarded: true,
        faults: Faults::default(),
        wire_log: true,
        clock: Arc::new(move || Nanos(clock.load(Ordering::SeqCst))),
    }
}

impl Rig {
    pub async fn start() -> Self {
        let clock = Arc::new(AtomicU64::new(1_900_000_000_000_000_000));
        Self::start_in(tempfile::tempdir().unwrap(), random_key(), random_key(), clock).await
    }

    pub async fn start_in(directory: TempDir, node_key: Key, caller: Key, clock: Arc<AtomicU64>) -> Self {
        let config = config(directory.path(), &node_key, &caller, &clock);
        let addresses = vec!["/ip4/127.0.0.1/tcp/1".into(), "/ip4/127.0.0.1/tcp/2".into()];
        let until = Instant::now() + PATIENCE;
        let node = loop {
            match Node::open(config.clone(), addresses.clone()).await {
                // A process that another test is just starting has a copy of this lock until it runs its own program.
                Err(NodeError::State(StateError::InUse(_))) if Instant::now() < until => tokio::task::yield_now().await,
                opened => break opened.unwrap(),
            }
        };
        let (inbound, frames) = mpsc::channel(64);
        let (replies, outbound) = mpsc::channel(64);
        let stop = CancellationToken::new();
        let task = tokio::spawn({
            let (node, stop) = (node.clone(), stop.clone());
            async move { node.serve(frames, replies, stop).await }
        });
        Self { directory, node_key, caller, clock, node, inbound, outbound, stop, task }
    }

    /// Stops the node and gives what is left of it.
    pub async fn stop(self) -> (TempDir, Key, Key, Arc<AtomicU64>) {
        self.stop.cancel();
        self.task.await.unwrap();
        (self.directory, self.node_key, self.caller, self.clock)
    }

    pub async fn restart(self) -> Self {
        let (directory, node_key, caller, clock) = self.stop().await;
        Self::start_in(directory, node_key, caller, clock).await
    }

    pub fn now(&self) -> Nanos {
        Nanos(self.clock.load(Ordering::SeqCst))
    }

    pub fn pass(&self, duration: Duration) {
        self.clock.fetch_add(u64::try_from(duration.as_nanos()).unwrap(), Ordering::SeqCst);
    }

    /// An envelope as DMS would send it, not signed yet.
    pub fn envelope(&self, sender: &Key, behaviour: &str, payload: &Value, expires_in: Duration) -> Envelope {
        let node = self.node_key.did();
        let expires = self.now().plus(expires_in);
        let continuation = format!("/dms/actor/replyto/{:032x}", rand::random::<u128>());
        let minting = |subject: &Did, audience: &Did, path: &str, depth| Minting {
            subject: subject.clone(),
            audience: Some(audience.clone()),
            capabilities: vec![Capability::parse(path).unwrap()],
            topics: vec![],
            expires,
            depth,
            nonce: rand::random(),
        };
        let invocation = Token::invoke(sender, minting(sender.did(), node, behaviour, 0), None).unwrap();
        let back = Token::delegate(sender, minting(node, sender.did(), &continuation, 1), None).unwrap();
        let host = Some(sender.did().peer_id());
        Envelope {
            to: Handle::root_of(node),
            behaviour: behaviour.to_owned(),
            from: Handle::of(sender.did(), host, Some("user-7".to_owned())),
            nonce: rand::random(),
            expires,
            continuation: Some(continuation),
            topic: None,
            message: payload.to_string().into_bytes(),
            capabilities: token_list(&[invocation, back]),
            signature: None,
        }
    }

    /// A broadcast as DMS would send it, not signed yet.
    pub fn broadcast(&self, sender: &Key, behaviour: &str, topic: &str, payload: &Value) -> Envelope {
        let mut envelope = self.envelope(sender, behaviour, payload, super::MINUTES);
        let mut tokens = parse_token_list(&envelope.capabilities).unwrap();
        let minting = Minting {
            subject: sender.did().clone(),
            audience: None,
            capabilities: vec![Capability::parse(behaviour).unwrap()],
            topics: vec![Capability::parse(topic).unwrap()],
            expires: envelope.expires,
            depth: 0,
            nonce: rand::random(),
        };
        tokens[0] = Token::broadcast(sender, minting, None).unwrap();
        envelope.to = Handle::default();
        envelope.topic = Some(topic.to_owned());
        envelope.capabilities = token_list(&tokens);
        envelope
    }

    /// Has a broadcast come by a topic, from whom it says that it is.
    pub async fn send_broadcast(&self, topic: &str, envelope: &Envelope) {
        let peer = envelope.from.host.clone().unwrap();
        let frame = InboundFrame { peer, via: Via::Topic(topic.to_owned()), body: envelope.to_json() };
        self.inbound.send(frame).await.unwrap();
    }

    /// What the caller asks for by a job.
    pub fn asked(&self, deployment: &str, allocation: &str) -> Asked {
        let by = self.caller.did().clone();
        Asked { deployment: deployment.to_owned(), allocation: allocation.to_owned(), by }
    }

    /// Sends an envelope of the caller.
    pub async fn send(&self, envelope: &Envelope) {
        self.send_frame(self.caller.did().peer_id(), "root", envelope.to_json()).await;
    }

    pub async fn send_frame(&self, peer: String, inbox: &str, body: Vec<u8>) {
        self.inbound.send(InboundFrame { peer, via: Via::Inbox(inbox.to_owned()), body }).await.unwrap();
    }

    /// The payload of the next reply, which must be one to `request` in every respect.
    pub async fn reply_to(&mut self, request: &Envelope) -> Value {
        let frame = time::timeout(PATIENCE, self.outbound.recv()).await.expect("no reply came").unwrap();
        let OutboundFrame { peer, inbox, body, spoil: _ } = frame;
        assert_eq!((Some(peer), Some(inbox)), (request.from.host.clone(), request.from.inbox.clone()));
        let reply = Envelope::parse(&body).unwrap();
        let continuation = request.continuation.clone().unwrap();
        assert_eq!((&reply.to, &reply.behaviour), (&request.from, &continuation));
        assert_eq!((&reply.from, reply.expires), (&Handle::root_of(self.node_key.did()), request.expires));
        assert_eq!((&reply.continuation, reply.verify(self.now()).unwrap()), (&None, self.node_key.did().clone()));
        // A DMS caller lets a reply in by the delegation that it sent along, and by nothing else.
        let context =
            Context { did: self.caller.did().clone(), roots: vec![], require: vec![], provide: vec![], revoke: vec![] };
        context.authorise(&reply, &Capability::parse(&continuation).unwrap(), self.now()).unwrap();
        serde_json::from_slice(&reply.message).unwrap()
    }

    pub async fn call(&mut self, behaviour: &str, payload: Value) -> Value {
        self.call_for(behaviour, payload, Duration::from_mins(5)).await
    }

    pub async fn call_for(&mut self, behaviour: &str, payload: Value, expires_in: Duration) -> Value {
        let request = self.envelope(&self.caller, behaviour, &payload, expires_in).sign(&self.caller);
        self.send(&request).await;
        self.reply_to(&request).await
    }

    /// The request for a shell that runs `script`.
    pub fn request(&self, script: &str, public: &[u16]) -> Value {
        dms::deployment_new_request(&EnsembleSpec {
            peer: self.node_key.did().peer_id(),
            allocations: vec![AllocationSpec {
                name: "web".into(),
                image: own_image(),
                args: vec!["-c".into(), script.into()],
                env: vec![("GIVEN".into(), "a=b".into())],
                cpu_millis: 500,
                memory_bytes: 100,
                disk_bytes: 10,
                ports: public.iter().map(|public| PortSpec { public: *public, private: 8080 }).collect(),
            }],
            metadata: BTreeMap::from([("owner".into(), "tests".into())]),
        })
    }

    pub async fn new_deployment(&mut self, request: Value) -> String {
        let reply = self.call(path::DEPLOYMENT_NEW, request).await;
        assert_eq!(reply["Status"], "OK", "{reply}");
        let id = reply["EnsembleID"].as_str().unwrap().to_owned();
        assert!(id.len() == 64 && id.chars().all(|digit| digit.is_ascii_hexdigit()), "{id}");
        id
    }

    pub async fn status(&mut self, id: &str) -> StatusReply {
        let reply = self.call(path::DEPLOYMENT_STATUS, json!({"id": id, "include_usage": true})).await;
        dms::tolerant::decode(reply).unwrap()
    }

    pub async fn manifest(&mut self, id: &str) -> ManifestReply {
        let reply = self.call(path::DEPLOYMENT_MANIFEST, json!({"ID": id})).await;
        dms::tolerant::decode(reply).unwrap()
    }

    /// Waits until the status is as wanted.
    pub async fn status_when(&mut self, id: &str, wanted: impl Fn(&StatusReply) -> bool) -> StatusReply {
        let deadline = time::Instant::now() + PATIENCE;
        loop {
            let status = self.status(id).await;
            if wanted(&status) {
                return status;
            }
            assert!(time::Instant::now() < deadline, "still {status:?}");
            time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn until_state(&mut self, id: &str, state: DeploymentState) -> StatusReply {
        self.status_when(id, |status| status.state == Some(state.into())).await
    }

    /// A new deployment that runs.
    pub async fn running(&mut self, script: &str, public: &[u16]) -> String {
        let request = self.request(script, public);
        let id = self.new_deployment(request).await;
        self.until_state(&id, DeploymentState::Running).await;
        id
    }

    /// The public port of a deployment.
    pub async fn port_of(&mut self, id: &str) -> u16 {
        let manifest = self.manifest(id).await.manifest.unwrap();
        let ports: Vec<u16> = manifest.allocations["device.web"].ports.keys().copied().collect();
        assert_eq!(ports.len(), 1, "{manifest:?}");
        ports[0]
    }

    /// Waits for a file that a child writes into its directory, with a whole line.
    pub async fn written(&self, id: &str, file: &str) -> String {
        let path = self.directory.path().join("deployments").join(id).join("device.web").join(file);
        let text = || std::fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n'));
        until(&format!("{} is written", path.display()), || text().is_some()).await;
        text().unwrap().trim_end().to_owned()
    }

    pub fn wire_log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.directory.path().join("wire.log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// From now on no state can be written.
    pub fn fill_disk(&self) {
        let state = self.directory.path().join("state.json");
        std::fs::rename(&state, state.with_extension("aside")).unwrap();
        // A file cannot be renamed over a directory.
        std::fs::create_dir(state).unwrap();
    }

    pub fn empty_disk(&self) {
        let state = self.directory.path().join("state.json");
        std::fs::remove_dir(&state).unwrap();
        std::fs::rename(state.with_extension("aside"), state).unwrap();
    }

    /// Waits for an allocation to do this, and for a state written meanwhile to have met a full disk.
    pub async fn doing_on_a_full_disk(&mut self, id: &str, phase: &str) {
        let record = self.node.0.lifecycle.store.get(id).await.unwrap();
        let lifecycle = Arc::clone(&self.node.0.lifecycle);
        let does = || lifecycle.allocations_of(&record, false).values().all(|info| info.status == phase);
        until(&format!("the allocation is {phase}"), does).await;
        // Writes wait for each other.
        let request = self.request("exit", &[]);
        let refused = self.call(path::DEPLOYMENT_NEW, request).await;
        assert!(refused["Error"].as_str().unwrap().contains("could not write"), "{refused}");
    }

    pub fn set_faults(&self, faults: &str) {
        std::fs::write(self.directory.path().join("faults"), faults).unwrap();
    }
}

/// Waits for a condition.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(time::Instant::now() < deadline, "it never came that {what}");
        time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn is_alive(pid: &str) -> bool {
    // A zombie has ended too.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z')))
}
