//! Sinks of web applications: pages, redirects, outgoing requests, log lines.

use vul2safe_code::Node;
use vul2safe_code::Span;

use super::calls::Call;
use super::flow::Flow;
use super::value::{HOLE, Level, Risk, Value, names_any};

const ADDRESSES: &[&str] = &[
    "url", "uri", "link", "address", "endpoint", "webhook", "callback", "href", "host", "hostname", "netloc",
    "domain", "origin", "referer", "referrer",
];
/// Elements of HTML.
const ELEMENTS: &str = "\
    a abbr address article aside audio b base big blockquote body br button canvas caption center cite \
    code dd del details dialog div dl dt em embed fieldset figcaption figure font footer form h1 h2 h3 \
    h4 h5 h6 head header hr html i iframe img input ins kbd label legend li link main mark meta nav ol \
    optgroup option p picture pre q s samp script section select small source span strike strong style \
    sub summary sup svg table tbody td template textarea tfoot th thead time title tr tt u ul var \
    video";
const TARGETS: &[&str] = &[
    "next",
    "url",
    "uri",
    "target",
    "redirect",
    "location",
    "destination",
    "dest",
    "return",
    "goto",
    "continue",
    "referer",
    "referrer",
    "to",
    "path",
    "back",
];
/// Words of [`TARGETS`] that say that somebody goes there, for values that no other sign tells from paths.
const GOING: &[&str] = &[
    "next",
    "target",
    "redirect",
    "destination",
    "return",
    "goto",
    "continue",
    "referer",
    "referrer",
    "back",
];
/// Words of logs that are written by hand, line by line.
const LOGS: &[&str] = &["log", "logs", "logfile", "audit", "journal"];
const UNTRUSTED_WORDS: &[&str] = &[
    "user", "username", "name", "login", "message", "comment", "query", "agent", "input", "reason", "action",
    "title", "email", "value", "event", "detail", "details", "text", "account", "actor", "note", "subject",
    "ip", "term",
];

impl Flow<'_> {
    pub fn check_web_call(&mut self, call: &Call<'_>) {
        self.page_call(call);
        self.redirect_call(call);
        self.fetch(call);
        self.log_call(call);
        self.host_call(call);
    }

    fn page_call(&mut self, call: &Call<'_>) {
        let trusts = matches!(
            call.method,
            "mark_safe" | "Markup" | "SafeText" | "SafeString" | "SafeUnicode" | "HTML"
        );
        let responds = matches!(
            call.method,
            "HttpResponse"
                | "make_response"
                | "render_template_string"
                | "HTMLResponse"
                | "HttpResponseBadRequest"
                | "HttpResponseNotFound"
        ) || (call.method == "Response" && !call.dotted.contains("JSON"))
            || (call.method == "write" && call.receiver_text.contains("response"))
            || (call.method == "write" && call.receiver_text.ends_with("wfile"));
        let Some((page, node)) = call.arguments.first().map(|argument| (&argument.0, argument.1)) else {
            return;
        };
        let level = page.level(Risk::Html);
        let unescaped = match (trusts, responds) {
            (true, _) => {
                level >= Level::Parameter
                    || (level >= Level::Unknown
                        && (page.built.is_some() || page.made_by.ends_with(".format")))
            }
            (_, true) => level >= Level::Unknown && is_page(page),
            _ => false,
        };
        if unescaped {
            let span = page.built.unwrap_or_else(|| Span::from(node.byte_range()));
            self.report("xss", None, span, "the value goes into the page unescaped");
        }
    }

    pub fn check_returned_page(&mut self, node: Node<'_>, value: &Value) {
        if is_page(value) && value.level(Risk::Html) >= Level::Parameter {
            let span = value.built.unwrap_or_else(|| Span::from(node.byte_range()));
            self.report("xss", None, span, "the value goes into the page unescaped");
        }
        let redirects = names_any(&self.function, &["redirect", "next", "return", "goto"]);
        let by_function = redirects && !value.is_list && is_free_target(value, true);
        // Beside the page, other elements of a list may have been built.
        let as_it_is = value.built.is_none() || value.is_list;
        if as_it_is && (by_function || is_page_or_default(value)) {
            self.report(
                "open-redirect",
                None,
                Span::from(node.byte_range()),
                "the caller chooses where to go",
            );
        }
        if names_any(&self.function, LOGS) && is_log_line(value) {
            let span = value.built.unwrap_or_else(|| Span::from(node.byte_range()));
            self.report("log-injection", None, span, "a line break in the value makes a line of its own");
        }
    }

    fn redirect_call(&mut self, call: &Call<'_>) {
        let redirects = matches!(
            call.method,
            "redirect"
                | "HttpResponseRedirect"
                | "HttpResponsePermanentRedirect"
                | "RedirectResponse"
                | "HTTPFound"
                | "HTTPSeeOther"
        );
        if !redirects {
            return;
        }
        let Some((target, node)) = call.argument(0, "url").or_else(|| call.argument(0, "location")) else {
            return;
        };
        if is_free_target(target, false) {
            self.report(
                "open-redirect",
                None,
                Span::from(node.byte_range()),
                "the caller chooses where to go",
            );
        }
    }

    /// `headers["Location"] = target`, `{"Location": target}`.
    pub fn check_header(&mut self, name: &str, value: &Value, node: Node<'_>) {
        if name.eq_ignore_ascii_case("location") && is_free_target(value, true) {
            let target = node.child_by_field_name("value").filter(|_| node.kind() == "pair").unwrap_or(node);
            self.report(
                "open-redirect",
                None,
                Span::from(target.byte_range()),
                "the caller chooses where to go",
            );
        }
    }

    fn fetch(&mut self, call: &Call<'_>) {
        let fetches = matches!(
            call.dotted.as_str(),
            "requests.get"
                | "requests.post"
                | "requests.put"
                | "requests.head"
                | "requests.delete"
                | "requests.request"
                | "urllib.request.urlopen"
                | "urllib.request.urlretrieve"
                | "urllib.urlopen"
                | "urllib2.urlopen"
                | "httpx.get"
                | "httpx.post"
                | "urlopen"
        );
        let Some((address, node)) = call.argument(usize::from(call.dotted == "requests.request"), "url")
        else {
            return;
        };
        let free = !address.text.starts_with("http")
            || address.text.trim_start_matches("https://").trim_start_matches("http://").starts_with(HOLE);
        if fetches && free && address.level(Risk::Url) == Level::Remote {
            self.report(
                "server-side-request",
                None,
                Span::from(node.byte_range()),
                "the caller chooses the host",
            );
        }
    }

    /// `"example.com" in url` also holds for `http://evil/?example.com`.
    pub fn check_host_comparison(&mut self, node: Node<'_>) {
        let (Some(left), Some(right)) = (node.named_child(0), node.named_child(1)) else { return };
        if !matches!(self.text_between(left, right), "in" | "not in") || right.kind() == "string" {
            return;
        }
        let in_address = matches!(right.kind(), "identifier" | "attribute" | "call" | "subscript")
            && names_any(
                self.text(right),
                &[
                    "url", "uri", "link", "address", "endpoint", "webhook", "callback", "href", "netloc",
                    "referer", "referrer",
                ],
            )
            && !names_any(
                self.text(right),
                &["allowed", "known", "urls", "links", "hosts", "list", "trusted", "addresses"],
            );
        let is_host = if left.kind() == "string" {
            looks_like_host(self.text(left))
        } else {
            names_any(
                self.text(left),
                &["host", "domain", "hostname", "allowed", "trusted", "site", "origin"],
            )
        };
        if in_address && is_host {
            let message = "the host may stand anywhere in the address";
            self.report("server-side-request", None, Span::from(node.byte_range()), message);
        }
    }

    /// `url.startswith("https://example.com")` also holds for `https://example.com.evil`.
    fn host_call(&mut self, call: &Call<'_>) {
        let Some((pattern, _)) = call.arguments.first().map(|argument| (&argument.0, argument.1)) else {
            return;
        };
        if !names_any(call.receiver_text, ADDRESSES) {
            return;
        }
        let open_end = match call.method {
            "startswith" => pattern
                .text
                .split_once("://")
                .is_some_and(|(_, rest)| !rest.is_empty() && !rest.contains(['/', '?', '#'])),
            "endswith" => {
                let text = pattern.text.as_str();
                let about_host = names_any(call.receiver_text, &["host", "hostname", "netloc", "domain"]);
                let bare_name = text.is_empty()
                    && names_any(
                        pattern.sources.first().map_or("", String::as_str),
                        &["host", "domain", "allowed", "trusted"],
                    );
                about_host && ((looks_like_host(text) && !text.starts_with('.')) || bare_name)
            }
            _ => return,
        };
        if open_end {
            let message = "another host can begin or end the same way";
            self.report("server-side-request", None, call.span(), message);
        }
    }

    fn log_call(&mut self, call: &Call<'_>) {
        let logs = matches!(
            call.method,
            "debug" | "info" | "warning" | "warn" | "error" | "critical" | "exception" | "log"
        ) && (call.dotted.starts_with("logging.")
            || names_any(call.receiver_text, &["log", "logger", "logging", "audit"]));
        // A log written by hand has a line for each entry, and nothing that escapes what goes into it.
        let adds = matches!(call.method, "write" | "writelines" | "append" | "insert" | "appendleft");
        let by_hand = adds && names_any(call.receiver_text, LOGS);
        let writes =
            by_hand || (matches!(call.method, "write" | "writelines") && names_any(&self.function, LOGS));
        if !logs && !writes {
            return;
        }
        for (value, node) in &call.arguments {
            let line_by_hand = by_hand
                && value.built.is_some()
                && !value.is_list
                && value.level(Risk::Log) >= Level::Parameter;
            if is_log_line(value)
                || line_by_hand
                || (logs && is_untrusted_word(value) && value.level(Risk::Log) >= Level::Parameter)
            {
                let span = value.built.unwrap_or_else(|| Span::from(node.byte_range()));
                self.report("log-injection", None, span, "a line break in the value makes a line of its own");
                return;
            }
        }
    }
}

fn is_untrusted_word(value: &Value) -> bool {
    value.sources.iter().any(|source| names_any(source, UNTRUSTED_WORDS))
}

fn is_log_line(value: &Value) -> bool {
    value.built.is_some()
        && !value.is_list
        && (value.level(Risk::Log) == Level::Remote
            || (value.level(Risk::Log) == Level::Parameter && is_untrusted_word(value)))
}

/// Literal text with a tag of HTML, and a value in it. `<module 'x'>` is how Python shows an object, not a tag.
fn is_page(value: &Value) -> bool {
    value.built.is_some()
        && value.text.split('<').skip(1).any(|after| {
            let closed = after.strip_prefix('/');
            let name = closed.unwrap_or(after);
            let end = name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(name.len());
            // `</…>` with the name of the element put in.
            (closed.is_some() && name.starts_with(HOLE))
                || after.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("!doctype"))
                || ELEMENTS.split(' ').any(|element| name[..end].eq_ignore_ascii_case(element))
        })
}

/// A target that is from outside from its first character on.
fn is_free_target(value: &Value, by_name: bool) -> bool {
    let level = value.level(Risk::Url);
    let free_start = value.begins_free();
    let named = || value.sources.iter().any(|source| names_any(source, TARGETS));
    free_start && (level == Level::Remote || (level == Level::Parameter && (!by_name || named())))
}

/// A parameter that says where to go, or else a page of this site: a choice of the next page, whatever the function
/// is called and whoever will act on it.
fn is_page_or_default(value: &Value) -> bool {
    !value.fallback.is_empty()
        && value.begins_free()
        && value.level(Risk::Url) >= Level::Parameter
        && value.sources.iter().any(|source| names_any(source, GOING))
}

fn looks_like_host(text: &str) -> bool {
    let text = text.trim_matches(['"', '\'']);
    let name = text.split_once("://").map_or(text, |(_, rest)| rest);
    name.contains('.')
        && name.len() > 3
        && !name.starts_with("..")
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '/'))
}
