//! Chat templates.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value, context};

use crate::error::TokensError;

/// The ChatML template, used where a model brings none.
pub(crate) const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// What stands for the user's text while the template is rendered; private-use characters that no template contains.
const PLACEHOLDER: &str = "\u{F8F0}user\u{F8F1}text\u{F8F2}";

/// Renders `template` around a user's message and gives back what stands before and after that message.
pub(crate) fn around_user(template: &str, bos: &str, eos: &str) -> Result<(String, String), TokensError> {
    let failed = |error: Error| TokensError::Template { message: format!("{error:#}") };
    let mut environment = Environment::new();
    // As transformers sets them: white space around block tags is the template's layout.
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(failed)?;
    environment.set_syntax(syntax);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.set_unknown_method_callback(python_method);
    environment.add_template("chat", template).map_err(failed)?;
    let template = environment.get_template("chat").map_err(failed)?;
    let rendered = template
        .render(context! {
            messages => vec![context! { role => "user", content => PLACEHOLDER }],
            add_generation_prompt => true,
            bos_token => bos,
            eos_token => eos,
        })
        .map_err(failed)?;
    let mut parts = rendered.split(PLACEHOLDER);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(before), Some(after), None) => Ok((before.to_string(), after.to_string())),
        (_, None, _) => Err(TokensError::Template { message: "it drops the user's message".into() }),
        _ => Err(TokensError::Template { message: "it writes the user's message more than once".into() }),
    }
}

/// The string methods of Python that templates in the wild call.
fn python_method(
    _: &mut minijinja::State,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    let unknown = || Error::new(ErrorKind::UnknownMethod, format!("no method named {method}"));
    let Some(text) = value.as_str() else {
        return Err(unknown());
    };
    let argument = arguments.first().and_then(|argument| argument.as_str());
    let set: Vec<char> = argument.map(|set| set.chars().collect()).unwrap_or_default();
    let strips =
        |character: char| if set.is_empty() { character.is_whitespace() } else { set.contains(&character) };
    Ok(match (method, argument) {
        ("startswith", Some(prefix)) => Value::from(text.starts_with(prefix)),
        ("endswith", Some(suffix)) => Value::from(text.ends_with(suffix)),
        ("split", Some(separator)) if !separator.is_empty() => {
            Value::from_iter(text.split(separator).map(Value::from))
        }
        ("strip", _) => Value::from(text.trim_matches(strips)),
        ("lstrip", _) => Value::from(text.trim_start_matches(strips)),
        ("rstrip", _) => Value::from(text.trim_end_matches(strips)),
        ("upper", _) => Value::from(text.to_uppercase()),
        ("lower", _) => Value::from(text.to_lowercase()),
        _ => return Err(unknown()),
    })
}
