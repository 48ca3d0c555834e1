//! IAM tokens by password: fetched once for everybody who waits, kept while they are good, replaced early.
//!
//! A wrong password counts against the user, so all who wait for a sign-in share its failure.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::SecretString;

use super::{CloudError, Target};

/// Tokens kept at once, over all callers and projects.
const MAX_KEPT: usize = 1024;

/// A token is replaced when less than this is left of it, or after four fifths of its life, whichever is earlier.
const MARGIN: Duration = Duration::from_secs(60 * 60);

/// However short a token's life is said to be, it is used for this long, so that no sign-in precedes every call.
const SHORTEST_USE: Duration = Duration::from_secs(60);

/// A token and whose it is.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) value: SecretString,
    /// IAM user id of the caller.
    pub(super) user_id: Option<String>,
    /// Tells this token from the one before it.
    pub(super) serial: u64,
}

/// What a sign-in brought.
pub(super) struct Fresh {
    pub(super) value: SecretString,
    pub(super) user_id: Option<String>,
    pub(super) life: Duration,
    /// Of the answer, for the log.
    pub(super) status: u16,
    pub(super) request_id: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    source: String,
    version: String,
    iam: String,
    project: String,
}

impl Key {
    fn of(target: &Target) -> Self {
        Self {
            source: target.caller.source.clone(),
            version: target.caller.version.clone(),
            iam: target.endpoint.iam.clone(),
            project: target.app.project_id.to_string(),
        }
    }

    fn is_older_version_of(&self, other: &Self) -> bool {
        self.source == other.source && self.version != other.version
    }
}

#[derive(Default)]
struct Slot {
    /// Sign-ins that have ended, well or not.
    attempts: AtomicU64,
    state: tokio::sync::Mutex<SlotState>,
}

#[derive(Default)]
struct SlotState {
    token: Option<(Token, Duration)>,
    last_failure: Option<CloudError>,
}

/// The tokens of every caller.
#[derive(Default)]
pub(super) struct Tokens {
    slots: Mutex<HashMap<Key, (Arc<Slot>, Duration)>>,
}

impl Tokens {
    /// A token that is good at `uptime` and is not the one that was `refused`; `sign_in` is awaited only for a new one.
    ///
    /// # Errors
    /// That of the sign-in, which everybody who waited for it gets too.
    pub(super) async fn get(
        &self,
        target: &Target,
        uptime: Duration,
        refused: Option<u64>,
        sign_in: impl Future<Output = Result<Fresh, CloudError>> + Send,
    ) -> Result<Token, CloudError> {
        let slot = self.slot(Key::of(target), uptime);
        let attempts = slot.attempts.load(Ordering::Acquire);
        let mut state = slot.state.lock().await;
        match &state.token {
            Some((token, until)) if uptime < *until && refused != Some(token.serial) => return Ok(token.clone()),
            _ => state.token = None,
        }
        let ended = slot.attempts.load(Ordering::Acquire);
        if let (true, Some(failure)) = (ended != attempts, &state.last_failure) {
            return Err(failure.clone());
        }
        let outcome = sign_in.await;
        slot.attempts.fetch_add(1, Ordering::AcqRel);
        match outcome {
            Ok(fresh) => {
                let token = Token {
                    value: fresh.value,
                    user_id: fresh.user_id,
                    serial: ended + 1,
                };
                state.token = Some((token.clone(), uptime.saturating_add(use_for(fresh.life))));
                state.last_failure = None;
                Ok(token)
            }
            Err(error) => {
                state.last_failure = Some(error.clone());
                Err(error)
            }
        }
    }

    /// The slot of `key`. A new one drops those of older credentials of its source, and the longest unused one when
    /// there are too many; who still waits on a dropped slot ends undisturbed.
    fn slot(&self, key: Key, uptime: Duration) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((slot, used)) = slots.get_mut(&key) {
            *used = uptime;
            return Arc::clone(slot);
        }
        slots.retain(|other, _| !other.is_older_version_of(&key));
        if slots.len() >= MAX_KEPT {
            let longest_unused = slots
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(key, _)| key.clone());
            longest_unused.and_then(|key| slots.remove(&key));
        }
        let slot = Arc::new(Slot::default());
        slots.insert(key, (Arc::clone(&slot), uptime));
        slot
    }
}

/// How long a token that lives for `life` is used.
fn use_for(life: Duration) -> Duration {
    let most = life / 5 * 4;
    // A life of little more than the margin would leave nothing; half of it is then the better rule.
    let before_margin = life.saturating_sub(MARGIN).max(life / 2);
    most.min(before_margin).max(SHORTEST_USE)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures::FutureExt;

    use super::super::tests::target;
    use super::super::{CloudErrorKind, Target};
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[allow(clippy::unnecessary_wraps, reason = "stands for a sign-in")]
    fn fresh(count: &AtomicUsize) -> Result<Fresh, CloudError> {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        Ok(Fresh {
            value: format!("token-{number}").into(),
            user_id: Some("u".into()),
            life: 24 * HOUR,
            status: 201,
            request_id: None,
        })
    }

    fn failure() -> CloudError {
        CloudError {
            kind: CloudErrorKind::CredentialsRejected,
            status: Some(401),
            code: None,
            message: "no".into(),
            request_id: None,
        }
    }

    fn version(version: &str) -> Target {
        let mut target = target();
        target.caller.version = version.into();
        target
    }

    #[tokio::test]
    async fn a_token_is_kept_until_four_fifths_of_its_life() {
        let (tokens, count) = (Tokens::default(), AtomicUsize::new(0));
        for (hours, signed_in) in [(0, 1), (19, 1), (20, 2), (38, 2), (40, 3)] {
            tokens
                .get(&target(), hours * HOUR, None, async { fresh(&count) })
                .await
                .unwrap();
            assert_eq!(count.load(Ordering::SeqCst), signed_in, "after {hours} h");
        }
    }

    #[test]
    fn a_short_life_is_used_by_half_and_never_for_no_time() {
        assert_eq!(use_for(24 * HOUR), 24 * HOUR / 5 * 4);
        assert_eq!(use_for(3 * HOUR), 2 * HOUR);
        assert_eq!(use_for(HOUR), HOUR / 2);
        assert_eq!(use_for(Duration::ZERO), SHORTEST_USE);
    }

    #[tokio::test]
    async fn a_refused_token_is_replaced_once_for_all_who_held_it() {
        let (tokens, count) = (Tokens::default(), AtomicUsize::new(0));
        let first = tokens
            .get(&target(), HOUR, None, async { fresh(&count) })
            .await
            .unwrap();
        let second = tokens
            .get(&target(), HOUR, Some(first.serial), async { fresh(&count) })
            .await
            .unwrap();
        let third = tokens
            .get(&target(), HOUR, Some(first.serial), async { fresh(&count) })
            .await
            .unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 2);
        assert_ne!(first.serial, second.serial);
        assert_eq!(second.serial, third.serial);
    }

    #[tokio::test]
    async fn all_who_wait_share_one_sign_in_and_its_failure() {
        for succeeds in [true, false] {
            let (tokens, count) = (Tokens::default(), AtomicUsize::new(0));
            let target = target();
            let sign_in = || async {
                tokio::task::yield_now().await;
                let fresh = fresh(&count);
                if succeeds { fresh } else { Err(failure()) }
            };
            let get = || tokens.get(&target, HOUR, None, sign_in());
            let all = tokio::join!(get(), get(), get(), get());
            assert_eq!(count.load(Ordering::SeqCst), 1);
            for outcome in [all.0, all.1, all.2, all.3] {
                assert_eq!(outcome.is_ok(), succeeds);
            }
            let _ = get().await;
            assert_eq!(
                count.load(Ordering::SeqCst),
                if succeeds { 1 } else { 2 },
                "a later call may try again"
            );
        }
    }

    #[tokio::test]
    async fn a_sign_in_that_was_given_up_blocks_nobody() {
        let (tokens, count) = (Tokens::default(), AtomicUsize::new(0));
        let target = target();
        let stuck = tokens.get(&target, HOUR, None, std::future::pending());
        assert!(stuck.now_or_never().is_none());
        assert!(tokens.get(&target, HOUR, None, async { fresh(&count) }).await.is_ok());
    }

    #[tokio::test]
    async fn each_version_endpoint_and_project_has_its_own_token_and_old_versions_go() {
        let (tokens, count) = (Tokens::default(), AtomicUsize::new(0));
        let mut elsewhere = version("1");
        elsewhere.endpoint.iam = "https://iam2".into();
        let mut project = version("1");
        project.app.project_id = crate::ids::ProjectId::parse("other").unwrap();
        for target in [version("1"), elsewhere, project] {
            tokens.get(&target, HOUR, None, async { fresh(&count) }).await.unwrap();
        }
        assert_eq!(
            (count.load(Ordering::SeqCst), tokens.slots.lock().unwrap().len()),
            (3, 3)
        );
        tokens
            .get(&version("2"), HOUR, None, async { fresh(&count) })
            .await
            .unwrap();
        assert_eq!(
            (count.load(Ordering::SeqCst), tokens.slots.lock().unwrap().len()),
            (4, 1)
        );
    }

    #[tokio::test]
    async fn the_longest_unused_token_makes_room() {
        let (tokens, count) = (Tokens::default(), AtomicUsize::new(0));
        let source = |number: usize| {
            let mut target = target();
            target.caller.source = number.to_string();
            target
        };
        for number in 0..MAX_KEPT + 10 {
            let uptime = Duration::from_millis(number as u64);
            tokens
                .get(&source(number), uptime, None, async { fresh(&count) })
                .await
                .unwrap();
        }
        assert_eq!(tokens.slots.lock().unwrap().len(), MAX_KEPT);
        tokens
            .get(&source(10), HOUR, None, async { fresh(&count) })
            .await
            .unwrap();
        assert_eq!(count.load(Ordering::SeqCst), MAX_KEPT + 10, "number 10 is still there");
        tokens
            .get(&source(9), HOUR, None, async { fresh(&count) })
            .await
            .unwrap();
        assert_eq!(count.load(Ordering::SeqCst), MAX_KEPT + 11, "number 9 has gone");
    }
}
