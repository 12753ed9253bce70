//! Secrets: how they are made, hashed and compared.

use vul2safe_code::{Node, Severity, Span};

use super::calls::Call;
use super::flow::Flow;
use super::value::{Level, Value, names_any};

/// Words of names that hold secrets.
const SECRETS: &[&str] = &[
    "token",
    "tokens",
    "password",
    "passwords",
    "passwd",
    "pwd",
    "passphrase",
    "secret",
    "secrets",
    "session",
    "sessionid",
    "nonce",
    "otp",
    "salt",
    "csrf",
    "pin",
    "apikey",
    "credential",
    "credentials",
    "invite",
    "invitation",
    "voucher",
    "coupon",
    "captcha",
    "passcode",
    "sid",
    "cookie",
    "verification",
];
/// Words that name a secret only in the name of a function that makes one, or of a string that is put together.
const WEAK_SECRETS: &[&str] = &["key", "code", "reset", "auth", "recovery", "license"];
const PASSWORDS: &[&str] = &["password", "passwd", "pwd", "passphrase", "pass", "pw", "passcode", "pin"];
const SIGNATURES: &[&str] =
    &["signature", "digest", "hmac", "mac", "sig", "csrf", "apikey", "secret", "checksum_key"];
const TOKENS: &[&str] = &["token", "password", "key", "hash", "otp", "code"];
const CHECKING: &[&str] = &[
    "verify",
    "check",
    "auth",
    "authenticate",
    "authorize",
    "valid",
    "validate",
    "compare",
    "login",
    "csrf",
    "matches",
    "is",
];
const FAST_HASHES: &[&str] = &[
    "md5", "md4", "sha1", "sha", "sha224", "sha256", "sha384", "sha512", "sha3_256", "sha3_512", "blake2b",
    "blake2s",
];
const BROKEN_HASHES: &[&str] = &["md5", "md4", "sha1", "sha"];

impl Flow<'_> {
    /// Where a call asks a predictable generator.
    pub fn random_source(&self, call: &Call<'_>) -> Option<Span> {
        let module =
            call.dotted.strip_prefix("random.").or_else(|| call.dotted.strip_prefix("numpy.random."));
        let predictable = match module {
            Some(function) => {
                !function.starts_with("SystemRandom") && !matches!(function, "seed" | "shuffle")
            }
            None => call.is(&["uuid.uuid1"]),
        };
        predictable.then(|| call.span())
    }

    pub fn check_assignment(&mut self, name: &str, value: &Value) {
        let Some(random) = value.random else { return };
        let put_together = value.built.is_some() && names_any(name, WEAK_SECRETS);
        if names_any(name, SECRETS) || put_together {
            self.predictable(random);
        }
    }

    fn predictable(&mut self, span: Span) {
        self.report("predictable-random", None, span, "the generator can be predicted from earlier values");
    }

    pub fn check_secret_call(&mut self, call: &Call<'_>) {
        let (algorithm, data) = match call.dotted.strip_prefix("hashlib.") {
            Some("new") => (
                call.arguments.first().map(|argument| argument.0.text.to_ascii_lowercase()),
                call.arguments.get(1),
            ),
            Some(name) if !name.contains('.') => (Some(name.to_string()), call.arguments.first()),
            None if matches!(call.method, "md5" | "sha1") && call.receiver.is_none() => {
                (Some(call.method.to_string()), call.arguments.first())
            }
            // `hash = hashlib.md5()`, then `hash.update(password)`.
            _ if call.method == "update" => {
                let maker =
                    call.receiver.as_ref().and_then(|receiver| receiver.made_by.strip_prefix("hashlib."));
                (maker.map(str::to_string), call.arguments.first())
            }
            _ => (None, None),
        };
        let Some(algorithm) = algorithm else { return };
        let algorithm = algorithm.replace('-', "");
        if !FAST_HASHES.contains(&algorithm.as_str()) {
            return;
        }
        if call.keyword_node("usedforsecurity").is_some_and(|node| self.text(node) == "False") {
            return;
        }
        let about = |flow: &Self, words: &[&str]| {
            names_any(&flow.function, words)
                || data.is_some_and(|(value, node)| {
                    flow.mentions(*node, words) || value.sources.iter().any(|source| names_any(source, words))
                })
        };
        let broken = BROKEN_HASHES.contains(&algorithm.as_str());
        if about(self, PASSWORDS) && data.is_some() {
            let message = "a password is hashed so fast that it can be guessed";
            self.report("weak-password-hash", None, call.span(), message);
        } else if broken && data.is_some() && (about(self, SECRETS) || about(self, SIGNATURES)) {
            self.report("weak-hash", None, call.span(), "collisions can be made for this hash");
        }
    }

    pub fn check_comparison(&mut self, node: Node<'_>, values: &[Value]) {
        self.check_host_comparison(node);
        self.check_signature_membership(node, values);
        let (Some(left), Some(right)) = (node.named_child(0), node.named_child(1)) else { return };
        if node.named_child_count() != 2 || !matches!(self.text_between(left, right), "==" | "!=") {
            return;
        }
        let [first, second] = values else { return };
        let constant = |node: Node<'_>, value: &Value| {
            value.highest() == Level::Constant
                || matches!(node.kind(), "string" | "integer" | "none" | "true" | "false" | "float")
                || self.text(node).starts_with("len(")
                || self.text(node).starts_with("type(")
        };
        if constant(left, first) || constant(right, second) {
            return;
        }
        let name = |node: Node<'_>| match node.kind() {
            "attribute" => self.field_text(node, "attribute"),
            "call" | "subscript" => self.text(node),
            _ => self.text(node),
        };
        let (left_name, right_name) = (name(left), name(right));
        let either = |words: &[&str]| names_any(left_name, words) || names_any(right_name, words);
        let digest = [left, right].iter().any(|side| self.text(*side).contains("digest()"));
        let checks_token = either(TOKENS) && names_any(&self.function, CHECKING) && either(SECRETS);
        let both_tokens = names_any(left_name, SECRETS) && names_any(right_name, SECRETS);
        if either(SIGNATURES) || digest || checks_token || both_tokens {
            let message = "the time of the comparison tells how much of the secret was right";
            self.report("timing-comparison", Some(Severity::Low), Span::from(node.byte_range()), message);
        }
    }

    pub fn check_return(&mut self, node: Node<'_>, value: &Value) {
        if let Some(random) = value.random {
            let makes_secret = names_any(&self.function, SECRETS) || names_any(&self.function, WEAK_SECRETS);
            if makes_secret {
                self.predictable(random);
            }
        }
        self.check_returned_page(node, value);
    }
}
