//! The list of deployments.

use super::{super::Served, request};
use crate::device::{
    dms::{ListEntry, ListPage, ListQuery},
    node::state::Record,
};

/// Most deployments in one page.
const LARGEST_PAGE: u64 = 100;

impl Served {
    /// As DMS does it: pages are cut first and filtered by metadata then, and an error is an empty list.
    pub(super) async fn list(&self, message: &[u8], filtered_empty: bool) -> ListPage {
        let empty = ListPage { total: Some(0), ..ListPage::default() };
        let Ok(query) = request::<ListQuery>(message) else { return empty };
        let ListQuery { metadata, limit, offset, .. } = &query;
        if filtered_empty && !metadata.is_empty() {
            return empty;
        }
        let mut records = self.lifecycle.store.all().await;
        records.retain(|record| is_asked_for(record, &query));
        let count = u64::try_from(records.len()).unwrap_or(u64::MAX);
        let offset = offset.unwrap_or(0).min(count);
        let limit = limit.filter(|limit| (1..=LARGEST_PAGE).contains(limit)).unwrap_or(LARGEST_PAGE);
        let end = offset.saturating_add(limit).min(count);
        let range = usize::try_from(offset).unwrap_or(usize::MAX)..usize::try_from(end).unwrap_or(usize::MAX);
        let deployments: Vec<ListEntry> = records
            .drain(range)
            .filter(|record| metadata.iter().all(|(key, value)| record.metadata.get(key) == Some(value)))
            .map(entry)
            .collect();
        let hits = u64::try_from(deployments.len()).unwrap_or(u64::MAX);
        ListPage {
            deployments,
            total: Some(if metadata.is_empty() { count } else { hits }),
            has_more: end < count,
            next_offset: (end < count).then_some(end),
        }
    }
}

fn entry(record: Record) -> ListEntry {
    let Record { id, state, created_at, updated_at, metadata, .. } = record;
    let (created_at, updated_at) = (Some(created_at.to_timestamp()), Some(updated_at.to_timestamp()));
    ListEntry { id, state: state.into(), created_at, updated_at, metadata }
}

/// Whether a list asks for this record, apart from its metadata.
fn is_asked_for(record: &Record, query: &ListQuery) -> bool {
    let ListQuery {
        metadata: _,
        limit: _,
        offset: _,
        status,
        id,
        created_after,
        created_before,
        updated_after,
        updated_before,
    } = query;
    let (created, updated) = (record.created_at.to_timestamp(), record.updated_at.to_timestamp());
    (status.is_empty() || status.contains(&record.state))
        && (id.is_empty() || record.id == *id)
        && created_after.is_none_or(|after| created > after)
        && created_before.is_none_or(|before| created < before)
        && updated_after.is_none_or(|after| updated > after)
        && updated_before.is_none_or(|before| updated < before)
}
