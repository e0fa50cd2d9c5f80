//! Asks again what only asks: a lost message costs seconds then, and not the whole time that an answer may take.

use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt as _, stream::FuturesUnordered};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::device::{CallError, DeviceClient, DeviceTarget, PreparedCall, dms::path};

/// How long an answer is awaited before the question is put once more. The first answer counts, whichever it answers.
const AGAIN: Duration = Duration::from_secs(5);

/// Behaviours that change nothing.
const QUESTIONS: [&str; 6] = [
    path::PEERS_SELF,
    path::DEPLOYMENT_LIST,
    path::DEPLOYMENT_MANIFEST,
    path::DEPLOYMENT_STATUS,
    path::RESOURCES_FREE,
    path::ONBOARDING_STATUS,
];

/// A client of devices that puts a question again while its answer is awaited.
pub struct AskingAgain<C>(pub C);

#[async_trait]
impl<C: DeviceClient> DeviceClient for AskingAgain<C> {
    async fn call(
        &self,
        target: &DeviceTarget,
        behaviour: &str,
        request: Value,
        wait: Duration,
    ) -> Result<Value, CallError> {
        if !QUESTIONS.contains(&behaviour) {
            return self.0.call(target, behaviour, request, wait).await;
        }
        let deadline = Instant::now() + wait;
        let mut asked = FuturesUnordered::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            asked.push(self.0.call(target, behaviour, request.clone(), left));
            tokio::select! {
                biased;
                Some(answer) = asked.next() => return answer,
                // What has less time than this is not worth a question of its own.
                () = sleep(AGAIN), if left > AGAIN => {}
            }
        }
    }

    fn prepare(
        &self,
        target: &DeviceTarget,
        behaviour: &str,
        request: Value,
        expires_in: Duration,
    ) -> Result<PreparedCall, CallError> {
        self.0.prepare(target, behaviour, request, expires_in)
    }

    async fn send(
        &self,
        target: &DeviceTarget,
        behaviour: &str,
        call: PreparedCall,
        wait: Duration,
    ) -> Result<Value, CallError> {
        self.0.send(target, behaviour, call, wait).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::capability::Key;

    /// A device that answers after a while, or never, one question after the other.
    struct Slow {
        answers: Mutex<Vec<Option<Duration>>>,
        waits: Mutex<Vec<Duration>>,
    }

    impl Slow {
        fn new(answers: &[Option<Duration>]) -> AskingAgain<Self> {
            let answers = answers.iter().rev().copied().collect();
            AskingAgain(Self { answers: Mutex::new(answers), waits: Mutex::default() })
        }
    }

    #[async_trait]
    impl DeviceClient for Slow {
        async fn call(&self, to: &DeviceTarget, be: &str, request: Value, wait: Duration) -> Result<Value, CallError> {
            self.waits.lock().unwrap().push(wait);
            let after = self.answers.lock().unwrap().pop().unwrap();
            if let Some(after) = after.filter(|after| *after <= wait) {
                sleep(after).await;
                Ok(request)
            } else {
                sleep(wait).await;
                Err(CallError::Silent { did: to.did.to_string(), behaviour: be.to_owned(), waited: wait })
            }
        }

        fn prepare(&self, _: &DeviceTarget, _: &str, _: Value, _: Duration) -> Result<PreparedCall, CallError> {
            unreachable!("nothing is prepared here")
        }

        async fn send(&self, _: &DeviceTarget, _: &str, _: PreparedCall, _: Duration) -> Result<Value, CallError> {
            unreachable!("nothing is sent here")
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    async fn ask(device: &AskingAgain<Slow>, behaviour: &str) -> (Result<Value, CallError>, Duration) {
        let did = Key::from_seed(rand::random()).did().clone();
        let target = DeviceTarget { did, addresses: vec![], grant: None };
        let begun = Instant::now();
        let answer = device.call(&target, behaviour, Value::from(7), 15 * SECOND).await;
        (answer, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_was_lost_is_put_again_and_its_first_answer_counts() {
        for (answers, after, asked) in [
            (vec![Some(SECOND)], 1, 1),
            (vec![None, Some(SECOND)], 6, 2),
            (vec![None, None, Some(2 * SECOND)], 12, 3),
            // The first one is answered late, and before the second.
            (vec![Some(7 * SECOND), Some(9 * SECOND)], 7, 2),
        ] {
            let device = Slow::new(&answers);
            let (answer, taken) = ask(&device, path::DEPLOYMENT_LIST).await;
            assert_eq!((answer.unwrap(), taken), (Value::from(7), after * SECOND), "{answers:?}");
            let waits: Vec<_> = [15, 10, 5].map(|seconds| seconds * SECOND).into_iter().take(asked).collect();
            assert_eq!(*device.0.waits.lock().unwrap(), waits, "{answers:?}");
        }
        let (answer, taken) = ask(&Slow::new(&[None; 3]), path::DEPLOYMENT_LIST).await;
        assert!(matches!(answer, Err(CallError::Silent { waited, .. }) if waited == 15 * SECOND), "{answer:?}");
        assert_eq!(taken, 15 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn what_changes_something_is_said_once() {
        for behaviour in [path::DEPLOYMENT_NEW, path::DEPLOYMENT_SHUTDOWN, path::DEPLOYMENT_DELETE] {
            let (answer, _) = ask(&Slow::new(&[None]), behaviour).await;
            assert!(matches!(answer, Err(CallError::Silent { .. })), "{behaviour}");
        }
    }
}
