//! On which device a deployment goes.

use std::collections::BTreeMap;

use crate::api::LabelSelector;

/// What placement knows of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Name of the HostingDevice.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// `spec.unschedulable`.
    pub unschedulable: bool,
    /// Whether it answers and its sentinel is in place.
    pub ready: bool,
    /// How many HostingDeployments name it in their status.
    pub deployments: usize,
}

/// The least loaded ready device that the selector admits; names decide between equals. `None`: there is no such
/// device now.
#[must_use]
pub fn place<'a>(candidates: &'a [Candidate], selector: Option<&LabelSelector>) -> Option<&'a Candidate> {
    candidates
        .iter()
        .filter(|candidate| {
            candidate.ready
                && !candidate.unschedulable
                && selector.is_none_or(|selector| selector.matches(&candidate.labels))
        })
        .min_by(|a, b| (a.deployments, &a.name).cmp(&(b.deployments, &b.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str, deployments: usize) -> Candidate {
        Candidate {
            name: name.into(),
            labels: [("zone".to_owned(), name.to_owned())].into(),
            unschedulable: false,
            ready: true,
            deployments,
        }
    }

    #[test]
    fn the_least_loaded_ready_schedulable_selected_device_is_taken() {
        let mut devices = [candidate("c", 1), candidate("b", 1), candidate("a", 2)];
        let name = |devices: &[Candidate], selector| place(devices, selector).map(|device| device.name.clone());
        assert_eq!(name(&devices, None).as_deref(), Some("b"));
        let selector = LabelSelector { match_labels: Some([("zone".into(), "a".into())].into()) };
        assert_eq!(name(&devices, Some(&selector)).as_deref(), Some("a"));
        devices[1].unschedulable = true;
        assert_eq!(name(&devices, None).as_deref(), Some("c"));
        devices[0].ready = false;
        assert_eq!(name(&devices, None).as_deref(), Some("a"));
        devices[2].ready = false;
        assert_eq!(name(&devices, None), None);
    }
}
