use super::*;

fn key(number: u8) -> Key {
    Key::from_seed([number; 32])
}

fn bid(layout: BidLayout) -> Bid {
    let newer = layout != BidLayout::Six;
    let contract = Contract {
        did: "did:key:contract".to_owned(),
        host: "did:key:host".to_owned(),
        provider: "did:key:provider".to_owned(),
        requestor: String::new(),
    };
    Bid {
        layout,
        ensemble_id: "<ensemble>".to_owned(),
        node_id: "node1".to_owned(),
        bidder: key(1).did().clone(),
        public_address: if newer { "203.0.113.7".to_owned() } else { String::new() },
        location: Location { city: "Zürich & Umgebung".to_owned(), asn: "AS1".to_owned(), ..Location::default() },
        handle: Handle::root_of(key(1).did()),
        contracts: newer.then(|| BTreeMap::from([("b".to_owned(), contract), ("a".to_owned(), Contract::default())])),
        promise: layout == BidLayout::Nine,
        signature: None,
    }
}

fn reason(result: Result<impl Sized, Refusal>) -> Option<Reason> {
    result.err().map(|refusal| refusal.reason)
}

#[test]
fn a_bid_is_read_as_it_was_written() {
    for layout in [BidLayout::Six, BidLayout::Eight, BidLayout::Nine] {
        let bid = bid(layout).sign(&key(1));
        assert_eq!(Bid::parse(&bid.to_json()).as_ref(), Ok(&bid));
        assert_eq!(bid.verify(), Ok(()));
    }
    let json = String::from_utf8(bid(BidLayout::Nine).to_json()).unwrap();
    let contracts = "\"Contracts\":{\"a\":{\"did\":\"\",\"host\":\"\"},\"b\":{\"did\":\"did:key:contract\",\
                     \"host\":\"did:key:host\",\"provider\":\"did:key:provider\"}},\"Signature\":null,\"PromiseBid\":true";
    assert!(json.contains(contracts), "{json}");
}

#[test]
fn a_bid_counts_for_its_bidder_alone() {
    let signed = bid(BidLayout::Nine).sign(&key(1));
    assert_eq!(reason(bid(BidLayout::Nine).verify()), Some(Reason::NotSigned));
    assert_eq!(reason(bid(BidLayout::Nine).sign(&key(2)).verify()), Some(Reason::BadSignature));
    let elsewhere = Bid { handle: Handle::root_of(key(2).did()), ..signed.clone() };
    assert_eq!(reason(elsewhere.verify()), Some(Reason::SignerMismatch));
    let changes: [fn(&mut Bid); 6] = [
        |bid| bid.layout = BidLayout::Eight,
        |bid| bid.ensemble_id.push('x'),
        |bid| bid.public_address.clear(),
        |bid| bid.location.country.push('x'),
        |bid| bid.contracts = None,
        |bid| bid.promise = false,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut changed = signed.clone();
        change(&mut changed);
        assert_eq!(reason(changed.verify()), Some(Reason::BadSignature), "{number}");
    }
}

#[test]
fn another_form_is_refused() {
    let json = String::from_utf8(bid(BidLayout::Nine).sign(&key(1)).to_json()).unwrap();
    let parsed = |from: &str, to: &str| {
        let changed = json.replacen(from, to, 1);
        assert_ne!(changed, json, "{from}");
        reason(Bid::parse(changed.as_bytes()))
    };
    assert_eq!(parsed("\"PromiseBid\":true", "\"PromiseBid\":1"), Some(Reason::Malformed));
    assert_eq!(parsed(",\"PromiseBid\":true", ",\"PromiseBid\":null"), Some(Reason::Malformed));
    assert_eq!(parsed("\"PubAddress\":\"203.0.113.7\",", ""), Some(Reason::Malformed), "no layout");
    assert_eq!(parsed("\"PubAddress\":\"203.0.113.7\"", "\"PubAddress\":7"), Some(Reason::Malformed));
    assert_eq!(parsed("\"Signature\":\"", "\"Signature\":\"A"), Some(Reason::Malformed));
    assert_eq!(parsed("\"Peer\":\"12D3KooW", "\"Peer\":\"QmD3KooW"), Some(Reason::UnsupportedKey));
    assert_eq!(parsed("\"NodeID\"", "\"nodeID\""), Some(Reason::UnknownMember));
    assert_eq!(parsed("\"city\"", "\"town\""), Some(Reason::UnknownMember));
    assert_eq!(parsed("\"b\":{\"did\"", "\"a\":{\"did\""), Some(Reason::DuplicateMember));
    for contracts in ["[]", "\"a\"", "{\"a\":[]}"] {
        let (before, after) = json.split_once("\"Contracts\":").unwrap();
        let (_, after) = after.split_once(",\"Signature\"").unwrap();
        let changed = format!("{before}\"Contracts\":{contracts},\"Signature\"{after}");
        assert_eq!(reason(Bid::parse(changed.as_bytes())), Some(Reason::Malformed), "{contracts}");
    }
    let unsigned = json.replacen("\"Signature\":\"", "\"Signature\":7,\"x\":\"", 1);
    assert_eq!(reason(Bid::parse(unsigned.as_bytes())), Some(Reason::UnknownMember));
}
