//! `call`: one question to one device, as `nunet actor cmd` asks it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::Value;

use super::super::CommandError;
use super::super::token::read_token;
use super::super::wallet::{print, read};
use super::place::Place;
use super::{Caller, client, failed, patience};
use crate::api::HostingDevice;
use crate::capability::{Capability, Key};
use crate::controller::{context, identity};
use crate::device::libp2p::probe;
use crate::device::{DeviceClient as _, DeviceTarget};

const USAGE: &str = "dms-operator device call [OPTIONS] <DEVICE> <BEHAVIOUR> [JSON]\n       \
    dms-operator device call [OPTIONS] --addr <MULTIADDR> --key <FILE> <BEHAVIOUR> [JSON]";
const ABOUT_CALLS: &str = "Exit codes: 0 the device replied, and the reply was printed; 3 it was asked and gave no answer; 1 all \
    else, with one sentence on standard error. A device does not say no: it is silent also when the caller has no right, when \
    the behaviour is unknown to it, and when its clock says that the request has expired.";
/// What a behaviour given in short is below.
const NODE: &str = "/dms/node/";

/// Arguments of `call`.
#[derive(Debug, clap::Args)]
#[command(override_usage = USAGE, after_help = ABOUT_CALLS)]
pub struct Call {
    /// Name of the HostingDevice. Left out with --addr.
    #[arg(value_name = "DEVICE")]
    first: String,
    /// What is asked: the path of a behaviour, or what follows /dms/node/ of it, as in peers/self.
    #[arg(value_name = "BEHAVIOUR")]
    second: Option<String>,
    /// The request, or `-` to read it from standard input. Absent: an empty one.
    #[arg(value_name = "JSON")]
    third: Option<String>,
    #[command(flatten)]
    direct: Direct,
    #[command(flatten)]
    place: Place,
    /// Name of the HostingProvider whose key is used. Who calls must be allowed to read its Secret.
    #[arg(long, value_name = "NAME", default_value = "default")]
    provider: String,
    /// How long the reply is awaited, for example 5m.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = patience)]
    timeout: Duration,
    /// Form of the reply.
    #[arg(short, long, value_enum, default_value_t = Form::Json)]
    output: Form,
}

/// What takes the place of a cluster.
#[derive(Debug, clap::Args)]
struct Direct {
    /// Address of the node, when it is called without a cluster. A peer ID at its end must be that of the node.
    #[arg(long, value_name = "MULTIADDR", requires = "caller")]
    addr: Option<String>,
    #[command(flatten)]
    caller: Caller,
    /// File with the grant of the device's owner. Absent: the key must be that of a root of the device.
    #[arg(long, value_name = "FILE", requires = "addr")]
    grant: Option<PathBuf>,
}

/// Form of what is no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    Json,
    Yaml,
}

impl Form {
    pub(super) fn written(self, value: &Value) -> Result<String, CommandError> {
        let failed =
            |error: Box<dyn std::error::Error + Send + Sync>| CommandError::because("no output could be made", error);
        match self {
            Self::Json => {
                serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(|error| failed(error.into()))
            }
            Self::Yaml => serde_saphyr::to_string(value).map_err(|error| failed(error.into())),
        }
    }
}

/// What the words of a command line say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) device: Option<String>,
    pub(super) behaviour: String,
    pub(super) request: Option<String>,
}

impl Asked {
    /// With an address there is no name of a device.
    pub(super) fn of(words: &[String], by_address: bool) -> Result<Self, CommandError> {
        let (device, rest) = match words {
            _ if by_address => (None, words),
            [device, rest @ ..] => (Some(device.clone()), rest),
            [] => (None, words),
        };
        match rest {
            [behaviour] => Ok(Self { device, behaviour: whole(behaviour), request: None }),
            [behaviour, request] => Ok(Self { device, behaviour: whole(behaviour), request: Some(request.clone()) }),
            _ if by_address => Err(CommandError::new(
                "with --addr, name the behaviour and at most a request as JSON: the device is the one at the address",
            )),
            _ => Err(CommandError::new(
                "name the device and the behaviour, for example `kubectl hosting device call rack-1 peers/self`",
            )),
        }
    }

    fn payload(&self) -> Result<Value, CommandError> {
        let text = match self.request.as_deref() {
            None => return Ok(Value::Object(serde_json::Map::new())),
            Some("-") => read(Path::new("-"))?,
            Some(text) => text.to_owned(),
        };
        serde_json::from_str(&text).map_err(|error| CommandError::because("the request is not JSON", error))
    }
}

fn whole(behaviour: &str) -> String {
    if behaviour.starts_with('/') { behaviour.to_owned() } else { format!("{NODE}{behaviour}") }
}

impl Call {
    pub(super) async fn run(self) -> Result<ExitCode, CommandError> {
        let Self { first, second, third, direct, place, provider, timeout, output } = self;
        let words: Vec<String> = [Some(first), second, third].into_iter().flatten().collect();
        let asked = Asked::of(&words, direct.addr.is_some())?;
        Capability::parse(&asked.behaviour)
            .map_err(|error| CommandError::because(format!("{:?} is no behaviour", asked.behaviour), error))?;
        let payload = asked.payload()?;
        let (key, target) = match &asked.device {
            None => direct.target(timeout).await?,
            Some(_) if direct.caller.is_given() => {
                return Err(CommandError::new(
                    "a device of the cluster is called with the provider's key: name another one by --addr to use --key \
                     or --seed-file",
                ));
            }
            Some(device) => declared(&place, &provider, device).await?,
        };
        let client = client(&key).await?;
        let reply = client.call(&target, &asked.behaviour, payload, timeout).await;
        client.link().clone().stop().await;
        match reply {
            Ok(reply) => {
                print(&output.written(&reply)?)?;
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => failed(error),
        }
    }
}

impl Direct {
    async fn target(self, timeout: Duration) -> Result<(Key, DeviceTarget), CommandError> {
        let Self { addr, caller, grant } = self;
        let (Some(address), Some(key)) = (addr, caller.open()?) else {
            return Err(CommandError::new(
                "name the address with --addr and the key to ask with: --key or --seed-file",
            ));
        };
        let grant = grant.as_deref().map(read_token).transpose()?;
        let found = probe(&address, timeout).await.map_err(|error| CommandError::new(error.to_string()))?;
        Ok((key, DeviceTarget { did: found.did, addresses: vec![found.address], grant }))
    }
}

/// The device as the cluster declares it, and the provider's key.
async fn declared(place: &Place, provider: &str, device: &str) -> Result<(Key, DeviceTarget), CommandError> {
    let cluster = place.open().await?;
    let object: HostingDevice = cluster.device(device).await?.try_parse().map_err(|error| {
        CommandError::because(format!("HostingDevice {device} cannot be read by this version"), error)
    })?;
    let target = context::target(&object)
        .map_err(|(_, message)| CommandError::new(format!("HostingDevice {device} cannot be called: {message}")))?;
    let secret = cluster.provider(provider).await?.spec.identity.key_secret_ref.name;
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let key = identity::read_key(&secrets, &secret).await.map_err(|error| {
        let what = "the device is called with the provider's key, and only who may read it can call. With a key of your own, \
                    use --addr and --key";
        CommandError::because(what, error)
    })?;
    Ok((key, target))
}
