//! Where the documentation leaves the cloud's behaviour open, a switch.
//!
//! The default is neither kind nor the worst: codes come in any order and errors name them, while quoted requests, masks
//! and unknown fields are off until a test turns them on.

use serde::{Deserialize, Serialize};

/// What stands in front of the numbers of the front gateway's error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum GatewayPrefix {
    /// `APIG.`
    #[serde(rename = "APIG")]
    Apig,
    /// `APIGW.`
    #[default]
    #[serde(rename = "APIGW")]
    Apigw,
}

impl GatewayPrefix {
    /// Without the dot.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Apig => "APIG",
            Self::Apigw => "APIGW",
        }
    }
}

/// Where answers show a new code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CodePosition {
    /// At the place of the one it replaces, else last.
    Keep,
    /// First.
    First,
    /// Last.
    Last,
    /// Every answer has an order of its own.
    #[default]
    Shuffled,
}

/// How a call about a code that the app does not have is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownCode {
    /// 404 `ModelArts.3923`.
    #[default]
    NotFound,
    /// 500 `ModelArts.3927`, or `ModelArts.3934` when deleting.
    Failed,
}

/// The switches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is one open question of the documentation"
)]
pub struct Behaviour {
    /// Prefix of the front gateway's error codes. The data plane always says `APIG.`.
    pub gateway_prefix: GatewayPrefix,
    /// A wrong signature is answered with the canonical request, which holds the path.
    pub echo_canonical_request: bool,
    /// Errors about a code name it.
    pub echo_codes: bool,
    /// How a call about a code that is not there is refused.
    pub unknown_code: UnknownCode,
    /// Calls that change an app do without a body.
    pub accept_missing_body: bool,
    /// Name and remark in a body change the app's.
    pub apply_names: bool,
    /// Where answers show a new code.
    pub code_position: CodePosition,
    /// `%2F` in a path is answered with 404.
    pub refuse_encoded_slash: bool,
    /// An app can be shown to a caller who did not create it.
    pub show_to_strangers: bool,
    /// A workspace that exists but is not the app's does not hinder.
    pub ignore_workspace: bool,
    /// Codes are shown with asterisks unless `iphertext_enabled=true`, which only the calls that read can say.
    pub mask_unless_asked: bool,
    /// Answers hold fields that no documentation knows.
    pub extra_fields: bool,
    /// Apps that a user may create by request in one project.
    pub apps_per_user: usize,
    /// Length of an IAM token in characters.
    pub token_length: usize,
    /// How long the data plane takes a code that has ended, in milliseconds.
    pub old_code_valid_millis: u64,
    /// How long the data plane refuses a code that was just made, in milliseconds.
    pub new_code_delay_millis: u64,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            gateway_prefix: GatewayPrefix::default(),
            echo_canonical_request: false,
            echo_codes: true,
            unknown_code: UnknownCode::default(),
            accept_missing_body: false,
            apply_names: false,
            code_position: CodePosition::default(),
            refuse_encoded_slash: false,
            show_to_strangers: false,
            ignore_workspace: false,
            mask_unless_asked: false,
            extra_fields: false,
            apps_per_user: 5,
            token_length: 2048,
            old_code_valid_millis: 0,
            new_code_delay_millis: 0,
        }
    }
}
