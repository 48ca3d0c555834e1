//! Draws the scene: in place on a terminal, line by line elsewhere.

use std::io::{IsTerminal, Write, stdout};
use std::process::{Command, Stdio};

use appcode_operator::api::{ConditionType, Trigger};
use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;

use crate::manifests::{NAME, NAMESPACE, SECRET};
use crate::observe::{Answer, Scene};
use crate::stage::Guide;
use crate::story::{Seen, Story};

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";
/// How many rotations are listed.
const LISTED: usize = 4;

/// Where the demo is seen.
pub struct Screen {
    guide: Guide,
    is_terminal: bool,
    has_colour: bool,
    /// The picture without the commands, which are of no use once the demo is over.
    last: String,
    /// For plain lines: rotations already told, and the caption told last.
    told: usize,
    caption: &'static str,
}

impl Screen {
    pub fn open(guide: Guide) -> Self {
        let is_terminal = stdout().is_terminal();
        let has_colour = is_terminal && std::env::var_os("NO_COLOR").is_none();
        let screen = Self {
            guide,
            is_terminal,
            has_colour,
            last: String::new(),
            told: 0,
            caption: "",
        };
        if is_terminal {
            // The alternate screen, no cursor, long lines cut off instead of wrapped.
            write("\x1b[?1049h\x1b[?25l\x1b[?7l");
        } else {
            write(&format!(
                "{}\n\n{}\n\n",
                screen.title(),
                screen.commands("until the demo ends").join("\n")
            ));
        }
        screen
    }

    pub fn show(&mut self, scene: &Scene, story: &Story) {
        if !self.is_terminal {
            return self.tell(scene, story);
        }
        self.last = self.picture(scene, story);
        let picture = format!("{}\n\n{}", self.last, self.commands(&story.ending()).join("\n"));
        let mut lines: Vec<&str> = picture.lines().collect();
        let rows = rows();
        if lines.len() > rows {
            lines.retain(|line| !line.is_empty());
        }
        let drawn: Vec<String> = lines
            .into_iter()
            .take(rows)
            .map(|line| format!("{line}\x1b[K"))
            .collect();
        write(&format!("\x1b[H{}\x1b[J", drawn.join("\r\n")));
    }

    /// Gives the terminal back and leaves the last picture on it.
    pub fn close(&mut self) {
        if std::mem::take(&mut self.is_terminal) {
            write("\x1b[?7h\x1b[?25h\x1b[?1049l");
            write(&format!("{}\n", self.last));
        }
    }

    fn picture(&self, scene: &Scene, story: &Story) -> String {
        let mut lines = vec![self.paint(BOLD, &self.title()), String::new()];
        lines.push(self.paint(
            CYAN,
            &format!("AppCodeRotation {NAMESPACE}/{NAME}, app {}", self.guide.app),
        ));
        lines.extend(self.columns(scene));
        lines.push(String::new());
        let secret = scene.secret.as_deref().unwrap_or("not there yet");
        let heading = self.paint(CYAN, &format!("Secret {NAMESPACE}/{SECRET}"));
        lines.push(format!("{heading}  fingerprint {}", self.paint(BOLD, secret)));
        lines.push(String::new());
        lines.push(self.paint(CYAN, "What an inference service answers"));
        lines.push(self.answer("old code", scene.old.as_ref()));
        lines.push(self.answer("new code", scene.new.as_ref()));
        lines.push(String::new());
        lines.push(self.paint(CYAN, &format!("Rotations: {}", story.rotations().len())));
        let skipped = story.rotations().len().saturating_sub(LISTED);
        for number in 0..LISTED {
            // Always as many lines, so that nothing below jumps.
            let seen = story.rotations().get(skipped + number);
            lines.push(seen.map_or_else(|| self.paint(DIM, "  ."), rotation));
        }
        lines.push(String::new());
        lines.push(self.paint(YELLOW, &format!("> {}", story.caption())));
        lines.join("\n")
    }

    fn title(&self) -> String {
        let release = self.guide.release.as_deref().unwrap_or_default();
        format!("AppCode operator: real kube-apiserver {release} and operator, simulated cloud")
    }

    /// The columns of `kubectl get`, with times counted down.
    fn columns(&self, scene: &Scene) -> [String; 3] {
        let status = &scene.status;
        let phase = status
            .phase
            .map_or_else(|| "-".to_owned(), |phase| format!("{phase:?}"));
        let is_ready = status.is_true(ConditionType::Ready);
        let ready = status
            .condition(ConditionType::Ready)
            .map_or("-", |condition| &condition.status);
        let now = Timestamp::now();
        let last = status.last_rotation_time.as_ref().map(|time| time.0).map_or_else(
            || "-".to_owned(),
            |time| format!("{}s ago", now.duration_since(time).as_secs().max(0)),
        );
        let next = status.next_rotation_time.as_ref().map(|time| time.0).map_or_else(
            || "-".to_owned(),
            |time| format!("in {}s", time.duration_since(now).as_secs().max(0)),
        );
        let message = status
            .condition(ConditionType::Ready)
            .map_or("", |condition| &condition.message);
        let head = format!("  {:<10} {:<7} {:<14} NEXT ROTATION", "PHASE", "READY", "LAST ROTATION");
        let colour = if is_ready { GREEN } else { YELLOW };
        let row = format!(
            "  {} {} {last:<14} {next}",
            self.paint(colour, &format!("{phase:<10}")),
            self.paint(colour, &format!("{ready:<7}")),
        );
        [self.paint(DIM, &head), row, self.paint(DIM, &format!("  {message}"))]
    }

    fn answer(&self, name: &str, answer: Option<&Answer>) -> String {
        let Some(answer) = answer else {
            return self.paint(DIM, &format!("  {name}  none yet"));
        };
        let colour = if answer.status == 200 { GREEN } else { RED };
        format!(
            "  {name}  {}  {}",
            answer.fingerprint,
            self.paint(colour, &meaning(answer.status))
        )
    }

    fn commands(&self, ending: &str) -> Vec<String> {
        let mut lines = vec![
            self.paint(CYAN, &format!("Try it in another terminal ({ending})")),
            format!("  export KUBECONFIG={}", self.guide.kubeconfig),
        ];
        lines.extend(
            self.guide
                .kubectl
                .as_ref()
                .map(|program| format!("  alias kubectl={program}")),
        );
        lines.extend([
            format!("  kubectl -n {NAMESPACE} get acr -w"),
            format!("  kubectl -n {NAMESPACE} describe acr {NAME}"),
            // In two lines, so that it can be copied from a terminal of 80 columns.
            format!("  kubectl -n {NAMESPACE} annotate acr {NAME} --overwrite \\"),
            "      appcode.dev/rotate-requested-at=$(date +%s)".to_owned(),
            format!("  kubectl -n {NAMESPACE} describe secret {SECRET}"),
            self.paint(DIM, &format!("The operator's log: {}", self.guide.log)),
        ]);
        lines
    }

    /// Says what is new, in lines.
    fn tell(&mut self, scene: &Scene, story: &Story) {
        let seconds = story.elapsed().as_secs_f64();
        let caption = story.caption();
        let fresh = story.rotations().get(self.told..).unwrap_or_default();
        for seen in fresh {
            let secret = scene.secret.as_deref().unwrap_or("-");
            let mut lines = vec![
                format!("[{seconds:5.1}s]{}", rotation(seen)),
                format!("          Secret {SECRET}: fingerprint {secret}"),
            ];
            for (name, answer) in [("old", &scene.old), ("new", &scene.new)] {
                let told = answer.as_ref();
                lines.extend(
                    told.map(|told| format!("          {name} code {}: {}", told.fingerprint, meaning(told.status))),
                );
            }
            write(&(lines.join("\n") + "\n"));
        }
        self.told = story.rotations().len();
        if caption != self.caption {
            write(&format!("[{seconds:5.1}s]  {caption}\n"));
            self.caption = caption;
        }
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.has_colour {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Also when the demo fails: a terminal without cursor is no good to anybody.
        self.close();
    }
}

fn meaning(status: u16) -> String {
    match status {
        200 => "200 served".to_owned(),
        401 => "401 refused".to_owned(),
        other => other.to_string(),
    }
}

fn rotation(seen: &Seen) -> String {
    let entry = &seen.entry;
    let why = match entry.trigger {
        Trigger::Initial => "first sight",
        Trigger::Target => "another app or seed",
        Trigger::Spec => "rotationTrigger changed",
        Trigger::Request => "annotation",
        Trigger::Schedule => "schedule",
    };
    let time = entry.completed_at.0.strftime("%H:%M:%S");
    let strategy = entry.strategy.as_str();
    format!(
        "  #{:<3} {time}  {}  {strategy:<7}  {why}",
        entry.number, entry.fingerprint
    )
}

/// An event in two lines.
pub fn told(event: &Event) -> String {
    let time = event
        .event_time
        .as_ref()
        .map(|time| time.0.strftime("%H:%M:%S").to_string());
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (kind, reason, note) = (text(&event.type_), text(&event.reason), text(&event.note));
    format!("  {}  {kind}  {reason}\n            {note}", time.unwrap_or_default())
}

/// Height of the terminal.
fn rows() -> usize {
    let size = Command::new("stty")
        .args(["-F", "/dev/tty", "size"])
        .stderr(Stdio::null())
        .output();
    let text = size
        .map(|size| String::from_utf8_lossy(&size.stdout).into_owned())
        .unwrap_or_default();
    let rows = text.split_whitespace().next().and_then(|rows| rows.parse().ok());
    rows.filter(|rows| *rows > 0).unwrap_or(24)
}

fn write(text: &str) {
    let mut out = stdout().lock();
    // Whoever reads has gone away; the end comes by a signal.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
