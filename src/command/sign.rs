//! Signing `HostingDeployments`: what is printed is what may be applied.

use std::path::PathBuf;
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Map, Value};

use super::CommandError;
use super::token::{now, read_token};
use super::wallet::{open_key, print, random, read, shown};
use crate::api::HostingDeployment;
use crate::api::digest::spec_digest;
use crate::capability::{
    Capability, Did, Envelope, Expectation, Handle, Key, MintError, Minting, Nanos, Refusal, Token, judge, token_list,
};
use crate::plan::authorise::Statement;
use crate::store::archive::from_config_map;
use crate::store::release::Release;

/// Largest chain that is put into an invocation; it leaves room for the rest of what an object may hold.
const MAX_CHAIN: usize = 12 * 1024;

const RENDER_FIRST: &str = "The whole stream is printed, with every HostingDeployment in it signed. Render first, then \
    sign: a name prefix, substitution or target namespace applied after signing is refused.";

/// Arguments of `sign`.
#[derive(Debug, clap::Args)]
#[command(after_help = RENDER_FIRST)]
pub struct Args {
    /// File with documents; `-` for standard input. Give it once for each.
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Key file of the owner, or of a key that the owner delegated to. Its passphrase is taken from DMS_PASSPHRASE, or
    /// asked for.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The token by which the key may deploy: the provider's grant, or a delegation of it.
    #[arg(long, value_name = "FILE")]
    grant: PathBuf,
    /// DID of the provider. Absent: who issued the grant.
    #[arg(long, value_name = "DID", value_parser = Did::parse)]
    provider: Option<Did>,
    /// Namespace of the documents that name none.
    #[arg(short, long)]
    namespace: Option<String>,
    /// Folder of which `content.release` is computed. Absent: the ConfigMap that `content.from` names, when it is in the
    /// stream.
    #[arg(long, value_name = "DIR")]
    content: Option<PathBuf>,
    /// Compute `content.release` anew where it is set already. It is always computed where it is absent or `auto`.
    #[arg(long)]
    refresh: bool,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Yaml)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Yaml,
    Json,
}

pub fn run(args: Args) -> Result<ExitCode, CommandError> {
    let Args { files, key, grant, provider, namespace, content, refresh, output } = args;
    let mut documents = Vec::new();
    for file in &files {
        documents.extend(parse(&read(file)?, file)?);
    }
    let grant = read_token(&grant)?;
    let release = content.map(|folder| release_of_folder(&folder)).transpose()?;
    let key = open_key(&key)?;
    let provider = provider.unwrap_or_else(|| grant.root().issuer().clone());
    let signer = Signing { key, grant, provider, namespace, release, refresh, now: now() };
    if signer.sign_all(&mut documents)? == 0 {
        let shown: Vec<String> = files.iter().map(|file| shown(file)).collect();
        let message = format!("{} holds no HostingDeployment, so there is nothing to sign", shown.join(" and "));
        return Err(CommandError::new(message));
    }
    print(&written(&documents, output)?)?;
    Ok(ExitCode::SUCCESS)
}

/// What is needed to sign.
struct Signing {
    key: Key,
    grant: Token,
    provider: Did,
    namespace: Option<String>,
    /// Release id of the folder named on the command line.
    release: Option<String>,
    refresh: bool,
    now: Nanos,
}

impl Signing {
    /// Signs each HostingDeployment among the documents and says how many there were.
    fn sign_all(&self, documents: &mut [Value]) -> Result<usize, CommandError> {
        let config_maps = config_maps(documents);
        let mut count = 0;
        for document in documents {
            for object in objects(document) {
                if is_deployment(object) {
                    let name =
                        format!("HostingDeployment {}", text(object, "/metadata/name").unwrap_or("without a name"));
                    self.sign(object, &config_maps)
                        .map_err(|error| CommandError::because(format!("{name} was not signed"), error))?;
                    count += 1;
                }
            }
        }
        Ok(count)
    }

    fn sign(&self, object: &mut Value, config_maps: &[ConfigMap]) -> Result<(), SignError> {
        self.fill_namespace(object)?;
        self.fill_owner(object)?;
        self.fill_release(object, config_maps)?;
        let invocation = self.invocation(object)?;
        let spec = members(object, "spec")?;
        spec.insert("authorization".to_owned(), serde_json::json!({ "invocation": STANDARD.encode(invocation) }));
        serde_json::from_value::<HostingDeployment>(object.clone()).map_err(SignError::Kind)?;
        Ok(())
    }

    fn fill_namespace(&self, object: &mut Value) -> Result<(), SignError> {
        if text(object, "/metadata/namespace").is_none() {
            let namespace = self.namespace.clone().ok_or(SignError::NoNamespace)?;
            members(object, "metadata")?.insert("namespace".to_owned(), namespace.into());
        }
        Ok(())
    }

    fn fill_owner(&self, object: &mut Value) -> Result<(), SignError> {
        let owner = self.grant.root().subject();
        match text(object, "/spec/owner") {
            None => drop(members(object, "spec")?.insert("owner".to_owned(), owner.as_str().into())),
            Some(named) if named == owner.as_str() => {}
            Some(named) => {
                return Err(SignError::OtherOwner { named: named.to_owned(), owner: owner.clone() });
            }
        }
        Ok(())
    }

    fn fill_release(&self, object: &mut Value, config_maps: &[ConfigMap]) -> Result<(), SignError> {
        if object.pointer("/spec/content").is_none_or(Value::is_null) {
            return Ok(());
        }
        let set = text(object, "/spec/content/release").is_some_and(|release| release != "auto");
        if set && !self.refresh {
            return Ok(());
        }
        let release = match (&self.release, config_map_of(object, config_maps)) {
            (Some(release), _) => release.clone(),
            (None, Some(config_map)) => release_of_config_map(config_map)?,
            (None, None) if set => return Ok(()),
            (None, None) => return Err(SignError::NoContent),
        };
        let spec = members(object, "spec")?;
        if let Some(content) = spec.get_mut("content").and_then(Value::as_object_mut) {
            content.insert("release".to_owned(), release.into());
        }
        Ok(())
    }

    /// The signed envelope for an object, judged as the provider will judge it.
    fn invocation(&self, object: &Value) -> Result<Vec<u8>, SignError> {
        let name = text(object, "/metadata/name").ok_or(SignError::NoName)?;
        let namespace = text(object, "/metadata/namespace").ok_or(SignError::NoNamespace)?;
        let behaviour = Capability::parse(&format!("/hosting/{namespace}/apply/{name}"))?;
        let message =
            serde_json::to_vec(&Statement::new(spec_digest(object)?, self.now)).map_err(SignError::Statement)?;
        let expires = self.grant.not_after();
        let token = Token::invoke(
            &self.key,
            Minting {
                subject: self.key.did().clone(),
                audience: Some(self.provider.clone()),
                capabilities: vec![behaviour.clone()],
                topics: Vec::new(),
                expires,
                depth: 0,
                nonce: random()?,
            },
            Some(&self.grant),
        )?;
        let capabilities = token_list(std::slice::from_ref(&token));
        if capabilities.len() > MAX_CHAIN {
            return Err(SignError::LongChain(capabilities.len()));
        }
        let envelope = Envelope {
            to: Handle::root_of(&self.provider),
            behaviour: behaviour.as_str().to_owned(),
            from: Handle::of(self.key.did(), None, None),
            nonce: u64::from_le_bytes(random()?),
            expires,
            continuation: None,
            topic: None,
            message,
            capabilities,
            signature: None,
        }
        .sign(&self.key)
        .to_json();
        let expectation = Expectation {
            provider: &self.provider,
            anchors: std::slice::from_ref(&self.provider),
            owner: self.grant.root().subject(),
            behaviour: &behaviour,
            revoked: &|_| false,
            denied: &|_| false,
            now: self.now,
        };
        judge(&envelope, &expectation)?;
        Ok(envelope)
    }
}

/// Why one object was not signed.
#[derive(Debug, thiserror::Error)]
enum SignError {
    #[error("it names no namespace: set metadata.namespace, or run the command with -n NAMESPACE")]
    NoNamespace,
    #[error("it has no metadata.name: generateName cannot be signed, since the signature covers the name")]
    NoName,
    #[error("its member {0} is not an object")]
    NotAnObject(&'static str),
    #[error(
        "its spec.owner is {named}, and the grant was given to {owner}: use the grant of that owner, or remove spec.owner"
    )]
    OtherOwner { named: String, owner: Did },
    #[error(
        "its spec.content.release is not set and cannot be computed: add the ConfigMap that content.from names to the \
         stream, or name a folder with --content"
    )]
    NoContent,
    #[error("its content makes no release")]
    Release(#[from] crate::store::release::ReleaseError),
    #[error("its name or namespace cannot stand in a capability")]
    Path(#[from] crate::capability::PathError),
    #[error("it has no digest")]
    Digest(#[from] crate::api::digest::DigestError),
    #[error("the statement to be signed has no JSON form")]
    Statement(#[source] serde_json::Error),
    #[error("the grant does not let this key sign it")]
    Mint(#[from] MintError),
    #[error("the provider would refuse it")]
    Judged(#[from] Refusal),
    #[error("its chain of tokens has {0} bytes, more than 12 KiB: use a grant nearer to the root")]
    LongChain(usize),
    #[error("it is not what its kind says")]
    Kind(#[source] serde_json::Error),
    #[error(transparent)]
    Random(#[from] CommandError),
}

fn parse(text: &str, file: &std::path::Path) -> Result<Vec<Value>, CommandError> {
    serde_saphyr::from_multiple(text)
        .map_err(|error| CommandError::because(format!("{} is not a stream of YAML documents", shown(file)), error))
}

fn written(documents: &[Value], output: Output) -> Result<String, CommandError> {
    // Folded blocks, which wrap long lines, are read differently by different readers.
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    let result: Result<Vec<String>, Box<dyn std::error::Error + Send + Sync>> = documents
        .iter()
        .map(|document| match output {
            Output::Yaml => serde_saphyr::to_string_with_options(document, options.clone())
                .map(|text| format!("---\n{text}"))
                .map_err(Into::into),
            Output::Json => serde_json::to_string_pretty(document).map(|text| text + "\n").map_err(Into::into),
        })
        .collect();
    result
        .map(|texts| texts.concat())
        .map_err(|error| CommandError::because("the documents could not be written", error))
}

/// The objects of a document: its items, when it is a `List`.
fn objects(document: &mut Value) -> Vec<&mut Value> {
    if text(document, "/kind") == Some("List") {
        return document.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten().collect();
    }
    vec![document]
}

fn is_deployment(object: &Value) -> bool {
    text(object, "/kind") == Some("HostingDeployment")
        && text(object, "/apiVersion").is_some_and(|version| version.starts_with("hosting.nunet.io/"))
}

fn config_maps(documents: &mut [Value]) -> Vec<ConfigMap> {
    documents
        .iter_mut()
        .flat_map(objects)
        .filter(|object| text(object, "/kind") == Some("ConfigMap") && text(object, "/apiVersion") == Some("v1"))
        .filter_map(|object| serde_json::from_value(object.clone()).ok())
        .collect()
}

/// The ConfigMap that the object's content comes from, when it is in the stream. One without a namespace goes where the
/// object goes.
fn config_map_of<'a>(object: &Value, config_maps: &'a [ConfigMap]) -> Option<&'a ConfigMap> {
    let name = text(object, "/spec/content/from/configMap/name")?;
    let namespace = text(object, "/metadata/namespace");
    config_maps.iter().find(|found| {
        found.metadata.name.as_deref() == Some(name)
            && (found.metadata.namespace.is_none() || found.metadata.namespace.as_deref() == namespace)
    })
}

fn release_of_config_map(config_map: &ConfigMap) -> Result<String, SignError> {
    let files = from_config_map(config_map.data.as_ref(), config_map.binary_data.as_ref());
    Ok(Release::from_files(&files)?.id().to_string())
}

fn release_of_folder(folder: &std::path::Path) -> Result<String, CommandError> {
    Release::from_dir(folder)
        .map(|release| release.id().to_string())
        .map_err(|error| CommandError::because(format!("the folder {} makes no release", folder.display()), error))
}

fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer).and_then(Value::as_str)
}

fn members<'a>(object: &'a mut Value, name: &'static str) -> Result<&'a mut Map<String, Value>, SignError> {
    object.get_mut(name).and_then(Value::as_object_mut).ok_or(SignError::NotAnObject(name))
}

#[cfg(test)]
mod tests;
