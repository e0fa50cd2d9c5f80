//! The files: from where the spec says into the store, and which release may be served.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;

use super::{
    Subject,
    authority::{Authority, Candidate},
    status::Draft,
};
use crate::{
    api::{Access, ConditionType, ContentSource, Permission, Reason},
    controller::context::{Context, Served, Storage},
    plan::conditions::Value,
    store::{
        BlobDigest, Files, StoreError,
        archive::{self, ArchiveError, Fetched},
        publish::PublishError,
        release::{Release, ReleaseId},
    },
};

/// What came of the files.
#[derive(Debug, Default)]
pub(super) struct Provided {
    /// The newest revision that may be served and whose release is whole in the store.
    pub serving: Option<Candidate>,
    /// Why the newest revision is not the one served.
    pub fault: Option<Fault>,
    /// The newest revision, when the provider does not permit it to be served.
    pub withheld: Option<Candidate>,
}

/// What stands between a revision and its being served.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub reason: Reason,
    pub message: String,
    /// It needs an edit or a person.
    pub stalled: bool,
}

impl Provided {
    /// Nothing is brought to the store or begun.
    pub fn held(fault: Fault) -> Self {
        Self { fault: Some(fault), ..Self::default() }
    }
}

impl Fault {
    pub fn wait(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), stalled: false }
    }

    pub fn stall(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), stalled: true }
    }
}

/// Publishes the newest revision's release where it is missing, and finds the revision to serve.
pub(super) async fn provide(
    subject: &Subject,
    context: &Context,
    served: &Served,
    authority: &Authority,
    draft: &mut Draft,
) -> Provided {
    let mut provided = Provided::default();
    for (age, candidate) in authority.candidates.iter().enumerate() {
        let result = match permitted(candidate, served) {
            Ok(()) => present(subject, context, served, candidate, age == 0).await,
            Err(fault) => Err(fault),
        };
        if age == 0 {
            let release = &candidate.wanted.release;
            match &result {
                Ok(()) => draft.state(
                    ConditionType::ContentPublished,
                    Value::True,
                    Reason::Published,
                    format!("release {release} is whole in the store"),
                ),
                Err(fault) => {
                    draft.state(ConditionType::ContentPublished, Value::False, fault.reason, fault.message.clone());
                }
            }
        }
        match result {
            Ok(()) => {
                provided.serving = Some(candidate.clone());
                provided.withheld = None;
                break;
            }
            Err(fault) if age == 0 => {
                provided.withheld = (fault.reason == Reason::PublicAccessRefused).then(|| candidate.clone());
                provided.fault = Some(fault);
            }
            Err(_) => {}
        }
    }
    provided
}

fn permitted(candidate: &Candidate, served: &Served) -> Result<(), Fault> {
    if candidate.wanted.access == Access::Public && served.terms.public_access == Permission::Refuse {
        return Err(Fault::stall(
            Reason::PublicAccessRefused,
            "spec.content.access is Public, which this provider does not permit (policy.publicAccess). Choose Owner or \
             Delegated and sign again, or ask the provider",
        ));
    }
    Ok(())
}

/// Whether the release is whole in the store; the newest one is brought there.
async fn present(
    subject: &Subject,
    context: &Context,
    served: &Served,
    candidate: &Candidate,
    newest: bool,
) -> Result<(), Fault> {
    let release = &candidate.wanted.release;
    let storage = served.store.as_ref().map_err(|(reason, message)| Fault::wait(*reason, message.clone()))?;
    let key = (storage.place, release.clone());
    let id = ReleaseId::parse(release).map_err(|error| Fault::stall(Reason::InvalidObject, error.to_string()))?;
    let damaged = subject.site().is_some_and(|site| context.sites.take_damage(&site, id));
    if !damaged && context.remember(&subject.uid, |memory| memory.published.contains_key(&key)) {
        return Ok(());
    }
    let bringing = Bringing { subject, context, served, storage, candidate, id };
    let has_source = candidate.wanted.source.is_some();
    let bytes = match storage.publisher.load_release(&subject.owner, id).await {
        Ok(Some(found)) => {
            if damaged && has_source {
                bringing.mend().await;
            }
            found.total_bytes()
        }
        Ok(None) if newest => bringing.publish(false).await?,
        Ok(None) => {
            return Err(Fault::wait(Reason::ReleaseNotFound, format!("release {release} is not in the store")));
        }
        Err(error) if error.is_damage() && has_source => bringing.publish(true).await?,
        Err(error) if error.is_damage() => {
            let message =
                format!("{error}. Name the files in spec.content.from and sign again, or upload the release again");
            return Err(Fault::wait(Reason::StorageUnavailable, message));
        }
        Err(error) => return Err(storage_fault(&error)),
    };
    context.remember(&subject.uid, |memory| memory.published.insert(key, bytes));
    Ok(())
}

/// A release on its way into the store.
struct Bringing<'a> {
    subject: &'a Subject,
    context: &'a Context,
    served: &'a Served,
    storage: &'a Storage,
    candidate: &'a Candidate,
    id: ReleaseId,
}

impl Bringing<'_> {
    /// A site was not given bytes of a release whose manifest is there. Whatever comes of this, who has the release goes
    /// on serving it, and who lacks it asks again.
    async fn mend(&self) {
        if let Err(Fault { reason, message, .. }) = self.publish(true).await {
            let Subject { namespace, name, .. } = self.subject;
            tracing::warn!(
                namespace, name, release = %self.id, %reason, message,
                "the files that the store lost could not be published anew"
            );
        }
    }

    /// Brings the files there; the size of the release in bytes. `anew` when what the store holds of it cannot be relied
    /// on.
    async fn publish(&self, anew: bool) -> Result<u64, Fault> {
        let Self { subject, context: _, served, storage, candidate: _, id } = self;
        let fetched = self.gather().await?;
        let release = Release::from_files(&fetched.files)
            .map_err(|error| Fault::stall(Reason::InvalidObject, format!("the files make no release: {error}")))?;
        within_quota(&release, served)?;
        let report = if anew {
            storage.publisher.republish_files(&subject.owner, *id, &fetched.files).await
        } else {
            storage.publisher.publish_files(&subject.owner, *id, &fetched.files).await
        };
        let report = report.map_err(publish_fault)?;
        tracing::info!(
            namespace = subject.namespace, name = subject.name, release = %report.release,
            uploaded = report.uploaded_blobs, bytes = report.uploaded_bytes, present = report.present_blobs,
            "release published"
        );
        Ok(release.total_bytes())
    }

    /// The files, from where the spec says.
    async fn gather(&self) -> Result<Fetched, Fault> {
        let Self { subject, context, served, storage: _, candidate, id } = self;
        match &candidate.wanted.source {
            None => Err(Fault::wait(
                Reason::ReleaseNotFound,
                format!(
                    "release {id} is not in the store, and spec.content.from names no place to fetch it from. Add one and \
                     sign again, or upload the release"
                ),
            )),
            Some(ContentSource { config_map: Some(reference), .. }) => {
                config_map(subject, context, &reference.name).await.map(Fetched::from)
            }
            Some(ContentSource { archive: Some(source), .. }) => {
                let sha256 = BlobDigest::parse(&source.sha256).map_err(|error| {
                    Fault::stall(Reason::InvalidObject, format!("spec.content.from.archive: {error}"))
                })?;
                let terms = &served.terms;
                let quota = archive::Quota { max_bytes: terms.max_release_bytes, max_files: terms.max_release_files };
                context.archives.fetch(&source.url, sha256, quota).await.map_err(|error| archive_fault(&error))
            }
            Some(ContentSource { config_map: None, archive: None }) => {
                Err(Fault::stall(Reason::InvalidObject, "spec.content.from names neither configMap nor archive"))
            }
        }
    }
}

fn within_quota(release: &Release, served: &Served) -> Result<(), Fault> {
    let bytes = release.total_bytes();
    let files = release.files().len() as u64;
    let terms = &served.terms;
    if bytes <= terms.max_release_bytes && files <= terms.max_release_files {
        return Ok(());
    }
    Err(Fault::stall(
        Reason::QuotaExceeded,
        format!(
            "the release holds {files} files with {bytes} bytes; this provider permits {} files with {} bytes a release. \
             Make it smaller and sign again, or ask the provider",
            terms.max_release_files, terms.max_release_bytes
        ),
    ))
}

async fn config_map(subject: &Subject, context: &Context, name: &str) -> Result<Files, Fault> {
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &subject.namespace);
    match api.get_opt(name).await {
        Ok(Some(found)) => Ok(archive::from_config_map(found.data.as_ref(), found.binary_data.as_ref())),
        Ok(None) => Err(Fault::wait(
            Reason::ConfigMapNotFound,
            format!(
                "ConfigMap {}/{name}, named by spec.content.from, does not exist; it is awaited",
                subject.namespace
            ),
        )),
        Err(error) => Err(Fault::wait(
            Reason::ConfigMapNotFound,
            format!("ConfigMap {}/{name}, named by spec.content.from, could not be read: {error}", subject.namespace),
        )),
    }
}

fn storage_fault(error: &StoreError) -> Fault {
    Fault::wait(Reason::StorageUnavailable, error.to_string())
}

fn publish_fault(error: PublishError) -> Fault {
    let message = error.to_string();
    match error {
        PublishError::Store(error) => storage_fault(&error),
        PublishError::DigestMismatch { .. } => Fault::stall(Reason::ContentDigestMismatch, message),
        PublishError::ForeignPrefix { .. } => Fault::stall(Reason::ForeignPrefix, message),
        PublishError::Release(_) => Fault::stall(Reason::InvalidObject, message),
        PublishError::FileChanged { .. } | PublishError::FileMissing { .. } | PublishError::Read { .. } => {
            Fault::wait(Reason::ReleaseNotFound, message)
        }
    }
}

fn archive_fault(error: &ArchiveError) -> Fault {
    let message = error.to_string();
    match error {
        ArchiveError::Unavailable { .. } => Fault::wait(Reason::ArchiveUnavailable, message),
        ArchiveError::DigestMismatch { .. } => Fault::stall(Reason::ArchiveDigestMismatch, message),
        ArchiveError::TooLarge(_) => Fault::stall(Reason::QuotaExceeded, message),
        ArchiveError::Refused(_) => Fault::stall(Reason::ArchiveRefused, message),
    }
}
