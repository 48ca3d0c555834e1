//! A stateful stand-in for the cloud.
