//! The manifests in the pages of `docs/`, as a user copies them.

use std::path::Path;

use serde_json::Value;

/// Every object in the YAML blocks of a page, in order.
pub fn manifests(page: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = std::fs::read_to_string(path).expect("the page can be read");
    let mut objects = Vec::new();
    let mut block: Option<String> = None;
    for line in text.lines() {
        match &mut block {
            Some(yaml) if line == "```" => {
                let parts = yaml.split("\n---\n");
                objects.extend(parts.map(|part| serde_saphyr::from_str::<Value>(part).expect("the block is YAML")));
                block = None;
            }
            Some(yaml) => {
                yaml.push_str(line);
                yaml.push('\n');
            }
            None if line == "```yaml" => block = Some(String::new()),
            None => {}
        }
    }
    objects
}
