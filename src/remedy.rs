//! The commands that resolve a stop, and how a message carries them. Pure.
//!
//! A message is one line of prose, then each command on an indented line of its own. Only this module writes such lines:
//! [`tell`] makes prose one line whatever that quotes, and what stands in a command was checked before or is quoted for a
//! shell here. Words in capitals are those of the runbook (`docs/runbook.md`), for what only a person knows; each command
//! stands there under the heading of its reason.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::api::{ADOPT_FINGERPRINT, CHECK_REQUESTED_AT, ROTATE_REQUESTED_AT};
use crate::modelarts::one_line;

/// What a command stands behind.
const INDENT: &str = "\n      ";
/// Most commands of a message: more would be read by nobody.
const MOST: usize = 2;
/// Least prose, in bytes, that is left of a message that is cut; else its commands go.
const LEAST_PROSE: usize = 200;

/// What a Secret loses without `spec.target.template`.
pub const NO_TEMPLATE: &str = "template: null also takes the labels, annotations and type that it sets";

/// The options that read new credentials from files, since others could read a command line.
const KEY_FILES: &str = "--from-file=accessKey=ACCESS_FILE --from-file=secretKey=KEY_FILE";

/// A message: what happened and why nothing is changed, in one line whatever `prose` quotes, and the commands, the first
/// two of those that differ.
pub fn tell(prose: &str, commands: impl IntoIterator<Item = String>) -> String {
    let mut message = one_line(prose);
    let mut told: Vec<String> = Vec::new();
    for command in commands {
        if told.len() < MOST && !told.contains(&command) {
            message = message + INDENT + &command;
            told.push(command);
        }
    }
    message
}

/// What a message says besides its commands.
pub fn prose(message: &str) -> &str {
    message.split_once(INDENT).map_or(message, |(prose, _)| prose)
}

/// The commands of a message.
pub fn commands(message: &str) -> impl Iterator<Item = &str> {
    message.split(INDENT).skip(1)
}

/// The message with more prose.
#[must_use]
pub fn with_prose(message: &str, more: &str) -> String {
    tell(
        &format!("{} {more}", prose(message)),
        commands(message).map(str::to_owned),
    )
}

/// The message in at most `longest` bytes. Prose is cut, and commands go as a whole: half of one might do something else.
pub fn fit(message: String, longest: usize) -> String {
    if message.len() <= longest {
        return message;
    }
    let prose = prose(&message);
    let commands = message.get(prose.len()..).unwrap_or_default();
    let left = longest.saturating_sub(commands.len());
    if left >= LEAST_PROSE.min(prose.len()) {
        cut(prose, left).to_owned() + commands
    } else {
        cut(prose, longest).to_owned()
    }
}

fn cut(text: &str, longest: usize) -> &str {
    let ends = (0..=longest.min(text.len())).rev();
    let end = ends.into_iter().find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// Renders the commands about one resource.
#[derive(Clone, Copy, Debug)]
pub struct Kubectl<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

impl Kubectl<'_> {
    fn run(&self, what: &str, more: &str) -> String {
        let command = format!("kubectl {what} -n {}", word(self.namespace));
        if more.is_empty() {
            command
        } else {
            format!("{command} {more}")
        }
    }

    fn acr(&self, verb: &str, more: &str) -> String {
        self.run(&format!("{verb} acr {}", word(self.name)), more)
    }

    fn secret(&self, verb: &str, secret: &str, more: &str) -> String {
        self.run(&format!("{verb} {}", word(secret)), more)
    }

    // ── on the resource ────────────────────────────────────────────────────────────────────────────────────────────

    /// Corrects the spec by hand.
    pub fn edit(&self) -> String {
        self.acr("edit", "")
    }

    /// Deletes the resource.
    pub fn delete(&self) -> String {
        self.acr("delete", "")
    }

    /// Changes fields of the spec.
    pub fn patch(&self, spec: &Value) -> String {
        let patch = json!({ "spec": spec });
        self.acr("patch", &format!("--type=merge -p {}", word(&patch.to_string())))
    }

    /// Answers which code it is to be.
    pub fn answer(&self) -> String {
        self.acr("annotate", &format!("--overwrite {ADOPT_FINGERPRINT}=FINGERPRINT"))
    }

    /// Has the operator look at once, and changes nothing. An answer that a person has given stays.
    pub fn look(&self) -> String {
        let value = "\"$(date +%s)\"";
        self.acr("annotate", &format!("--overwrite {CHECK_REQUESTED_AT}={value}"))
    }

    /// Takes back what was asked for.
    pub fn take_back(&self) -> [String; 2] {
        [
            self.acr("annotate", &format!("{ROTATE_REQUESTED_AT}-")),
            self.patch(&json!({"rotationTrigger": null})),
        ]
    }

    /// Corrects the template, or does without.
    pub fn another_template(&self) -> [String; 2] {
        [self.edit(), self.patch(&json!({"target": {"template": null}}))]
    }

    /// Tries the code elsewhere, or not at all.
    pub fn another_verification(&self) -> [String; 2] {
        let ways = [json!({"url": "VERIFICATION_URL"}), json!(null)];
        ways.map(|way| self.patch(&json!({"verification": way})))
    }

    /// Names another Secret as the target.
    pub fn another_target(&self) -> String {
        self.patch(&json!({"target": {"name": "NEW_SECRET"}}))
    }

    /// Puts a code into a Secret and names that as the seed.
    pub fn another_seed(&self) -> [String; 2] {
        let source = json!({"secretKeyRef": {"key": "appCode", "name": "SEED"}});
        [
            self.make_seed("SEED", "appCode"),
            self.patch(&json!({"appCode": null, "appCodeFrom": source})),
        ]
    }

    /// Puts keys into a Secret and names that as the credentials.
    pub fn other_credentials(&self) -> [String; 2] {
        [
            self.make_credentials("NEW_CREDENTIALS"),
            self.patch(&json!({"credentialsRef": {"name": "NEW_CREDENTIALS"}})),
        ]
    }

    /// Gives the operator back what rights it was installed with, and has it look.
    pub fn install_again(&self) -> [String; 2] {
        ["kubectl apply -k OVERLAY".to_owned(), self.look()]
    }

    // ── on Secrets of its namespace ────────────────────────────────────────────────────────────────────────────────

    /// Makes a Secret with credentials.
    pub fn make_credentials(&self, secret: &str) -> String {
        self.secret("create secret generic", secret, KEY_FILES)
    }

    /// Puts other credentials into a Secret that exists; what else stands there stays.
    pub fn mend_credentials(&self, secret: &str) -> String {
        self.mend(secret, KEY_FILES)
    }

    /// Makes a Secret with a code.
    pub fn make_seed(&self, secret: &str, key: &str) -> String {
        self.secret("create secret generic", secret, &seed_file(key))
    }

    /// Puts a code into a Secret that exists; what else stands there stays.
    pub fn mend_seed(&self, secret: &str, key: &str) -> String {
        self.mend(secret, &seed_file(key))
    }

    /// A merge patch, since `apply` removes what an earlier one has put there, and `replace` all else.
    fn mend(&self, secret: &str, files: &str) -> String {
        let patch = self.secret("patch secret", secret, "--type=merge --patch-file=/dev/stdin");
        let more = format!("{files} --dry-run=client -o yaml | {patch}");
        self.secret("create secret generic", secret, &more)
    }

    /// Makes an empty Secret.
    pub fn make_secret(&self, secret: &str) -> String {
        self.secret("create secret generic", secret, "")
    }

    /// Deletes a Secret.
    pub fn delete_secret(&self, secret: &str) -> String {
        self.secret("delete secret", secret, "")
    }

    /// Saves a copy of a Secret with all that stands on it.
    pub fn save_secret(&self, secret: &str) -> String {
        self.secret("get secret", secret, "-o yaml > BACKUP_FILE")
    }

    /// Makes an immutable Secret anew with all that stands on it. It is deleted before it is made, so a file keeps it.
    pub fn unlock_secret(&self, secret: &str) -> [String; 2] {
        let save = "-o yaml | sed '/^immutable:/d' > BACKUP_FILE";
        [
            self.secret("get secret", secret, save),
            self.run("replace --force", "-f BACKUP_FILE"),
        ]
    }

    /// Corrects a Secret by hand.
    pub fn edit_secret(&self, secret: &str) -> String {
        self.secret("edit secret", secret, "")
    }

    /// Sets or, where it ends with `-`, removes an annotation of a Secret.
    pub fn annotate_secret(&self, secret: &str, change: &str) -> String {
        self.secret("annotate secret", secret, &word(change))
    }

    /// Removes a label of a Secret.
    pub fn unlabel_secret(&self, secret: &str, label: &str) -> String {
        self.secret("label secret", secret, &word(&format!("{label}-")))
    }

    /// Removes a key of a Secret.
    pub fn remove_key(&self, secret: &str, key: &str) -> String {
        let pointer = key.replace('~', "~0").replace('/', "~1");
        let patch = json!([{"op": "remove", "path": format!("/data/{pointer}")}]);
        let more = format!("--type=json -p {}", word(&patch.to_string()));
        self.secret("patch secret", secret, &more)
    }

    // ── on workloads of its namespace ──────────────────────────────────────────────────────────────────────────────

    /// Has `kubectl rollout` do something with a workload, such as `deployment/web`.
    pub fn rollout(&self, action: &str, workload: &str) -> String {
        self.run(&format!("rollout {action} {}", word(workload)), "")
    }

    /// Shows a workload and what happened to it.
    pub fn describe(&self, workload: &str) -> String {
        self.run(&format!("describe {}", word(workload)), "")
    }

    /// Corrects a workload by hand.
    pub fn edit_workload(&self, workload: &str) -> String {
        self.run(&format!("edit {}", word(workload)), "")
    }

    /// Lets a StatefulSet replace all of its pods.
    pub fn lower_partition(&self, workload: &str) -> String {
        let patch = json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}});
        let more = format!("--type=merge -p {}", word(&patch.to_string()));
        self.run(&format!("patch {}", word(workload)), &more)
    }

    /// Deletes a pod, so that its controller makes another one.
    pub fn delete_pod(&self) -> String {
        self.run("delete pod POD", "")
    }
}

fn seed_file(key: &str) -> String {
    format!("--from-file={}=CODE_FILE", word(key))
}

/// As a shell takes it for one word. Names of objects and keys are one as they are; all else is quoted.
fn word(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:".contains(c);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")))
}

#[cfg(test)]
pub(crate) mod page;
#[cfg(test)]
mod tests;
