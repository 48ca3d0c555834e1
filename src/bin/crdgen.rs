//! Prints the CustomResourceDefinition of `AppCodeRotation` as YAML.

use appcode_operator::api::AppCodeRotation;
use kube::CustomResourceExt;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    print!("{}", serde_saphyr::to_string(&AppCodeRotation::crd())?);
    Ok(())
}
