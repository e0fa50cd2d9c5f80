//! Bids: what a device answers to a request for offers, signed with its own key.
//!
//! The signature covers the member names of the version of DMS that wrote the bid, so a bid is read, checked and written
//! in the layout in which it came.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::gojson::Object;
use super::strict::{self, Members, Tree, malformed};
use super::token::signature_of;
use super::{ActorId, Did, Handle, Key, KnownDids, MAX_CAPABILITIES, Reason, Refusal, key};

const DOMAIN: &str = "dms-bid-";

/// The members that a version of DMS knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BidLayout {
    /// The oldest: no public address, no contracts.
    Six,
    /// With public address and contracts.
    Eight,
    /// The newest: says also whether it is a promise.
    Nine,
}

/// Where a device says it stands; each part may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// Continent.
    pub continent: String,
    /// Country.
    pub country: String,
    /// City.
    pub city: String,
    /// Autonomous system.
    pub asn: String,
    /// Provider of its connection.
    pub isp: String,
}

/// A contract that a bid rests on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contract {
    /// DID of the contract.
    pub did: String,
    /// DID of who keeps it.
    pub host: String,
    /// DID of who provides; may be empty.
    pub provider: String,
    /// DID of who asks; may be empty.
    pub requestor: String,
}

/// One bid for one node of an ensemble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bid {
    /// In which layout it is written.
    pub layout: BidLayout,
    /// For which ensemble.
    pub ensemble_id: String,
    /// For which node of it.
    pub node_id: String,
    /// The bidder.
    pub bidder: Did,
    /// Its public address; not in [`BidLayout::Six`].
    pub public_address: String,
    /// Where it says it stands.
    pub location: Location,
    /// How its root actor is reached.
    pub handle: Handle,
    /// Contracts by name; not in [`BidLayout::Six`]. `None` is not the same as none at all.
    pub contracts: Option<BTreeMap<String, Contract>>,
    /// Whether it only promises a node; [`BidLayout::Nine`] only.
    pub promise: bool,
    /// Made by [`Bid::sign`].
    pub signature: Option<[u8; 64]>,
}

impl Bid {
    /// Reads a bid, `{"V1":{…}}`, of at most 16 KiB. Nothing is verified yet.
    ///
    /// # Errors
    /// [`Refusal`], when it does not have exactly a form that DMS writes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        const SIX: [&str; 6] = ["EnsembleID", "NodeID", "Peer", "Location", "Handle", "Signature"];
        let outer = strict::read(bytes, MAX_CAPABILITIES, "bid")?;
        let inner = Members::of(outer, "bid", &["V1"])?.required("V1")?;
        let known = [&SIX[..], &["PubAddress", "Contracts", "PromiseBid"]].concat();
        let mut members = Members::of(inner, "bid", &known)?;
        let address = members.optional("PubAddress");
        let contracts = members.optional("Contracts");
        let promise = members.optional("PromiseBid");
        let layout = match (&address, &contracts, &promise) {
            (None, None, None) => BidLayout::Six,
            (Some(_), Some(_), None) => BidLayout::Eight,
            (Some(_), Some(_), Some(_)) => BidLayout::Nine,
            _ => return Err(malformed("the bid has the members of no version of DMS")),
        };
        let peer = members.text("Peer")?;
        let signature = match members.required("Signature")? {
            Tree::Null => None,
            Tree::Text(text) => Some(signature_of(members.as_bytes("Signature", &text)?)?),
            _ => return Err(members.wrong("Signature", "is not text")),
        };
        Ok(Self {
            layout,
            ensemble_id: members.text("EnsembleID")?.into_owned(),
            node_id: members.text("NodeID")?.into_owned(),
            bidder: Did::from_peer_id(&peer).map_err(|error| Refusal::explained(Reason::UnsupportedKey, error))?,
            public_address: match address {
                None => String::new(),
                Some(Tree::Text(text)) => text.into_owned(),
                Some(_) => return Err(members.wrong("PubAddress", "is not text")),
            },
            location: Location::from_tree(members.required("Location")?)?,
            handle: Handle::from_tree(members.required("Handle")?, &mut KnownDids::default())?,
            contracts: match contracts {
                None | Some(Tree::Null) => None,
                Some(Tree::Object(named)) => Some(contracts_of(named)?),
                Some(_) => return Err(members.wrong("Contracts", "is not an object")),
            },
            promise: match promise {
                None | Some(Tree::Bool(false)) => false,
                Some(Tree::Bool(true)) => true,
                Some(_) => return Err(members.wrong("PromiseBid", "is neither true nor false")),
            },
            signature,
        })
    }

    /// Signs the bid. `key` must be the bidder's, otherwise nobody will accept it.
    #[must_use]
    pub fn sign(mut self, key: &Key) -> Self {
        self.signature = Some(key.sign(&self.signed_bytes()));
        self
    }

    /// Checks that the bidder signed it and that its handle names the same key.
    ///
    /// # Errors
    /// [`Refusal`] with [`Reason::SignerMismatch`], [`Reason::NotSigned`] or [`Reason::BadSignature`].
    pub fn verify(&self) -> Result<(), Refusal> {
        if self.handle.id != ActorId::of(&self.bidder) {
            let message = format!("the bid of {} names the handle of another key", self.bidder);
            return Err(Refusal::explained(Reason::SignerMismatch, message));
        }
        let Some(signature) = &self.signature else {
            return Err(Refusal::explained(Reason::NotSigned, "the bid has no signature"));
        };
        if key::is_signed_by(&self.bidder, &self.signed_bytes(), signature) {
            return Ok(());
        }
        let message = format!("the bid was changed after signing, or was not signed by {}", self.bidder);
        Err(Refusal::explained(Reason::BadSignature, message))
    }

    /// The bid as DMS writes it: `{"V1":{…}}`.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = String::new();
        Object::open(&mut out).member("V1", |out| self.write(out, self.signature.as_ref())).close();
        out.into_bytes()
    }

    pub(super) fn signed_bytes(&self) -> Vec<u8> {
        let mut out = String::from(DOMAIN);
        self.write(&mut out, None);
        out.into_bytes()
    }

    fn write(&self, out: &mut String, signature: Option<&[u8; 64]>) {
        let Self {
            layout,
            ensemble_id,
            node_id,
            bidder,
            public_address,
            location,
            handle,
            contracts,
            promise,
            signature: _,
        } = self;
        let mut object = Object::open(out);
        object.text("EnsembleID", ensemble_id).text("NodeID", node_id).text("Peer", &bidder.peer_id());
        if *layout != BidLayout::Six {
            object.text("PubAddress", public_address);
        }
        object.member("Location", |out| location.write(out)).member("Handle", |out| handle.write(out));
        if *layout != BidLayout::Six {
            object.member("Contracts", |out| write_contracts(out, contracts.as_ref()));
        }
        match signature {
            None => object.member("Signature", |out| out.push_str("null")),
            Some(signature) => object.bytes("Signature", signature),
        };
        if *layout == BidLayout::Nine {
            object.member("PromiseBid", |out| out.push_str(if *promise { "true" } else { "false" }));
        }
        object.close();
    }
}

impl Location {
    fn from_tree(tree: Tree<'_>) -> Result<Self, Refusal> {
        let mut members = Members::of(tree, "location", &["continent", "country", "city", "asn", "isp"])?;
        let mut text = |name| members.optional_text(name).map(|text| text.unwrap_or_default().into_owned());
        Ok(Self {
            continent: text("continent")?,
            country: text("country")?,
            city: text("city")?,
            asn: text("asn")?,
            isp: text("isp")?,
        })
    }

    fn write(&self, out: &mut String) {
        let Self { continent, country, city, asn, isp } = self;
        Object::open(out)
            .text_if("continent", Some(continent))
            .text_if("country", Some(country))
            .text_if("city", Some(city))
            .text_if("asn", Some(asn))
            .text_if("isp", Some(isp))
            .close();
    }
}

fn contracts_of(named: Vec<(Cow<'_, str>, Tree<'_>)>) -> Result<BTreeMap<String, Contract>, Refusal> {
    let mut contracts = BTreeMap::new();
    for (name, tree) in named {
        let mut members = Members::of(tree, "contract", &["did", "host", "provider", "requestor"])?;
        let contract = Contract {
            did: members.text("did")?.into_owned(),
            host: members.text("host")?.into_owned(),
            provider: members.optional_text("provider")?.unwrap_or_default().into_owned(),
            requestor: members.optional_text("requestor")?.unwrap_or_default().into_owned(),
        };
        if contracts.insert(name.clone().into_owned(), contract).is_some() {
            return Err(Refusal::explained(
                Reason::DuplicateMember,
                format!("the bid has the contract {name:?} twice"),
            ));
        }
    }
    Ok(contracts)
}

fn write_contracts(out: &mut String, contracts: Option<&BTreeMap<String, Contract>>) {
    let Some(contracts) = contracts else { return out.push_str("null") };
    let mut object = Object::open(out);
    for (name, Contract { did, host, provider, requestor }) in contracts {
        object.member(name, |out| {
            Object::open(out)
                .text("did", did)
                .text("host", host)
                .text_if("provider", Some(provider))
                .text_if("requestor", Some(requestor))
                .close();
        });
    }
    object.close();
}

#[cfg(test)]
mod tests;
