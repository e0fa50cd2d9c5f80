//! The grant to use, among those that a wallet holds: the provide anchors of its DMS contexts.

use std::path::PathBuf;

use super::wallet::ContextFile;
use crate::capability::{Capability, Context, Did, Nanos, Token, Usage};

/// The grants that a wallet holds.
#[derive(Debug, Default)]
pub(super) struct Held {
    provide: Vec<Token>,
    revoke: Vec<Token>,
    /// Files that could not be read.
    unreadable: Vec<PathBuf>,
}

/// What a grant is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// Who is to use it.
    pub(super) key: &'a Did,
    /// Whom it is to be used with; `None`: whoever issued it.
    pub(super) provider: Option<&'a Did>,
    /// To whom the provider is to have given it; `None`: anybody.
    pub(super) owner: Option<&'a Did>,
    /// What it must give.
    pub(super) capability: &'a Capability,
    pub(super) now: Nanos,
}

/// Why no grant was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoGrant {
    #[error("the wallet holds no grant for {key}{}: name one with --grant FILE", and_unreadable(.unreadable))]
    None { key: Did, unreadable: Vec<PathBuf> },
    #[error("none of the {count} grants of the wallet lets {key} do {capability}: {nearest}")]
    NoneFits { count: usize, key: Did, capability: Capability, nearest: String },
    #[error("the wallet holds grants of several providers for this: name one with --provider DID: {}", joined(.0))]
    SeveralProviders(Vec<Did>),
}

fn and_unreadable(files: &[PathBuf]) -> String {
    if files.is_empty() {
        return String::new();
    }
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    format!(", and could not read {}", files.join(" and "))
}

fn joined(dids: &[Did]) -> String {
    dids.iter().map(Did::as_str).collect::<Vec<_>>().join(" or ")
}

impl Held {
    /// What the contexts of a DID hold, of all those in a folder.
    pub(super) fn of(did: &Did, files: Vec<ContextFile>) -> Self {
        let mut held = Self::default();
        for (file, context) in files {
            match context {
                Ok(Context { did: owner, roots: _, require: _, provide, revoke }) if owner == *did => {
                    held.provide.extend(provide);
                    held.revoke.extend(revoke);
                }
                Ok(_) => {}
                Err(_) => held.unreadable.push(file),
            }
        }
        held
    }

    /// The grant that gives what is wanted for the longest time.
    ///
    /// # Errors
    /// [`NoGrant`], with what is wrong with the one that comes nearest.
    pub(super) fn newest(&self, wanted: &Wanted<'_>) -> Result<&Token, NoGrant> {
        let mut fitting: Vec<&Token> = self.provide.iter().filter(|token| self.check(token, wanted).is_ok()).collect();
        fitting.sort_by_key(|token| std::cmp::Reverse(token.not_after()));
        let Some(newest) = fitting.first() else { return Err(self.none(wanted)) };
        let mut providers: Vec<Did> = fitting.iter().map(|token| token.root().issuer().clone()).collect();
        providers.sort();
        providers.dedup();
        if providers.len() > 1 { Err(NoGrant::SeveralProviders(providers)) } else { Ok(newest) }
    }

    /// Whether an invocation may hang below a token, as the provider will see it.
    fn check(&self, token: &Token, wanted: &Wanted<'_>) -> Result<(), String> {
        let Wanted { key, provider, owner, capability, now } = *wanted;
        let (issuer, subject) = (token.root().issuer(), token.root().subject());
        if let Some(provider) = provider.filter(|provider| *provider != issuer) {
            return Err(format!("it was issued by {issuer}, not by {provider}"));
        }
        if let Some(owner) = owner.filter(|owner| *owner != subject) {
            return Err(format!("it was given to {subject}, not to the owner {owner}"));
        }
        let judge = Context { revoke: self.revoke.clone(), ..Context::empty(issuer.clone()) };
        let usage = Usage::Delegation { audience: issuer };
        judge.check(token, key, &usage, capability, now).map_err(|refusal| refusal.message)
    }

    fn none(&self, wanted: &Wanted<'_>) -> NoGrant {
        let Wanted { key, provider: _, owner: _, capability, now: _ } = *wanted;
        let gives = |token: &&Token| token.capabilities().iter().any(|given| given.implies(capability));
        let latest = |tokens: Vec<&'_ Token>| tokens.into_iter().max_by_key(|token| token.not_after()).cloned();
        let nearest =
            latest(self.provide.iter().filter(gives).collect()).or_else(|| latest(self.provide.iter().collect()));
        match nearest {
            None => NoGrant::None { key: key.clone(), unreadable: self.unreadable.clone() },
            Some(nearest) => NoGrant::NoneFits {
                count: self.provide.len(),
                key: key.clone(),
                capability: capability.clone(),
                nearest: self.check(&nearest, wanted).err().unwrap_or_default(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::capability::{Key, Minting, Reason, Refusal};

    const NOW: Nanos = Nanos(1_767_225_600_000_000_000);

    fn key(number: u8) -> Key {
        Key::from_seed([number; 32])
    }

    fn token(from: u8, to: u8, path: &str, hours: u64, above: Option<&Token>) -> Token {
        let audience = above.map_or_else(|| key(from).did().clone(), |above| above.root().issuer().clone());
        let minting = Minting {
            subject: key(to).did().clone(),
            audience: Some(audience),
            capabilities: vec![Capability::parse(path).unwrap()],
            topics: Vec::new(),
            expires: NOW.plus(Duration::from_hours(hours)),
            depth: 0,
            nonce: [u8::try_from(hours).unwrap(); 12],
        };
        Token::delegate(&key(from), minting, above).unwrap()
    }

    fn held(provide: &[&Token], revoke: &[&Token]) -> Held {
        let tokens = |tokens: &[&Token]| tokens.iter().map(|token| (*token).clone()).collect();
        Held { provide: tokens(provide), revoke: tokens(revoke), unreadable: Vec::new() }
    }

    fn asked<'a>(key: &'a Did, capability: &'a Capability) -> Wanted<'a> {
        Wanted { key, provider: None, owner: None, capability, now: NOW }
    }

    #[test]
    fn the_one_that_lasts_longest_of_those_that_give_it_is_used() {
        let (owner, path) = (key(2), Capability::parse("/hosting/shop/apply/web").unwrap());
        let short = token(1, 2, "/hosting/shop/apply", 2, None);
        let long = token(1, 2, "/hosting/shop/apply", 5, None);
        let elsewhere = token(1, 2, "/hosting/other/apply", 9, None);
        let of_others = token(1, 3, "/hosting/shop/apply", 9, None);
        let all = held(&[&short, &elsewhere, &long, &of_others], &[]);
        let wanted = asked(owner.did(), &path);
        assert_eq!(all.newest(&wanted), Ok(&long));

        let taken_back = Token::revoke(&key(1), &long).unwrap();
        let revoked = held(&[&short, &long], &[&taken_back]);
        assert_eq!(revoked.newest(&wanted), Ok(&short), "what its issuer took back is not used");
        let later = Wanted { now: NOW.plus(Duration::from_hours(3)), ..wanted };
        assert_eq!(all.newest(&later), Ok(&long));
    }

    #[test]
    fn provider_and_owner_are_those_that_are_named() {
        let (pipeline, path) = (key(4), Capability::parse("/hosting/shop/apply/web").unwrap());
        let first = token(2, 4, "/hosting/shop/apply/web", 3, Some(&token(1, 2, "/hosting/shop", 4, None)));
        let second = token(3, 4, "/hosting/shop/apply/web", 2, Some(&token(9, 3, "/hosting/shop", 4, None)));
        let all = held(&[&first, &second], &[]);
        let wanted = asked(pipeline.did(), &path);
        let mut providers = vec![key(1).did().clone(), key(9).did().clone()];
        providers.sort();
        assert_eq!(all.newest(&wanted), Err(NoGrant::SeveralProviders(providers)));
        let (nine, three) = (key(9), key(3));
        assert_eq!(all.newest(&Wanted { provider: Some(nine.did()), ..wanted }), Ok(&second));
        assert_eq!(all.newest(&Wanted { owner: Some(three.did()), ..wanted }), Ok(&second));
        let nobody = Wanted { owner: Some(nine.did()), ..wanted };
        let refusal = all.newest(&nobody).unwrap_err().to_string();
        assert!(refusal.contains(&format!("not to the owner {}", nine.did())), "{refusal}");
    }

    #[test]
    fn what_is_wrong_with_the_nearest_is_said() {
        let (owner, path) = (key(2), Capability::parse("/hosting/shop/apply/web").unwrap());
        let elsewhere = token(1, 2, "/hosting/other/apply", 9, None);
        let old = token(1, 2, "/hosting/shop/apply", 2, None);
        let wanted = Wanted { now: NOW.plus(Duration::from_hours(3)), ..asked(owner.did(), &path) };
        let refusal = held(&[&elsewhere, &old], &[]).newest(&wanted).unwrap_err().to_string();
        assert!(
            refusal.contains("expired at 2026-01-01T02:00:00Z") && refusal.contains("of the 2 grants"),
            "{refusal}"
        );
        let refusal = held(&[&elsewhere], &[]).newest(&wanted).unwrap_err().to_string();
        assert!(refusal.contains("does not give /hosting/shop/apply/web"), "{refusal}");
    }

    #[test]
    fn contexts_of_other_keys_are_left_alone_and_unreadable_files_named() {
        let (owner, path) = (key(2), Capability::parse("/hosting/shop/apply/web").unwrap());
        let grant = token(1, 2, "/hosting/shop/apply", 2, None);
        let context = |number: u8| Context {
            did: key(number).did().clone(),
            roots: Vec::new(),
            require: Vec::new(),
            provide: vec![grant.clone()],
            revoke: Vec::new(),
        };
        let broken = || Err(Refusal::new(Reason::Malformed, None, "it is cut"));
        let files = vec![(PathBuf::from("a.cap"), Ok(context(3))), (PathBuf::from("b.cap"), broken())];
        let refusal = Held::of(owner.did(), files).newest(&asked(owner.did(), &path)).unwrap_err();
        let unreadable = vec![PathBuf::from("b.cap")];
        assert_eq!(refusal, NoGrant::None { key: owner.did().clone(), unreadable });
        let files = vec![(PathBuf::from("a.cap"), Ok(context(2))), (PathBuf::from("b.cap"), broken())];
        assert_eq!(Held::of(owner.did(), files).newest(&asked(owner.did(), &path)), Ok(&grant));
    }
}
