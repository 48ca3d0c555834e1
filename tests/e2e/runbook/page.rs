//! `docs/runbook.md` as a program reads it.

use std::path::Path;

/// A block of commands.
pub struct Block {
    /// The reason that it stands under; none before the first one.
    pub reason: Option<String>,
    /// The commands as a shell takes them.
    pub script: String,
}

/// What a word in capitals, or a part of another one, may consist of.
pub fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether it is in capitals and so stands for something else.
pub fn is_word(part: &str) -> bool {
    part.len() > 1 && part.chars().all(|c| c.is_ascii_uppercase() || c == '_')
}

pub fn text() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbook.md");
    std::fs::read_to_string(path).expect("the runbook can be read")
}

/// Every block of `text`, in order.
pub fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut reason, mut is_inside) = (None, false);
    for line in text.lines() {
        if is_inside && line != "```" {
            let block = blocks.last_mut().expect("a block was opened");
            block.script += line.strip_prefix("$ ").unwrap_or(line);
            block.script.push('\n');
        } else if line.starts_with("```") {
            is_inside = line == "```console";
            if is_inside {
                let reason = reason.clone();
                let script = String::new();
                blocks.push(Block { reason, script });
            }
        } else if line.starts_with('#') {
            reason = line.strip_prefix("### ").map(str::to_owned);
        }
    }
    blocks
}
