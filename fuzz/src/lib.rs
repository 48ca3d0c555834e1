//! The properties that the targets try. They are those of the tests, so that a finding of either is one of both.

#[path = "../../tests/fuzz/properties.rs"]
pub mod properties;
