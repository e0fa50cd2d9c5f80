//! What is written and does not run yet.

use std::{fs, path::PathBuf};

use cucumber::{
    feature::Ext as _,
    gherkin::{Feature, GherkinEnv, Rule, Scenario},
};

use crate::FEATURES;

/// Why a scenario does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    Gateway,
}

impl LeftOut {
    const ALL: [Self; 1] = [Self::Gateway];

    const fn tag(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
        }
    }

    const fn sentence(self) -> &'static str {
        match self {
            Self::Gateway => "the gateway is not built",
        }
    }

    /// `None` for what runs. Any other tag is a mistake: it would leave something out unseen.
    pub fn of(feature: &Feature, rule: Option<&Rule>, scenario: &Scenario) -> Option<Self> {
        let mut tags = feature.tags.iter().chain(rule.iter().flat_map(|rule| &rule.tags)).chain(&scenario.tags);
        let tag = tags.next()?;
        let known = Self::ALL.into_iter().find(|left_out| left_out.tag() == tag);
        Some(known.unwrap_or_else(|| panic!("{}: nobody knows the tag @{tag}", scenario.name)))
    }
}

/// Lists them.
pub fn print() {
    let mut files: Vec<PathBuf> = fs::read_dir(FEATURES).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let features: Vec<Feature> = files
        .iter()
        .map(|file| Feature::parse_path(file, GherkinEnv::default()).unwrap().expand_examples().unwrap())
        .collect();
    for left_out in LeftOut::ALL {
        let mut lines = Vec::new();
        for feature in &features {
            let alone = feature.scenarios.iter().map(|scenario| (None, scenario));
            let ruled =
                feature.rules.iter().flat_map(|rule| rule.scenarios.iter().map(move |found| (Some(rule), found)));
            let found = alone.chain(ruled).filter(|(rule, found)| LeftOut::of(feature, *rule, found) == Some(left_out));
            lines.extend(found.map(|(_, scenario)| format!("  {}: {}", feature.name, scenario.name)));
        }
        if !lines.is_empty() {
            println!("\nnot yet run, since {} (@{}):", left_out.sentence(), left_out.tag());
            println!("{}", lines.join("\n"));
        }
    }
}
