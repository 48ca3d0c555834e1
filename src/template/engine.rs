//! The template engine, fenced in.

use std::io;

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value, context};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::Values;

/// What only the data of a Secret may use.
const CODES: [&str; 2] = ["appCode", "previousAppCode"];
/// What labels and annotations may use too.
const CODELESS: [&str; 4] = ["projectId", "appId", "appName", "endpoint"];
/// The filters there are.
const FILTERS: [&str; 3] = ["base64", "json", "urlencode"];

/// Most tokens between the two ends of a tag, and most tags of a template: the depth to which it can be nested. A thread
/// of the operator has 2 MiB of stack, which such a template fills to a small part even without optimisation.
const MOST_TOKENS: usize = 100;
const MOST_TAGS: usize = 64;
/// Steps of the engine for one template; each pays for 64 bytes too.
const FUEL: u64 = 20_000;
/// Depth of what the engine repeats by itself.
const DEPTH: usize = 40;

/// Line and what is wrong.
pub(super) type Wrong = (Option<usize>, &'static str);

const UNPARSED: &str = "is no template: a tag is not closed, or holds what cannot be understood";
const UNKNOWN_FILTER: &str = "uses an unknown filter; there are base64, json and urlencode";
const UNKNOWN_VALUE: &str =
    "uses something else than appCode, previousAppCode, projectId, appId, appName and endpoint, which is all there is";
const CODE_SHOWN: &str = "must use neither appCode nor previousAppCode: whoever lists the Secret's metadata would read it. \
                          It may use projectId, appId, appName and endpoint";

fn syntax() -> SyntaxConfig {
    // What is written is what is rendered, down to the last line.
    let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
    syntax.unwrap_or_default() // the delimiters are the engine's own: cannot fail
}

/// Whether `text` is a template that may be rendered, whichever branches it takes. One that is `open` to all may use no
/// code.
pub(super) fn check(text: &str, is_open: bool) -> Result<(), Wrong> {
    check_tokens(text)?;
    let environment = environment();
    let template = environment.template_from_str(text).map_err(|error| told(&error))?;
    let used = template.undeclared_variables(false);
    if used
        .iter()
        .any(|name| !CODELESS.contains(&name.as_str()) && !CODES.contains(&name.as_str()))
    {
        return Err((None, UNKNOWN_VALUE));
    }
    if is_open && used.iter().any(|name| CODES.contains(&name.as_str())) {
        return Err((None, CODE_SHOWN));
    }
    Ok(())
}

/// The engine's own tokens, so that nothing is read in two ways.
fn check_tokens(text: &str) -> Result<(), Wrong> {
    let (mut tags, mut tokens) = (0, 0);
    let mut before = None;
    for token in tokenize(text, false, syntax()) {
        let (token, span) = token.map_err(|error| told(&error))?;
        let line = Some(usize::from(span.start_line));
        let what = match &token {
            Token::VariableStart | Token::BlockStart => {
                tags += 1;
                tokens = 0;
                (tags > MOST_TAGS).then_some("has more than 64 tags")
            }
            Token::Plus | Token::Mul | Token::Div | Token::FloorDiv | Token::Pow | Token::Mod => {
                Some("calculates, which no template may; texts are joined by ~")
            }
            Token::BraceOpen | Token::BraceClose => Some("makes a map, which no template may"),
            Token::Ident("is") => Some("uses a test, and there are none; texts are compared by == and the like"),
            Token::Ident(name) if matches!(before, Some(Before::Filter)) && !FILTERS.contains(name) => {
                Some(UNKNOWN_FILTER)
            }
            _ => None,
        };
        tokens += 1;
        let what = what.or((tokens > MOST_TOKENS).then_some("has a tag that is too long"));
        if let Some(what) = what {
            return Err((line, what));
        }
        before = match (&token, before) {
            (Token::BlockStart, _) => Some(Before::Tag),
            (Token::Pipe, _) | (Token::Ident("filter"), Some(Before::Tag)) => Some(Before::Filter),
            _ => None,
        };
        if matches!(token, Token::TemplateData(_)) {
            tokens = 0;
        }
    }
    Ok(())
}

/// What an identifier comes after.
#[derive(Clone, Copy)]
enum Before {
    Tag,
    Filter,
}

fn environment<'a>() -> Environment<'a> {
    let mut environment = Environment::empty(); // no functions, no tests, no loader, no escapes
    environment.set_syntax(syntax());
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_recursion_limit(DEPTH);
    environment.set_fuel(Some(FUEL));
    environment.set_formatter(write_text);
    environment.add_filter("base64", base64);
    environment.add_filter("json", json);
    environment.add_filter("urlencode", |text: &str| {
        utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
    });
    environment
}

fn base64(text: &str) -> String {
    let bytes = k8s_openapi::ByteString(text.as_bytes().to_vec());
    let encoded = serde_json::to_value(bytes).ok();
    encoded
        .as_ref()
        .and_then(|value| value.as_str())
        .unwrap_or_default()
        .to_owned() // a byte string is a text
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Texts and numbers only: how a list looks is nobody's business, and writing one is not paid for by fuel.
fn write_text(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if let Some(text) = value.as_str() {
        return out.write_str(text).map_err(Error::from);
    }
    if value.is_number() {
        return out.write_str(&value.to_string()).map_err(Error::from);
    }
    Err(Error::from(ErrorKind::BadSerialization))
}

/// Renders the templates of one resource, with one bound for all.
pub(super) struct Engine<'a> {
    values: Values<'a>,
    left: usize,
}

impl<'a> Engine<'a> {
    /// An engine that writes at most so many bytes in all.
    pub(super) fn new(values: Values<'a>, most: usize) -> Self {
        Self { values, left: most }
    }

    /// Renders a template that was checked, with the codes or without.
    pub(super) fn render(&mut self, text: &str, with_codes: bool) -> Result<String, Wrong> {
        check_tokens(text)?;
        let Values {
            app_code,
            previous,
            app,
            app_name,
        } = self.values;
        let open = context! {
            projectId => app.project_id.as_str(), appId => app.app_id.as_str(), appName => app_name,
            endpoint => app.endpoint.as_str(),
        };
        let values = if with_codes {
            context! { appCode => app_code, previousAppCode => previous, ..open }
        } else {
            open
        };
        let environment = environment();
        let template = environment.template_from_str(text).map_err(|error| told(&error))?;
        let mut written = Bounded {
            bytes: Vec::new(),
            left: self.left,
        };
        template
            .render_captured_to(values, &mut written)
            .map_err(|error| told(&error))?;
        self.left = written.left;
        String::from_utf8(written.bytes).map_err(|_| (None, UNPARSED)) // it is written from texts
    }
}

/// Takes so many bytes and no more.
struct Bounded {
    bytes: Vec<u8>,
    left: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self
            .left
            .checked_sub(bytes.len())
            .ok_or_else(|| io::Error::other("too much"))?;
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What went wrong, without the engine's own words: they may quote what stands in a template or comes out of it.
fn told(error: &Error) -> Wrong {
    let what = match error.kind() {
        ErrorKind::SyntaxError | ErrorKind::BadEscape => UNPARSED,
        ErrorKind::UnknownFilter => UNKNOWN_FILTER,
        ErrorKind::UndefinedError => "uses what is not defined there",
        ErrorKind::OutOfFuel => "does too much",
        ErrorKind::WriteFailure => "comes to more than 64 KiB, with all others",
        ErrorKind::BadSerialization => "writes what is neither text nor number",
        _ => "fails: something in it is done to a value that does not allow it",
    };
    (error.line(), what)
}
