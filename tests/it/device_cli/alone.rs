//! A node and somebody with a key: no cluster.

use super::*;

/// A node in this process, and its owner, a root of it.
struct Alone {
    node: RunningNode,
    did: Did,
    address: String,
    owner: Wallet,
    person: Person,
}

impl Alone {
    async fn start(name: &str) -> Self {
        let (key, owner) = (Wallet::random().unwrap(), Wallet::random().unwrap());
        let person = Person::new(name, None);
        let did = key.did().clone();
        let context = Context {
            did: did.clone(),
            roots: vec![owner.did().clone()],
            require: vec![],
            provide: vec![],
            revoke: vec![],
        };
        let config = NodeConfig {
            key: key.key,
            context,
            directory: person.folder.join("node"),
            own_image: format!("dms-operator@sha256:{}", "0".repeat(64)),
            program: PathBuf::from("/bin/false"),
            entry: Entry::SITE,
            bind: "127.0.0.1".parse().unwrap(),
            public_host: "127.0.0.1".to_owned(),
            offer: Offer { cores: 1.0, memory_bytes: 1e9, disk_bytes: 1e9 },
            onboarded: true,
            faults: Faults::default(),
            wire_log: false,
            clock: wall_clock(),
        };
        let node = RunningNode::start(config, vec!["/ip4/127.0.0.1/tcp/0".to_owned()]).await.unwrap();
        let address = node.addresses()[0].clone();
        let this = Self { node, did, address, owner, person };
        this.seed("owner", &this.owner);
        this
    }

    fn seed(&self, called: &str, wallet: &Wallet) {
        fs::write(self.path(&format!("{called}.seed")), hex::encode(wallet.key.expose_seed())).unwrap();
    }

    fn path(&self, file: &str) -> PathBuf {
        Path::new(&self.person.folder).join(file)
    }

    /// `call … --addr`, with a time that silence may take.
    async fn call(&self, behaviour: &str, more: &[&str]) -> Ended {
        let line = ["call", behaviour, "--addr", &self.address, "--timeout", "2s"];
        self.person.run(&[&line[..], more].concat()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_called_by_address_and_key() {
    let _timed = Timed::start();
    let alone = Alone::start("device-alone").await;
    let own = ["--seed-file", "owner.seed"];
    let reply = alone.call("peers/self", &own).await.json();
    assert_eq!(reply, json!({"id": alone.did.peer_id(), "listen_addr": alone.address}));
    let yaml = alone.call("onboarding/status", &["--seed-file", "owner.seed", "-o", "yaml"]).await.done();
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap()["onboarded"], true);

    let named = format!("{}/p2p/{}", alone.address, alone.did.peer_id());
    let reply = alone.person.run(&["call", "peers/self", "--addr", &named, "--seed-file", "owner.seed"]).await;
    assert_eq!(reply.json()["id"], alone.did.peer_id());
    let other = format!("{}/p2p/{}", alone.address, alone.owner.did().peer_id());
    let refused = alone.person.run(&["call", "peers/self", "--addr", &other, "--seed-file", "owner.seed"]).await;
    refused.refused(1, "not the node that the address names");

    // A stranger meets silence, and is told what it may mean.
    let provider = Wallet::random().unwrap();
    alone.seed("provider", &provider);
    let before = alone.node.node().dropped();
    let silent = alone.call("peers/self", &["--seed-file", "provider.seed"]).await;
    silent.refused(3, "a device is silent too when the grant lacks the capability");
    let after = alone.node.node().dropped();
    assert_ne!(
        before.get("NotAnchored"),
        after.get("NotAnchored"),
        "the node dropped it for want of a right: {after:?}"
    );
    alone.call("peers/score", &own).await.refused(3, "did not answer /dms/node/peers/score");

    let grant = alone.owner.device_grant(provider.did(), in_future(Duration::from_secs(600))).unwrap();
    fs::write(alone.path("grant.json"), grant.to_json()).unwrap();
    let granted = ["--seed-file", "provider.seed", "--grant", "grant.json"];
    assert_eq!(alone.call("peers/self", &granted).await.json()["id"], alone.did.peer_id());
    alone.call("/dms/cap/list", &granted).await.refused(1, "does not allow /dms/cap/list");
    let gone = ["call", "peers/self", "--addr", "/ip4/127.0.0.1/tcp/1", "--seed-file", "owner.seed"];
    alone.person.run(&gone).await.refused(1, "nobody answers at /ip4/127.0.0.1/tcp/1");
    alone.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_added_by_its_address() {
    let _timed = Timed::start();
    let alone = Alone::start("device-added").await;
    let provider = Wallet::random().unwrap();
    alone.seed("provider", &provider);
    let add = async |more: &[&str]| alone.person.run(&[&["add", &alone.address][..], more].concat()).await;

    let found = add(&[]).await;
    let told = found.err.clone();
    let manifest: Value = serde_saphyr::from_str(&found.done()).unwrap();
    assert_eq!(manifest["spec"], json!({"did": alone.did.as_str(), "addresses": [alone.address]}));
    assert!(manifest["metadata"]["name"].as_str().unwrap().starts_with("device-"), "{manifest}");
    let owner = format!("token device-grant --key owner.json --to \"$PROVIDER\" --device {}", alone.did);
    assert!(told.contains(&owner) && told.contains("not known here"), "{told}");
    let known = add(&["--provider-did", provider.did().as_str()]).await;
    assert!(known.err.contains(&format!("--to {} --device", provider.did())), "{known:?}");

    // With key and grant it is tried, and the grant goes into the manifest.
    let grant = alone.owner.device_grant(provider.did(), in_future(Duration::from_secs(600))).unwrap();
    fs::write(alone.path("grant.json"), grant.to_json()).unwrap();
    let whole = ["--name", "rack-1", "-n", "ns", "-o", "json", "--grant", "grant.json", "--seed-file", "provider.seed"];
    let manifest = add(&whole).await.json();
    assert_eq!(manifest["metadata"], json!({"name": "rack-1", "namespace": "ns"}));
    assert_eq!(manifest["spec"]["grant"], String::from_utf8(grant.to_json()).unwrap());

    let elsewhere = alone.owner.delegate(
        provider.did(),
        Some(provider.did()),
        &["/dms".into()],
        in_future(Duration::from_secs(600)),
        1,
        None,
    );
    fs::write(alone.path("elsewhere.json"), elsewhere.unwrap().to_json()).unwrap();
    add(&["--grant", "elsewhere.json"]).await.refused(1, "it is for use at");
    add(&["--seed-file", "provider.seed", "--timeout", "2s"]).await.refused(3, "did not answer /dms/node/peers/self");
    add(&["--name", "Rack_1"]).await.refused(1, "cannot be the name");
    let other = format!("{}/p2p/{}", alone.address, provider.did().peer_id());
    alone.person.run(&["add", &other]).await.refused(1, "not the node that the address names");

    let listen = vec!["/ip4/127.0.0.1/tcp/0".to_owned()];
    let config = LinkConfig { key: provider.key, listen, inboxes: vec!["user-1".to_owned()], topics: None };
    let (no_dms, _arrived) = Link::start(config).await.unwrap();
    let address = no_dms.listen_addresses().await.remove(0);
    alone.person.run(&["add", &address]).await.refused(1, "does not speak DMS: it has no root actor");
    no_dms.stop().await;
    alone.node.stop().await;
}
