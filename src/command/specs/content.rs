//! The files behind `content.release`, where they are at hand: a folder, an archive, or a ConfigMap of the stream.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::Value;

use super::super::CommandError;
use super::{is_kind, namespace_of, text};
use crate::store::archive::{ArchivePolicy, from_config_map, unpacked};
use crate::store::release::{BlobDigest, Release, ReleaseError};

/// What was named with --content.
#[derive(Debug)]
pub(super) struct Supplied {
    path: PathBuf,
    release: Release,
    /// SHA-256 of an archive.
    archive: Option<BlobDigest>,
}

/// The archive that an object names is another one.
#[derive(Debug, thiserror::Error)]
#[error(
    "its spec.content.from.archive.sha256 is {named}, and {path} has {found}: name the archive that is published there, or \
     correct the digest"
)]
pub(super) struct OtherArchive {
    named: String,
    path: String,
    found: BlobDigest,
}

impl Supplied {
    /// Reads a folder, or a gzip-compressed tar archive.
    pub(super) fn read(path: &Path) -> Result<Self, CommandError> {
        let shown = path.display();
        if path.is_dir() {
            let release = Release::from_dir(path)
                .map_err(|error| CommandError::because(format!("the folder {shown} makes no release"), error))?;
            return Ok(Self { path: path.to_owned(), release, archive: None });
        }
        let bytes = std::fs::read(path)
            .map_err(|error| CommandError::because(format!("the content {shown} could not be read"), error))?;
        let files = unpacked(&bytes, &ArchivePolicy::default())
            .map_err(|error| CommandError::because(format!("the archive {shown} gives no files"), error))?;
        let release = Release::from_files(&files)
            .map_err(|error| CommandError::because(format!("the archive {shown} makes no release"), error))?;
        Ok(Self { path: path.to_owned(), release, archive: Some(BlobDigest::of(&bytes)) })
    }

    /// The release, for an object that does not say that its files come from another archive.
    pub(super) fn release_for(&self, object: &Value) -> Result<&Release, OtherArchive> {
        let named = text(object, "/spec/content/from/archive/sha256");
        match (self.archive, named) {
            (Some(found), Some(named)) if found.to_string() != named => {
                Err(OtherArchive { named: named.to_owned(), path: self.path.display().to_string(), found })
            }
            _ => Ok(&self.release),
        }
    }
}

/// The ConfigMaps among some objects.
pub(super) fn config_maps<'a>(objects: impl Iterator<Item = &'a Value>) -> Vec<ConfigMap> {
    objects
        .filter(|object| is_kind(object, "ConfigMap", |version| version == "v1"))
        .filter_map(|object| serde_json::from_value(object.clone()).ok())
        .collect()
}

/// The ConfigMap that an object's content comes from, when it is at hand. One without a namespace goes where the object
/// goes.
pub(super) fn config_map_of<'a>(object: &Value, config_maps: &'a [ConfigMap]) -> Option<&'a ConfigMap> {
    let name = config_map_name(object)?;
    config_maps.iter().find(|found| {
        found.metadata.name.as_deref() == Some(name)
            && (found.metadata.namespace.is_none() || found.metadata.namespace.as_deref() == namespace_of(object))
    })
}

/// Name of the ConfigMap that an object's content comes from.
pub(super) fn config_map_name(object: &Value) -> Option<&str> {
    text(object, "/spec/content/from/configMap/name")
}

pub(super) fn release_of(config_map: &ConfigMap) -> Result<Release, ReleaseError> {
    Release::from_files(&from_config_map(config_map.data.as_ref(), config_map.binary_data.as_ref()))
}
