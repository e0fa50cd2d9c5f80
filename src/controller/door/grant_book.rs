//! What was given, kept in the operator's namespace until it expires: one ConfigMap a grant, so that a provider can list and
//! revoke them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
};

use crate::{
    api::{
        Reason,
        door::Declined,
        names::{LABEL_COMPONENT, LABEL_SUBJECT},
    },
    capability::{Did, Handle, Nanos, Token},
    controller::{context::Context, error::Error, notices::Subscription},
    device::{
        actor::{Asked, Origin},
        libp2p::is_inbox,
    },
    plan::login::Issued,
};

const COMPONENT: &str = "grant";
/// Grants of one DID that have not expired.
const OF_DID: usize = 32;
/// Grants of all.
const OF_ALL: usize = 20_000;

/// A grant that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    did: Did,
    issued: Nanos,
    expires: Nanos,
    notices: Option<Subscription>,
}

/// Grants that were given and have not expired, by the name of their ConfigMap.
#[derive(Debug, Default)]
pub struct GrantBook(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    kept: BTreeMap<String, Kept>,
    /// Those that are being written: no list need show them.
    writing: BTreeSet<String>,
    /// What was given before this process was started is in it.
    loaded: bool,
}

/// Holds the place of a grant that is being written, whatever ends that.
struct Writing<'a> {
    book: &'a GrantBook,
    name: &'a str,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.book.lock().writing.remove(self.name);
    }
}

impl GrantBook {
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more may be given.
    pub(super) fn check_room(&self, did: &Did) -> Result<(), Declined> {
        check_room(&self.lock(), did)
    }

    /// Records a grant. It may be handed out once this has gone well.
    pub(super) async fn keep(&self, context: &Context, issued: &Issued, asked: &Asked) -> Result<(), Declined> {
        let (name, record, kept) = record(issued, listens(&asked.envelope.from, &asked.origin));
        {
            // Its place is taken before it is written, so that many at once are not too many.
            let mut book = self.lock();
            check_room(&book, &issued.claim.did)?;
            book.kept.insert(name.clone(), kept.clone());
            book.writing.insert(name.clone());
        }
        let _writing = Writing { book: self, name: &name };
        let created = api(context).create(&PostParams::default(), &record).await;
        created.map(|_| subscribe(context, &kept)).map_err(|error| {
            self.lock().kept.remove(&name);
            tracing::error!(%error, name, "a grant could not be recorded, so it is not given");
            let message = "the grant could not be recorded, so it is not given. Run `kubectl hosting login` again";
            Declined::new(Reason::ClusterUnavailable, message)
        })
    }
}

fn check_room(Book { kept, writing: _, loaded }: &Book, did: &Did) -> Result<(), Declined> {
    if !loaded {
        let message = "the provider has not read yet which grants it gave before. Ask again in a moment";
        return Err(Declined::new(Reason::ClusterUnavailable, message));
    }
    let of_did = kept.values().filter(|kept| kept.did == *did).count();
    let message = if of_did >= OF_DID {
        format!(
            "{did} has {of_did} grants that have not expired, as many as one DID may have. Use one of them \
             (`kubectl hosting grants`), or wait until one expires"
        )
    } else if kept.len() >= OF_ALL {
        format!("the provider has given {} grants that have not expired, as many as it keeps. Ask it", kept.len())
    } else {
        return Ok(());
    };
    Err(Declined::new(Reason::TooManyGrants, message))
}

/// Host and inbox where the asker listens: only the connection that the request came over proves a host.
fn listens(from: &Handle, origin: &Origin) -> Option<(String, String)> {
    let (host, inbox) = (from.host.as_ref()?, from.inbox.as_ref()?);
    let proved = matches!(origin, Origin::Peer(peer) if peer == host);
    (proved && is_inbox(inbox)).then(|| (host.clone(), inbox.clone()))
}

fn record(issued: &Issued, listens: Option<(String, String)>) -> (String, ConfigMap, Kept) {
    let Issued { claim, token, issued: at, notice } = issued;
    let name = format!("dms-operator-grant-{}", hex::encode(token.nonce()));
    let notices = notice.clone().zip(listens);
    let notices = notices.map(|(right, (host, inbox))| Subscription { right, host, inbox });
    let actions = claim.actions.iter().map(|action| action.as_str()).collect::<Vec<_>>().join(",");
    let json = |token: &Token| String::from_utf8_lossy(&token.to_json()).into_owned();
    let mut data = vec![
        ("did", claim.did.to_string()),
        ("namespace", claim.namespace.clone()),
        ("actions", actions),
        ("issued", at.to_string()),
        ("expires", token.expires().to_string()),
        ("token", json(token)),
    ];
    if let Some(Subscription { right, host, inbox }) = &notices {
        data.extend([("noticeToken", json(right)), ("noticeHost", host.clone()), ("noticeInbox", inbox.clone())]);
    }
    // A label holds no colon, and one method is all there is.
    let subject = claim.did.as_str().trim_start_matches("did:key:").to_owned();
    let labels = [(LABEL_COMPONENT.to_owned(), COMPONENT.to_owned()), (LABEL_SUBJECT.to_owned(), subject)];
    let map = ConfigMap {
        metadata: ObjectMeta { name: Some(name.clone()), labels: Some(labels.into()), ..ObjectMeta::default() },
        data: Some(data.into_iter().map(|(key, text)| (key.to_owned(), text)).collect()),
        immutable: Some(true),
        ..ConfigMap::default()
    };
    let kept = Kept { did: claim.did.clone(), issued: *at, expires: token.expires(), notices };
    (name, map, kept)
}

fn read(map: &ConfigMap) -> Option<Kept> {
    let text = |key: &str| map.data.as_ref()?.get(key).cloned();
    let time = |key: &str| Some(Nanos::from_timestamp(text(key)?.parse().ok()?));
    let right = text("noticeToken").and_then(|token| Token::parse(token.as_bytes()).ok());
    let notices = right.zip(text("noticeHost").zip(text("noticeInbox")));
    let notices = notices.map(|(right, (host, inbox))| Subscription { right, host, inbox });
    Some(Kept { did: Did::parse(&text("did")?).ok()?, issued: time("issued")?, expires: time("expires")?, notices })
}

/// Lets an owner be told what becomes of deployments, as was said with the grant.
fn subscribe(context: &Context, kept: &Kept) {
    let Kept { did, issued: _, expires: _, notices } = kept;
    if let Some(subscription) = notices {
        context.subscriptions.set(did.clone(), subscription.clone(), context.clock.now());
    }
}

/// Reads what was given before, and lets go of what has expired, for ever.
pub(in crate::controller) async fn sweep(context: Arc<Context>) {
    loop {
        if let Err(error) = sweep_once(&context).await {
            tracing::warn!(%error, "the grants could not be swept; tried again later");
        }
        tokio::time::sleep(context.settings.resync).await;
    }
}

/// Reads what was given before, if that was not done yet.
///
/// # Errors
/// [`Error::Api`], when it cannot be read now.
pub(in crate::controller) async fn load(context: &Context) -> Result<(), Error> {
    let loaded = context.door.grants().lock().loaded;
    if loaded { Ok(()) } else { sweep_once(context).await }
}

async fn sweep_once(context: &Context) -> Result<(), Error> {
    let began = context.clock.now();
    let grants = context.door.grants();
    let settled: BTreeSet<String> = {
        let book = grants.lock();
        book.kept.keys().filter(|name| !book.writing.contains(*name)).cloned().collect()
    };
    let api = api(context);
    let params = ListParams::default().labels(&format!("{LABEL_COMPONENT}={COMPONENT}"));
    let found = api.list(&params).await.map_err(Error::api("reading the grants"))?.items;
    let mut there = BTreeMap::new();
    for map in found {
        let name = map.name_any();
        let Some(kept) = read(&map) else {
            tracing::error!(name, "a recorded grant cannot be read; it is left as it is");
            continue;
        };
        if kept.expires >= began || context.clock.suspect() {
            there.insert(name, kept);
        } else {
            match api.delete(&name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                // It holds no place any more, and one that stays must not keep the others.
                Err(error) => tracing::warn!(%error, name, "an expired grant could not be deleted; tried again later"),
            }
        }
    }
    let mut book = grants.lock();
    // What was not written when the list was asked for need not be in it.
    let fresh = book.kept.iter().filter(|(name, _)| !settled.contains(*name));
    there.extend(fresh.map(|(name, kept)| (name.clone(), kept.clone())));
    book.kept = there;
    if !std::mem::replace(&mut book.loaded, true) {
        let mut known: Vec<&Kept> = book.kept.values().collect();
        // The latest of an owner counts.
        known.sort_by_key(|kept| kept.issued);
        for kept in known {
            subscribe(context, kept);
        }
    }
    drop(book);
    Ok(())
}

fn api(context: &Context) -> Api<ConfigMap> {
    Api::namespaced(context.client.clone(), &context.settings.namespace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::door::{GrantAction, NOTICE},
        capability::{Capability, Key, Minting},
        plan::challenge::Claim,
    };

    fn issued(nonce: u8, notice: bool) -> Issued {
        let (provider, owner) = (Key::from_seed([1; 32]), Key::from_seed([2; 32]));
        let minting = |path: &str, subject: &Key, audience: &Key| Minting {
            subject: subject.did().clone(),
            audience: Some(audience.did().clone()),
            capabilities: vec![Capability::parse(path).unwrap()],
            topics: vec![],
            expires: Nanos(2_000_000_000_000_000_001),
            depth: 1,
            nonce: [nonce; 12],
        };
        let notice = notice.then(|| Token::delegate(&owner, minting(NOTICE, &provider, &owner), None).unwrap());
        Issued {
            claim: Claim {
                did: owner.did().clone(),
                namespace: "shop".to_owned(),
                actions: vec![GrantAction::Apply, GrantAction::Read],
            },
            token: Token::delegate(&provider, minting("/hosting/shop/apply", &owner, &provider), None).unwrap(),
            issued: Nanos(1_900_000_000_123_456_789 + u64::from(nonce)),
            notice,
        }
    }

    #[test]
    fn a_record_reads_back_and_says_what_was_given() {
        let listens = Some(("12D3KooW".to_owned(), "user-1".to_owned()));
        for notice in [false, true] {
            let (name, map, kept) = record(&issued(3, notice), listens.clone());
            assert_eq!(kept.notices.is_some(), notice);
            assert_eq!(read(&map), Some(kept));
            assert_eq!(name, format!("dms-operator-grant-{}", "03".repeat(12)));
            let data = map.data.unwrap();
            assert_eq!((&*data["namespace"], &*data["actions"]), ("shop", "apply,read"));
            assert_eq!(data["token"].as_bytes(), issued(3, notice).token.to_json());
            assert_eq!(map.metadata.labels.unwrap()[LABEL_SUBJECT].len(), 48);
        }
    }

    #[test]
    fn notices_go_where_the_request_is_proved_to_come_from() {
        let peer = |name: &str| Origin::Peer(name.to_owned());
        let from = |inbox: &str| Handle { host: Some("12D3".into()), inbox: Some(inbox.into()), ..Handle::default() };
        let there = Some(("12D3".to_owned(), "user-1".to_owned()));
        assert_eq!(listens(&from("user-1"), &peer("12D3")), there);
        assert_eq!(listens(&from("user-1"), &peer("12D4")), None);
        assert_eq!(listens(&from("user-1"), &Origin::Address([192, 0, 2, 7].into())), None);
        assert_eq!(listens(&Handle::default(), &peer("12D3")), None);
        for inbox in ["", "user/1", &"a".repeat(257)] {
            assert_eq!(listens(&from(inbox), &peer("12D3")), None, "{inbox}");
        }
    }

    #[test]
    fn one_did_has_so_many() {
        let book = GrantBook::default();
        let owner = issued(0, false).claim.did;
        let reason = |did: &Did| book.check_room(did).map_err(|refused| refused.reason);
        assert_eq!(reason(&owner), Err(Reason::ClusterUnavailable), "it is not known yet what was given before");
        book.lock().loaded = true;
        for nonce in 0..32 {
            book.check_room(&owner).unwrap();
            let (name, _, kept) = record(&issued(nonce, false), None);
            book.lock().kept.insert(name, kept);
        }
        assert_eq!(reason(&owner), Err(Reason::TooManyGrants));
        assert!(book.check_room(Key::from_seed([7; 32]).did()).is_ok());
    }
}
