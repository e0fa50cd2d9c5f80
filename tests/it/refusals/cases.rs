//! The objects that must be refused.

use dms_operator::{
    capability::{Handle, MAX_CAPABILITIES, MAX_INVOCATION, MAX_LINKS, Nanos, Reason, Token},
    controller::clock::wall,
    dev::{installation::Installation, wallet::Wallet},
};
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::forging::{Link, below, changed, resigned, resting_on, rewritten};
use crate::world::{Tenant, name};

/// Reasons of which no object here is an example, and why a spec cannot bring them about.
pub const NOT_FROM_A_SPEC: [(Reason, &str); 1] =
    [(Reason::Replayed, "it is about challenges, which are answered once; a spec may be applied again")];
/// The ConfigMap with the files: each object here would be served, were it accepted.
pub const FILES: &str = "site";
const MINUTE: u64 = 60_000_000_000;

/// An object that must be refused, and how.
pub struct Case {
    pub object: Value,
    pub reason: Reason,
    /// What the sentence must name: the link, or the part, or the next command.
    pub says: Vec<String>,
}

impl Case {
    fn new(reason: Reason, object: Value, says: &[&str]) -> Self {
        Self { object, reason, says: says.iter().map(|&part| part.to_owned()).collect() }
    }
}

/// A namespace full of objects that must be refused.
pub struct Scene<'a> {
    pub tenant: Tenant<'a>,
    pub release: String,
}

/// Provider → owner → pipeline: a chain that is right.
struct Chain {
    owner: Wallet,
    pipeline: Wallet,
    grant: Token,
    passed_on: Token,
}

impl Scene<'_> {
    /// Everything that is refused for what the object itself says. The first that comes is the reason given, so in each
    /// all else is right.
    pub fn cases(&self) -> Vec<Case> {
        let mut cases = self.grants_that_give_no_right();
        cases.extend(self.envelopes_of_somebody_else());
        cases.extend(self.changed_after_signing());
        cases.extend(self.not_as_dms_writes_it());
        cases.extend(self.chains_that_reach_too_far());
        cases.extend(self.chains_that_do_not_hold());
        cases.extend(self.links_under_a_wrong_signature());
        cases
    }

    fn installation(&self) -> &Installation {
        self.tenant.installation
    }

    fn provider(&self) -> &Wallet {
        &self.installation().provider
    }

    fn grant(&self, owner: &Wallet) -> Token {
        self.installation().grant(owner.did(), &self.tenant.namespace).unwrap()
    }

    fn object(&self, owner: &Wallet) -> Value {
        self.installation().deployment(&self.tenant.namespace, &name(), owner.did(), &self.release, FILES)
    }

    /// Signed by `signer` under `grant`, at `time`.
    fn signed(&self, signer: &Wallet, mut object: Value, grant: &Token, time: Nanos) -> Value {
        signer.sign(&mut object, grant, self.provider().did(), time).unwrap();
        object
    }

    fn chain(&self) -> Chain {
        let (owner, pipeline) = (Wallet::random().unwrap(), Wallet::random().unwrap());
        let grant = self.grant(&owner);
        let paths = [format!("/hosting/{}/apply", self.tenant.namespace)];
        let passed_on = owner
            .delegate(pipeline.did(), Some(self.provider().did()), &paths, grant.not_after(), 1, Some(&grant))
            .unwrap();
        Chain { owner, pipeline, grant, passed_on }
    }

    /// Signed by the pipeline of a chain.
    fn by_pipeline(&self, chain: &Chain) -> Value {
        self.signed(&chain.pipeline, self.object(&chain.owner), &chain.passed_on, wall())
    }

    /// What nothing speaks against.
    pub fn right(&self) -> Value {
        self.by_pipeline(&self.chain())
    }

    fn grants_that_give_no_right(&self) -> Vec<Case> {
        let namespace = &self.tenant.namespace;
        let (owner, other, stranger) =
            (Wallet::random().unwrap(), Wallet::random().unwrap(), Wallet::random().unwrap());
        let expired = self.provider().grant(owner.did(), namespace, Nanos(wall().0 - MINUTE)).unwrap();
        let paths = [format!("/hosting/{namespace}/apply")];
        let in_an_hour = Nanos(wall().0 + 60 * MINUTE);
        let foreign = stranger.delegate(owner.did(), Some(self.provider().did()), &paths, in_an_hour, 3, None).unwrap();
        let ahead = Nanos(wall().0 + 2 * MINUTE);
        vec![
            Case::new(
                Reason::Expired,
                self.signed(&owner, self.object(&owner), &expired, wall()),
                &["link 1 of 2", "expired at", "kubectl hosting sign"],
            ),
            Case::new(
                Reason::NotAnchored,
                self.signed(&owner, self.object(&owner), &foreign, wall()),
                &["link 1 of 2", stranger.did().as_str(), "kubectl hosting sign --grant"],
            ),
            Case::new(
                Reason::OwnerMismatch,
                self.signed(&owner, self.object(&other), &self.grant(&owner), wall()),
                &["link 1 of 2", other.did().as_str(), "spec.owner"],
            ),
            Case::new(
                Reason::TimeInFuture,
                self.signed(&owner, self.object(&owner), &self.grant(&owner), ahead),
                &["ahead of this cluster's clock"],
            ),
        ]
    }

    /// The envelope is addressed to somebody else, or is from somebody else, than its chain says.
    fn envelopes_of_somebody_else(&self) -> Vec<Case> {
        let provider = self.provider();
        let (owner, stranger) = (Wallet::random().unwrap(), Wallet::random().unwrap());
        let paths = [format!("/hosting/{}/apply", self.tenant.namespace)];
        let in_an_hour = Nanos(wall().0 + 60 * MINUTE);
        // A grant by this provider that may be used at another one only.
        let other = provider.delegate(owner.did(), Some(stranger.did()), &paths, in_an_hour, 3, None).unwrap();
        let mut elsewhere = self.object(&owner);
        owner.sign(&mut elsewhere, &other, stranger.did(), wall()).unwrap();
        let mut used_here = self.object(&owner);
        owner.sign(&mut used_here, &other, stranger.did(), wall()).unwrap();
        let used_here = resigned(used_here, &owner.key, |envelope| envelope.to = Handle::root_of(provider.did()));
        let taken = resigned(self.signed(&owner, self.object(&owner), &self.grant(&owner), wall()), &stranger.key, {
            |envelope| envelope.from = Handle::of(stranger.did(), None, None)
        });
        vec![
            Case::new(Reason::WrongRecipient, elsewhere, &[provider.did().as_str(), "kubectl hosting sign --provider"]),
            Case::new(
                Reason::WrongAudience,
                used_here,
                &["link 2 of 2", &format!("is meant for {}", stranger.did()), "Ask this provider for a grant"],
            ),
            Case::new(
                Reason::SignerMismatch,
                taken,
                &[
                    "link 2 of 2",
                    &format!("may be used by {}", owner.did()),
                    &format!("the envelope is from {}", stranger.did()),
                    "kubectl hosting sign --key FILE",
                ],
            ),
        ]
    }

    fn changed_after_signing(&self) -> Vec<Case> {
        let owner = Wallet::random().unwrap();
        let grant = self.grant(&owner);
        let sign = |object| self.signed(&owner, object, &grant, wall());
        let mut other_release = sign(self.object(&owner));
        other_release["spec"]["content"]["release"] = json!(format!("sha256:{}", "7".repeat(64)));
        let mut other_place = sign(self.object(&owner));
        other_place["spec"]["placement"] = json!({"deviceSelector": {"matchLabels": {"device": "device-1"}}});
        let mut other_name = sign(self.object(&owner));
        other_name["metadata"]["name"] = json!(name());
        let mut other_namespace = self.object(&owner);
        other_namespace["metadata"]["namespace"] = json!("somewhere-else");
        let elsewhere = self.installation().grant(owner.did(), "somewhere-else").unwrap();
        let mut other_namespace = self.signed(&owner, other_namespace, &elsewhere, wall());
        other_namespace["metadata"]["namespace"] = json!(self.tenant.namespace);
        let unsigned = changed(sign(self.object(&owner)), |envelope| envelope.signature = None);
        let one_bit = changed(sign(self.object(&owner)), |envelope| envelope.signature.as_mut().unwrap()[7] ^= 1);
        vec![
            Case::new(Reason::DigestMismatch, other_release, &["it differs in: content.", "kubectl hosting sign"]),
            Case::new(Reason::DigestMismatch, other_place, &["it differs in: placement.", "kubectl hosting sign"]),
            Case::new(Reason::WrongBehaviour, other_name, &["kubectl hosting sign -n NAMESPACE"]),
            Case::new(Reason::WrongBehaviour, other_namespace, &["kubectl hosting sign -n NAMESPACE"]),
            Case::new(Reason::NotSigned, unsigned, &["the envelope has no signature", "kubectl hosting sign -f FILE"]),
            Case::new(Reason::BadSignature, one_bit, &["the envelope", owner.did().as_str(), "kubectl hosting sign"]),
        ]
    }

    /// Two readers could see two things in these, or one of them nothing.
    fn not_as_dms_writes_it(&self) -> Vec<Case> {
        let chain = self.chain();
        let Chain { owner, pipeline, passed_on, .. } = &chain;
        let mut rubbish = self.object(owner);
        rubbish["spec"]["authorization"] = json!({"invocation": "bm8gZW52ZWxvcGU="});
        // Spaces at its end mean nothing, and count.
        let long = rewritten(self.by_pipeline(&chain), |text| format!("{text:<width$}", width = MAX_INVOCATION + 1));
        let many_tokens = resigned(self.by_pipeline(&chain), &pipeline.key, |envelope| {
            envelope.capabilities.resize(MAX_CAPABILITIES + 1, b' ');
        });
        let envelope_with = |member: &str| {
            let begin = format!("{{{member},\"to\":");
            rewritten(self.by_pipeline(&chain), |text| text.replacen("{\"to\":", &begin, 1))
        };
        let link_saying = |from: &str, to: &str| {
            let link = Link::of(passed_on).saying(from, to).signed_by(&owner.key);
            below(self.by_pipeline(&chain), &pipeline.key, &link)
        };
        // A secp256k1 key, as DMS knows them too.
        let key: [u8; 32] = rand::random();
        let secp256k1 = format!("did:key:z{}", bs58::encode([&[0xe7, 0x01, 0x02][..], &key].concat()).into_string());
        let (twice, unknown, take_it) =
            ("\" twice", "which no signature covers", "Take the token as its issuer printed it");
        vec![
            Case::new(Reason::Malformed, rubbish, &["kubectl hosting sign"]),
            Case::new(
                Reason::TooLarge,
                long,
                &["the envelope has 32769 bytes, more than the 32768", "a shorter chain"],
            ),
            Case::new(Reason::TooLarge, many_tokens, &["more than 16384 bytes of tokens", "a shorter chain"]),
            Case::new(
                Reason::DuplicateMember,
                envelope_with("\"nonce\":1"),
                &["the envelope has the member \"nonce", twice],
            ),
            Case::new(
                Reason::DuplicateMember,
                link_saying("\"depth\":1", "\"depth\":1,\"depth\":8"),
                &["the token has the member \"depth", twice, take_it],
            ),
            Case::new(
                Reason::UnknownMember,
                envelope_with("\"note\":1"),
                &["the envelope has the member \"note\"", unknown],
            ),
            Case::new(
                Reason::UnknownMember,
                link_saying("\"depth\":1", "\"depth\":1,\"note\":1"),
                &["the token has the member \"note\"", unknown, take_it],
            ),
            Case::new(
                Reason::UnsupportedKey,
                link_saying(pipeline.did().as_str(), &secp256k1),
                &[&secp256k1, "kubectl hosting wallet new"],
            ),
        ]
    }

    fn chains_that_reach_too_far(&self) -> Vec<Case> {
        let namespace = &self.tenant.namespace;
        let chain = self.chain();
        let Chain { owner, pipeline, grant, passed_on } = &chain;
        let provider = self.provider();
        // The owner passes on the right to every name.
        let with_grant = |object: Value, grant: &Link| {
            let passed_on = Link::of(passed_on).under(grant).signed_by(&owner.key);
            below(object, &pipeline.key, &passed_on)
        };
        let gives = |name: &str| {
            let paths = [format!("/hosting/{namespace}/apply/{name}")];
            let audience = Some(provider.did());
            Link::of(&provider.delegate(owner.did(), audience, &paths, grant.not_after(), 3, None).unwrap())
        };
        let object = self.by_pipeline(&chain);
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let beyond = with_grant(self.by_pipeline(&chain), &gives("only-this"));
        let wider = with_grant(object, &gives(&name));
        let shallow = Link::of(grant).saying("\"depth\":3", "\"depth\":1").signed_by(&provider.key);
        let (until, later) = (grant.not_after().0, grant.not_after().0 + MINUTE);
        let outliving =
            Link::of(passed_on).saying(&format!("\"exp\":{until}"), &format!("\"exp\":{later}")).signed_by(&owner.key);
        // The owner passes it on to itself, again and again.
        let to_itself =
            Link::of(passed_on).saying(pipeline.did().as_str(), owner.did().as_str()).saying(",\"depth\":1", "");
        let endless = Link::of(grant).saying(",\"depth\":3", "").signed_by(&provider.key);
        let deep = (2..MAX_LINKS).fold(endless, |above, _| to_itself.clone().under(&above).signed_by(&owner.key));
        let deep = Link::of(passed_on).under(&deep).signed_by(&owner.key);
        vec![
            Case::new(
                Reason::CapabilityMissing,
                beyond,
                &["link 1 of 3", "apply/only-this", "Ask the issuer for a grant with this capability"],
            ),
            Case::new(
                Reason::Widened,
                wider,
                &["link 2 of 3", &format!("gives /hosting/{namespace}/apply,"), "kubectl hosting token delegate"],
            ),
            Case::new(
                Reason::DepthExceeded,
                with_grant(self.by_pipeline(&chain), &shallow),
                &["link 1 of 3", "permits 1 links below it, and there are 2", "with more delegations"],
            ),
            Case::new(
                Reason::Outlives,
                below(self.by_pipeline(&chain), &pipeline.key, &outliving),
                &["link 2 of 3", "after the link above it", "kubectl hosting token delegate --for"],
            ),
            Case::new(
                Reason::TooDeep,
                below(self.by_pipeline(&chain), &pipeline.key, &deep),
                &["more than 8 links", "nearer to the root"],
            ),
        ]
    }

    fn chains_that_do_not_hold(&self) -> Vec<Case> {
        let chain = self.chain();
        let Chain { owner, pipeline, passed_on, .. } = &chain;
        let (provider, stranger) = (self.provider(), Wallet::random().unwrap());
        let issued_by = |issuer: &Wallet| {
            let link = Link::of(passed_on).saying(owner.did().as_str(), issuer.did().as_str()).signed_by(&issuer.key);
            below(self.by_pipeline(&chain), &pipeline.key, &link)
        };
        let invoking = Link::of(passed_on).saying("\"delegate\"", "\"invoke\"").signed_by(&owner.key);
        vec![
            Case::new(
                Reason::AnchorInMiddle,
                issued_by(provider),
                &["link 2 of 3", provider.did().as_str(), "Use the grant as the provider issued it"],
            ),
            Case::new(
                Reason::ChainBroken,
                issued_by(&stranger),
                &[
                    &format!("link 2 of 3: {}", stranger.did()),
                    &format!("by someone else than {}", owner.did()),
                    "kubectl hosting token delegate --key FILE",
                ],
            ),
            Case::new(
                Reason::NotDelegable,
                below(self.by_pipeline(&chain), &pipeline.key, &invoking),
                &["link 3 of 3", "hangs below a token to invoke", "Ask the issuer for a delegation"],
            ),
        ]
    }

    /// Whoever may sign below a link signed anew, so nothing but the one signature is wrong.
    fn links_under_a_wrong_signature(&self) -> Vec<Case> {
        let chain = self.chain();
        let Chain { owner, pipeline, grant, passed_on } = &chain;
        let (until, later) = (grant.not_after().0, grant.not_after().0 + MINUTE);
        // The owner makes the provider's grant last longer.
        let prolonged = Link::of(grant).saying(&format!("\"exp\":{until}"), &format!("\"exp\":{later}"));
        let prolonged = Link::of(passed_on).under(&prolonged).signed_by(&owner.key);
        // The pipeline gives itself what only the owner may give.
        let helped_itself = Link::of(passed_on).signed_by(&pipeline.key);
        let object = self.by_pipeline(&chain);
        let not_its_own = Link::of_invocation(&object).signed_by(&owner.key);
        let says = |number: usize, issuer: &Wallet| {
            [
                format!("link {number} of 3: {}", issuer.did()),
                format!("was changed after signing, or was not signed by {}", issuer.did()),
                "kubectl hosting sign".to_owned(),
            ]
        };
        [
            (below(self.by_pipeline(&chain), &pipeline.key, &prolonged), says(1, self.provider())),
            (below(self.by_pipeline(&chain), &pipeline.key, &helped_itself), says(2, owner)),
            (resting_on(object, &pipeline.key, &not_its_own), says(3, pipeline)),
        ]
        .map(|(object, says)| Case { object, reason: Reason::BadSignature, says: says.into() })
        .into()
    }

    /// Of two objects that were accepted and deleted, only what was signed last, and when, is remembered.
    pub async fn signed_before(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        let older: fn(&mut Value, &mut Nanos) = |_, time| time.0 -= 1;
        let other: fn(&mut Value, &mut Nanos) = |object, _| object["spec"]["onExpiry"] = json!("Stop");
        for (reason, change, says) in [
            (Reason::RolledBack, older, "a spec signed later"),
            (Reason::SameTimeOtherDigest, other, "another spec signed at the same time"),
        ] {
            let owner = Wallet::random().unwrap();
            let grant = self.grant(&owner);
            let mut object = self.object(&owner);
            // It is accepted, and waits for files that never come: nothing is started for it.
            object["spec"]["content"]["from"]["configMap"]["name"] = json!(name());
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            let mut time = wall();
            self.tenant.apply(&self.signed(&owner, object.clone(), &grant, time)).await.unwrap();
            self.tenant.condition(&name, "TokenVerified", "True", "Verified").await;
            self.tenant.api().delete(&name, &DeleteParams::default()).await.unwrap();
            self.tenant.gone(&name).await;
            change(&mut object, &mut time);
            cases.push(Case::new(
                reason,
                self.signed(&owner, object, &grant, time),
                &[says, "was accepted already", "kubectl hosting sign"],
            ));
        }
        cases
    }

    /// Signed by whom the provider denies, and right apart from that.
    pub fn denied(&self, pipeline: &Wallet) -> Case {
        let chain = Chain { pipeline: pipeline.clone(), ..self.chain() };
        let paths = [format!("/hosting/{}/apply", self.tenant.namespace)];
        let (audience, until) = (Some(self.provider().did()), chain.grant.not_after());
        let passed_on = chain.owner.delegate(pipeline.did(), audience, &paths, until, 1, Some(&chain.grant)).unwrap();
        let object = self.by_pipeline(&Chain { passed_on, ..chain });
        let names = format!("names {}, whom this provider denies", pipeline.did());
        Case::new(Reason::Denied, object, &["link 2 of 3", &names, "Ask the provider why"])
    }

    /// What takes an owner's grant back, and what was signed under it.
    pub fn taken_back(&self) -> (Token, Case) {
        let owner = Wallet::random().unwrap();
        let grant = self.grant(&owner);
        let object = self.signed(&owner, self.object(&owner), &grant, wall());
        let revocation = Token::revoke(&self.provider().key, &grant).unwrap();
        let says = ["link 1 of 2", "was revoked by", "Ask the issuer for a new grant"];
        (revocation, Case::new(Reason::Revoked, object, &says))
    }
}
