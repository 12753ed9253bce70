//! What the filter `fenced` has put into a message.

/// The texts between data tags of a message, in order.
pub fn fenced(message: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let mut open: Option<(String, Vec<&str>)> = None;
    for line in message.lines() {
        match &mut open {
            None if line.starts_with("<data-") && line.ends_with('>') => {
                open = Some((line.replacen('<', "</", 1), Vec::new()));
            }
            Some((end, lines)) if line == end => {
                texts.push(lines.join("\n") + "\n");
                open = None;
            }
            Some((_, lines)) => lines.push(line),
            None => {}
        }
    }
    texts
}
