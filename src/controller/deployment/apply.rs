//! The steps of a decision, carried out: the create bracket, adoption, stopping; and what the site is told.

use kube::{Api, ResourceExt as _, api::DynamicObject};

use super::{
    Subject,
    authority::Authority,
    content::Provided,
    observe::{Details, target_of},
    resource,
    status::Draft,
};
use crate::{
    api::{Access, ConditionType, DeploymentRecord, LabelSelector, Reason},
    capability::{self, Did, Minting, Nanos, Token},
    controller::{
        checkpoint::{self, Step as Checkpoint},
        context::{Context, status_of, stored_time},
        device,
        error::Error,
    },
    device::{CallError, DeviceTarget, PreparedCall, dms},
    gateway::site_table::SiteTarget,
    plan::{
        build::{self, ATTEMPT_ENVIRONMENT, EnsembleSpec, SiteSpec},
        conditions::{Outcome, Value},
        decide::Step,
        place::place,
        tag::Marks,
        validate::INDEX_FILE,
    },
    store::release::ReleaseId,
};

/// How long the reply to a request for a new deployment is awaited; afterwards the list tells.
const REPLY_WAIT: std::time::Duration = std::time::Duration::from_secs(15);
/// How long the reply to a stop is awaited; a device that takes longer shows at the next look how far it is, and so does one
/// whose reply was lost.
const STOP_WAIT: std::time::Duration = std::time::Duration::from_secs(5);
/// The site's key may read for this long; what it may read is decided anew at each of its requests.
const SITE_GRANT: std::time::Duration = std::time::Duration::from_hours(10 * 365 * 24);

/// The device to look at: the recorded one, else, when something is to run, the one chosen for it.
pub(super) fn device_for(subject: &Subject, context: &Context, files: &Provided) -> Result<String, (Reason, String)> {
    if let Some(record) = &subject.status.deployment {
        return Ok(record.device.clone());
    }
    let Some(serving) = &files.serving else {
        return Err((Reason::Progressing, "nothing is to run yet".to_owned()));
    };
    let candidates = context.candidates();
    match place(&candidates, serving.wanted.selector.as_ref()) {
        Some(device) => {
            context.remember(&subject.uid, |memory| memory.device = Some(device.name.clone()));
            Ok(device.name.clone())
        }
        None => Err((Reason::NoDevice, no_device(candidates.len()))),
    }
}

/// What came of carrying out steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Carried {
    /// Nothing was to be done.
    Nothing,
    /// Something changed that is worth another look at once.
    Changed,
    /// Something was asked for that takes its time: it is looked at again with growing pauses.
    Asked,
    /// Something outside stood in the way; it is tried again with growing pauses.
    Hindered(Reason, String),
}

/// Where steps are carried out.
pub(super) struct Place<'a> {
    /// Name of the device.
    pub device: &'a str,
    /// Which devices the revision that is served permits.
    pub selector: Option<&'a LabelSelector>,
}

/// Carries out the steps.
pub(super) async fn carry_out(
    subject: &Subject,
    context: &Context,
    place: &Place<'_>,
    steps: &[Step],
    draft: &mut Draft,
) -> Result<Carried, Error> {
    let device = place.device;
    let Ok(target) = target_of(subject, context, device) else { return Ok(Carried::Nothing) };
    let mut carried = Carried::Nothing;
    for step in steps {
        carried = match step {
            Step::Begin { attempt } => begin_somewhere(subject, context, place, &target, *attempt, draft).await?,
            Step::Adopt { id, attempt } => adopt(subject, context, device, &target, (id, *attempt), draft).await?,
            Step::Stop { id } => stop(context, &target, id, draft).await,
            Step::Forget { id } => forget(context, &target, id, carried).await,
        };
    }
    Ok(carried)
}

/// A further attempt stays on the device of the one before, unless nothing new may go there.
async fn begin_somewhere(
    subject: &Subject,
    context: &Context,
    Place { device, selector }: &Place<'_>,
    target: &DeviceTarget,
    attempt: i64,
    draft: &mut Draft,
) -> Result<Carried, Error> {
    let candidates = context.candidates();
    let here: Vec<_> = candidates.iter().filter(|candidate| candidate.name == *device).cloned().collect();
    if place(&here, *selector).is_some() {
        return begin(subject, context, device, target, attempt, draft).await;
    }
    let other = place(&candidates, *selector).map(|candidate| candidate.name.clone());
    let Some(other) = other else { return Ok(Carried::Hindered(Reason::NoDevice, no_device(candidates.len()))) };
    match context.target(&other) {
        Ok(target) => begin(subject, context, &other, &target, attempt, draft).await,
        Err((reason, message)) => Ok(Carried::Hindered(reason, message)),
    }
}

fn no_device(devices: usize) -> String {
    format!(
        "none of the {devices} HostingDevices is ready, schedulable and carries the labels of spec.placement; one is \
         awaited"
    )
}

/// The create bracket: read the live object; record the attempt; send exactly that envelope, once; learn the id;
/// record it.
async fn begin(
    subject: &Subject,
    context: &Context,
    device: &str,
    target: &DeviceTarget,
    attempt: i64,
    draft: &mut Draft,
) -> Result<Carried, Error> {
    let live = read_live(subject, context).await?;
    draft.based_on(&live);
    checkpoint::reached(Checkpoint::Read).await;

    let call = match request(subject, context, target, attempt)? {
        Ok(call) => call,
        Err(error) => {
            return Ok(Carried::Hindered(device::reason(&error), error.to_string()));
        }
    };
    context.remember(&subject.uid, |memory| memory.site = None);
    let before = draft.status.deployment.take();
    (draft.status.release, draft.status.url) = (None, None);
    draft.status.deployment = Some(DeploymentRecord {
        device: device.to_owned(),
        did: Some(target.did.to_string()),
        attempt,
        nonce: call.nonce.to_string(),
        // Stored times have no fraction: the next whole second is not before the request's death.
        expires: stored_time(call.expires.plus(std::time::Duration::from_secs(1))),
        id: None,
    });
    let creating = Outcome::Reconciling(Reason::Creating, format!("attempt {attempt} on device {device} is under way"));
    draft.write(subject, context, &creating).await?;
    checkpoint::reached(Checkpoint::Recorded).await;

    let reply = context.device_client.send(target, dms::path::DEPLOYMENT_NEW, call, REPLY_WAIT).await;
    checkpoint::reached(Checkpoint::Sent).await;
    let reply = match reply.and_then(|reply| dms::deployment_new_reply(target, reply)) {
        Ok(reply) => reply,
        Err(error) => return Ok(not_answered(subject, draft, before, &error)),
    };
    if reply.ensemble_id.is_empty() {
        draft.status.deployment = before;
        let message = format!("device {device} refused the deployment: {}", reply.error);
        return Ok(Carried::Hindered(Reason::DeviceRefused, message));
    }
    checkpoint::reached(Checkpoint::Known).await;
    bind(subject, context, draft, &reply.ensemble_id, &creating).await?;
    checkpoint::reached(Checkpoint::Bound).await;
    Ok(Carried::Changed)
}

/// A request that never left is taken back; any other leaves the attempt open, and the list tells.
fn not_answered(subject: &Subject, draft: &mut Draft, before: Option<DeploymentRecord>, error: &CallError) -> Carried {
    let reason = device::reason(error);
    draft.state(ConditionType::DeviceReachable, Value::Unknown, reason, error.to_string());
    if error.never_sent() {
        draft.status.deployment = before;
    }
    tracing::warn!(namespace = subject.namespace, name = subject.name, %error, "a request for a deployment was not answered");
    Carried::Hindered(reason, error.to_string())
}

/// Records the id. A conflict here is somebody else's write, say of the spec: the record is still ours, so it is read
/// and written again.
async fn bind(
    subject: &Subject,
    context: &Context,
    draft: &mut Draft,
    id: &str,
    outcome: &Outcome,
) -> Result<(), Error> {
    let open = draft.status.deployment.clone();
    for _ in 0..5 {
        if let Some(record) = &mut draft.status.deployment {
            record.id = Some(id.to_owned());
        }
        match draft.write(subject, context, outcome).await {
            Err(Error::Conflict(_)) => {
                let live = live(subject, context).await?;
                if status_of(&live).is_ok_and(|status| status.deployment == open) {
                    draft.based_on(&live);
                } else {
                    break;
                }
            }
            result => return result,
        }
    }
    // The attempt stays open in the status; the next pass finds the deployment by its tag.
    Err(Error::Conflict(format!("the status of HostingDeployment {}/{}", subject.namespace, subject.name)))
}

async fn adopt(
    subject: &Subject,
    context: &Context,
    device: &str,
    target: &DeviceTarget,
    (id, attempt): (&str, i64),
    draft: &mut Draft,
) -> Result<Carried, Error> {
    let live = read_live(subject, context).await?;
    draft.based_on(&live);
    let (nonce, expires) = draft
        .status
        .deployment
        .as_ref()
        .map_or_else(|| ("0".to_owned(), stored_time(Nanos(0))), |open| (open.nonce.clone(), open.expires.clone()));
    draft.status.deployment = Some(DeploymentRecord {
        device: device.to_owned(),
        did: Some(target.did.to_string()),
        attempt,
        nonce,
        expires,
        id: Some(id.to_owned()),
    });
    let adopted = Outcome::Reconciling(Reason::Creating, format!("deployment {id} was found on the device by its tag"));
    draft.write(subject, context, &adopted).await?;
    Ok(Carried::Changed)
}

async fn stop(context: &Context, target: &DeviceTarget, id: &str, draft: &mut Draft) -> Carried {
    let stopping = dms::deployment_shutdown(context.device_client.as_ref(), target, id);
    let Ok(answer) = tokio::time::timeout(STOP_WAIT, stopping).await else { return Carried::Nothing };
    match answer {
        Ok(outcome) if outcome.ok => Carried::Asked,
        Ok(outcome) => Carried::Hindered(
            Reason::DeviceRefused,
            format!("the device did not stop deployment {id}: {}", outcome.error),
        ),
        Err(error) => {
            let reason = device::reason(&error);
            draft.state(ConditionType::DeviceReachable, Value::Unknown, reason, error.to_string());
            Carried::Hindered(reason, error.to_string())
        }
    }
}

/// Takes the record of an ended deployment off the device. It is tried again at a later pass when this fails.
async fn forget(context: &Context, target: &DeviceTarget, id: &str, carried: Carried) -> Carried {
    match dms::deployment_delete(context.device_client.as_ref(), target, id).await {
        Ok(outcome) if outcome.ok => {}
        Ok(outcome) => tracing::debug!(id, error = outcome.error, "the record of an ended deployment stays"),
        Err(error) => tracing::debug!(id, %error, "the record of an ended deployment stays"),
    }
    carried
}

/// The live object, provided that it still is what this pass started from.
async fn read_live(subject: &Subject, context: &Context) -> Result<DynamicObject, Error> {
    let live = live(subject, context).await?;
    let same = live.uid().as_deref() == Some(&subject.uid)
        && status_of(&live).is_ok_and(|status| status.deployment == subject.status.deployment)
        && live.data.get("spec") == Some(&subject.raw_spec)
        && live.metadata.deletion_timestamp == subject.object.metadata.deletion_timestamp;
    if same {
        Ok(live)
    } else {
        Err(Error::Conflict(format!("HostingDeployment {}/{}", subject.namespace, subject.name)))
    }
}

async fn live(subject: &Subject, context: &Context) -> Result<DynamicObject, Error> {
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &subject.namespace, &resource());
    api.get(&subject.name)
        .await
        .map_err(Error::api(format!("reading HostingDeployment {}/{}", subject.namespace, subject.name)))
}

/// The request for a new deployment, made ready.
fn request(
    subject: &Subject,
    context: &Context,
    target: &DeviceTarget,
    attempt: i64,
) -> Result<Result<PreparedCall, CallError>, Error> {
    let spec = ensemble(subject, context, &target.did, attempt)?;
    let request = dms::deployment_new_request(&spec);
    Ok(context.device_client.prepare(target, dms::path::DEPLOYMENT_NEW, request, context.settings.window))
}

fn ensemble(subject: &Subject, context: &Context, device: &Did, attempt: i64) -> Result<EnsembleSpec, Error> {
    let installation = &context.identity.installation;
    let site = installation.site_key(&subject.uid, attempt);
    let mut nonce = [0; 12];
    getrandom::fill(&mut nonce).map_err(Error::Random)?;
    let minting = Minting {
        subject: site.did().clone(),
        audience: Some(context.provider().clone()),
        capabilities: subject.capability("read").into_iter().collect(),
        topics: Vec::new(),
        expires: context.clock.now().plus(SITE_GRANT),
        depth: 1,
        nonce,
    };
    let grant = Token::delegate(&context.identity.key, minting, None).map_err(Error::Mint)?;
    let seed = zeroize::Zeroizing::new(hex::encode(site.expose_seed()));
    let mut spec = build::site(&SiteSpec {
        namespace: &subject.namespace,
        name: &subject.name,
        image: &context.settings.site_image,
        operator_url: &context.settings.site_url,
        provider: context.provider().as_str(),
        seed: &seed,
        grant: &String::from_utf8_lossy(&grant.to_json()),
        peer: &device.peer_id(),
    });
    let marks = Marks {
        namespace: subject.namespace.clone(),
        name: subject.name.clone(),
        uid: subject.uid.clone(),
        attempt,
        device: device.clone(),
        digest: dms::ensemble::digest(&spec, &ATTEMPT_ENVIRONMENT),
    };
    spec.metadata = installation.mark(&marks);
    Ok(spec)
}

/// Tells the site endpoint what this object's site may serve; without any right left, nothing.
pub(super) fn direct_site(
    subject: &Subject,
    context: &Context,
    authority: &Authority,
    files: &Provided,
    details: &Details,
) {
    if let Some(marks) = &details.marks {
        context.remember(&subject.uid, |memory| memory.site = Some((marks.uid.clone(), marks.attempt)));
    }
    let recorded = subject.status.deployment.as_ref().map(|record| (subject.uid.clone(), record.attempt));
    let current = context.remember(&subject.uid, |memory| memory.site.clone()).or(recorded);
    let Some((uid, attempt)) = current else { return };
    if authority.candidates.is_empty() {
        close_site(subject, context, &uid, attempt);
        return;
    }
    // Permission that was taken back closes the site; any other fault leaves it as it is.
    let withheld = files.withheld.as_ref();
    let Some(serving) = files.serving.as_ref().or(withheld) else {
        if !may_go_on(subject, authority) {
            close_site(subject, context, &uid, attempt);
        }
        return;
    };
    let Ok(release) = ReleaseId::parse(&serving.wanted.release) else { return };
    let Some(site) = subject.site() else { return };
    context.sites.set(
        &site,
        SiteTarget {
            site: context.identity.installation.site_key(&uid, attempt).did().clone(),
            owner: subject.owner.clone(),
            release,
            index_file: serving.wanted.index_file.clone(),
            public: withheld.is_none() && serving.wanted.access == Access::Public,
            not_after: serving.until,
            links: serving.accepted.links.clone(),
        },
    );
}

/// Whether a site may go on with what it serves while nothing can be served instead: not when just that was taken away.
fn may_go_on(subject: &Subject, authority: &Authority) -> bool {
    let taken = authority
        .refusal
        .as_ref()
        .is_some_and(|refusal| matches!(refusal.reason, capability::Reason::Revoked | capability::Reason::Denied));
    let release = subject.status.release.as_ref();
    !taken || authority.candidates.iter().any(|candidate| Some(&candidate.wanted.release) == release)
}

/// Lets the site show nothing any more. It hears so over its own way to the operator, also while its device is silent.
pub(super) fn close_site(subject: &Subject, context: &Context, uid: &str, attempt: i64) {
    let Some(site) = subject.site() else { return };
    let release = subject.status.release.as_deref().unwrap_or(&subject.spec.content.release);
    let Ok(release) = ReleaseId::parse(release) else { return };
    context.sites.set(
        &site,
        SiteTarget {
            site: context.identity.installation.site_key(uid, attempt).did().clone(),
            owner: subject.owner.clone(),
            release,
            index_file: INDEX_FILE.to_owned(),
            public: false,
            not_after: Nanos::MAX,
            links: Vec::new(),
        },
    );
}
